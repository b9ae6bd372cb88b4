"""What Home tells: decisions over plain values, each with a moment at which it turns."""

from __future__ import annotations

import msgspec
import pytest

from aimass.explain.app.noticing import ModelState, Overview, ServiceState, changes, concerns, running
from aimass.proto.errors import IntegrityError
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import Alias, HeldOut, ModelVersion, Part, Spent
from aimass.proto.registry.reader import Resolved
from aimass.proto.views import ConnectedPartner, RunState, RunSummary, ServerView

NOW = 1_000_000.0
HOUR = 3_600.0


def run(
    run_id: str = "1" * 32, state: RunState = RunState.FINISHED, hours_ago: float = 1.0, **more: object
) -> RunSummary:
    ended = NOW - HOUR * hours_ago
    fields = {
        "run_id": run_id, "name": "heart", "task": "heart", "state": state, "reason": "", "round": 3, "rounds": 3,
        "partners": 2, "created_at": ended - 60, "ended_at": ended if state.final else None, "model": "", "owner": "o",
    }  # fmt: skip
    return msgspec.convert(fields | more, RunSummary)


def version(number: int, hours_ago: float, task: str = "heart") -> Resolved:
    made = ModelVersion(
        name="heart", number=number, task=TaskRef(name=task, digest="a" * 64), schema=None,
        parameters=Part(digest="b" * 64, bytes=1), created_at=NOW - HOUR * hours_ago, by="olga", held_out=HeldOut(),
        privacy=Spent(),
    )  # fmt: skip
    return Resolved(made, "c" * 64, "olga")


def champion(number: int, hours_ago: float) -> Alias:
    return Alias(
        model="heart", alias="champion", number=1, version=number, version_digest="c" * 64, reason="auc 0.9",
        at=NOW - HOUR * hours_ago, by="olga",
    )  # fmt: skip


def said(seen: Overview) -> list[str]:
    return [f"{item.of} {item.says}" for item in concerns(seen, NOW)]


def test_nothing_is_said_of_what_is_well() -> None:
    well = ModelState("heart", version(2, 1.0), ((2, version(2, 1.0)), (1, version(1, 5.0))))
    seen = Overview((run(hours_ago=2.0),), (well,), (ServiceState("Registry", "file:///r", "1 model"),))
    assert said(seen) == []


def test_a_run_that_failed_is_told_for_a_week_with_its_reason_and_a_link() -> None:
    failed = run("f" * 32, RunState.FAILED, 3.0, reason="quorum was not met")
    found = concerns(Overview((failed,)), NOW)
    assert [f"{item.of} {item.says}" for item in found] == ["Run heart ffffffff failed 3 h ago: quorum was not met"]
    assert (found[0].page, found[0].address) == ("runs", (("run", "f" * 32),))
    assert said(Overview((run("f" * 32, RunState.FAILED, 24 * 7 + 1.0),))) == []
    assert said(Overview((run("f" * 32, RunState.STOPPED, 3.0),))) == []


@pytest.mark.parametrize(("waited_s", "told"), [(599.0, 0), (601.0, 1)])
def test_a_run_that_waits_for_ten_minutes_is_told(waited_s: float, told: int) -> None:
    assert len(said(Overview((run(state=RunState.WAITING, created_at=NOW - waited_s),)))) == told


def test_services_that_are_away_come_first() -> None:
    seen = Overview(
        (run(state=RunState.FAILED),), (), (ServiceState("Serving", "http://s", "nobody answers", away=True),)
    )
    assert said(seen)[0] == "Serving at http://s: nobody answers"


def test_a_champion_is_stale_once_a_version_follows_it_or_a_run_of_its_task_finished() -> None:
    old = version(1, 10.0)
    followed = ModelState("heart", old, ((2, version(2, 4.0)), (1, old)))
    assert said(Overview((), (followed,))) == [
        "Model heart its champion, version 1, was published 10 h ago; since then 1 version followed."
    ]
    old = version(1, 30.0)
    alone = ModelState("heart", old, ((1, old),))
    young = version(1, 20.0)
    assert said(Overview((run(hours_ago=9.0),), (ModelState("heart", young, ((1, young),)),))) == []
    assert said(Overview((run(hours_ago=31.0),), (alone,))) == []
    assert said(Overview((run(hours_ago=9.0, task="adult"),), (alone,))) == []
    assert said(Overview((run(hours_ago=9.0, state=RunState.STOPPED),), (alone,))) == []
    assert "since then 1 run of heart finished" in said(Overview((run(hours_ago=9.0),), (alone,)))[0]


def test_what_nothing_vouches_for_is_told_and_counts_as_no_newer_version() -> None:
    forged = IntegrityError("the signature is wrong", code="registry.signature")
    found = said(Overview((), (ModelState("heart", version(1, 1.0), ((2, forged), (1, version(1, 1.0)))),)))
    assert found == ["Model heart nothing vouches for version 2. It is not served."]
    assert "not believed" in said(Overview((), (ModelState("heart", forged),)))[0]
    assert "no champion" in said(Overview((), (ModelState("heart", None),)))[0]


def test_operators_hear_of_partners_enrolments_and_disk() -> None:
    server = ServerView(
        name="s", software="1", protocol_min=1, protocol_max=1, started_at=0.0, roster_epoch=1, roster_digest="",
        partners=tuple(
            ConnectedPartner(name=f"p{n}", connected=n == 0, since=None, software="", roster_epoch=1) for n in range(9)
        ),
        runs={}, pending_enrolments=2, free_bytes=1_000_000_000,
    )  # fmt: skip
    found = said(Overview(server=server))
    assert found[0] == "Partners 8 of 9 partners are not connected: p1, p2, p3, p4, p5 and 3 more."
    assert "2 requests" in found[1]
    assert "1 GB" in found[2]
    quiet = msgspec.structs.replace(server, partners=server.partners[:1], pending_enrolments=0, free_bytes=10**11)
    assert said(Overview(server=quiet)) == []


def test_running_is_what_has_not_ended_newest_first() -> None:
    seen = [run("a" * 32, RunState.RUNNING, 5.0), run("b" * 32), run("c" * 32, RunState.PAUSED, 1.0)]
    assert [one.run_id[0] for one in running(seen)] == ["c", "a"]


def test_changes_are_what_happened_since_newest_first() -> None:
    model = ModelState("heart", version(2, 2.0), ((2, version(2, 2.0)), (1, version(1, 50.0))), (champion(2, 1.0),))
    seen = Overview((run(hours_ago=3.0), run("d" * 32, RunState.RUNNING, 0.5), run(hours_ago=40.0)), (model,))
    assert [f"{item.of} {item.says}" for item in changes(seen, NOW - 24 * HOUR)] == [
        "Run heart dddddddd began",
        "Model heart version 2 became champion: auc 0.9",
        "Model heart olga published version 2",
        "Run heart 11111111 finished after 3 of 3 rounds",
    ]
    assert changes(seen, NOW) == ()
