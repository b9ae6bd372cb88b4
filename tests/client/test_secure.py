"""Secure sums through the daemon's shells: exact, whoever is killed when, and nothing that is refused is joined."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.client.journal import read_journal
from aimass.client.session import Phase
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from aimass.proto.commands import main
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import Cohort, SecureSettings
from aimass.proto.step import Reduce, Step
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from tests.support.killing import FullTwice
from tests.support.secure_circle import NAMES, PLAN, POLICY, RUN, Circle, circle, step

ALL_FOUR = msgspec.structs.replace(
    PLAN,
    secure=SecureSettings(min_cohort=4, colluders=0.0, max_weight=1000, metrics=("accuracy", "loss")),
    cohort=Cohort(quorum=4),
)


def records(hub: Circle, name: str) -> list[dict[str, Any]]:
    path = hub.shells[name].folder / "state" / "secagg.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def signed(hub: Circle, name: str) -> list[tuple[int, int]]:
    return [(line["round"], line["attempt"]) for line in records(hub, name) if line["signed"]]


def test_a_step_of_four_partners_is_summed_exactly_and_nothing_plain_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            await hub.summed()
            assert hub.survivors == NAMES
            assert hub.exact()
            assert hub.sums is not None
            mean = hub.sums.total("update", "w") / hub.sums.weight("update")
            np.testing.assert_allclose(mean, hub.mean(), atol=1e-3)
            # Of the metrics one is released and in the plan; one is not released, one is not in the plan.
            assert hub.sums.metrics() == {"loss": Metric(20.0, 100.0)}
            for shell in hub.shells.values():
                ((header, payload),) = shell.uploads
                lanes = shell.lanes_file.read_bytes()
                assert len(payload) == pytest.approx(len(lanes), abs=8)
                assert payload[: len(lanes)] != lanes
                assert header["attempt"] == 1
                plain = shell.update.tobytes()
                folder = shell.lanes_file.parent
                assert all(plain[:64] not in path.read_bytes() for path in folder.iterdir())
                (line,) = read_journal(shell.folder / "journal.jsonl")
                assert line.mechanisms == ("secure aggregation (malicious, 20 bits)",)
                assert (line.metrics, line.figures) == (("loss",), ("auc",))

    asyncio.run(scenario())


def test_the_owner_sees_how_far_a_run_went_in_secure_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> str:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            await hub.summed()
            assert [line["phase"] for line in records(hub, "south")] == ["advertised", "masked", "signed"]
            return hub.payloads["south"]

    sent = asyncio.run(scenario())
    assert main(["client", "show", "last", "--dir", str(tmp_path / "south"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["secure_sums"] == [{"step": 0, "attempt": 1, "went_to": "signed", "input": sent}]
    assert [line["mechanisms"] for line in shown["releases"]] == ["secure aggregation (malicious, 20 bits)"]


def test_a_record_is_on_the_disk_before_what_follows_from_it_is_said(tmp_path: Path) -> None:
    wanted = {"advertise": "advertised", "signature": "signed"}

    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            seen: list[str] = []

            def look(name: str, message: pb.FromPartner) -> None:
                if message.HasField("secagg") and message.secagg.kind in wanted:
                    assert records(hub, name)[-1]["phase"] == wanted[message.secagg.kind]
                    seen.append(message.secagg.kind)

            hub.look = look
            await hub.open()
            hub.form()
            await hub.summed()
            assert sorted(seen) == ["advertise"] * 4 + ["signature"] * 4
            for name, shell in hub.shells.items():
                assert [line["phase"] for line in records(hub, name)] == ["advertised", "masked", "signed"]
                assert records(hub, name)[1]["payload"] == shell.uploads[0][0]["digest"]
                assert shell.run.session is not None
                assert shell.run.session.sent == shell.uploads[0][0]["digest"]

    asyncio.run(scenario())


def test_a_disk_that_is_full_for_a_while_holds_a_sum_up_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, durability=FullTwice()) as hub:
            hub.look = lambda name, message: (
                None if not message.HasField("secagg") or records(hub, name) else pytest.fail("said before it was kept")
            )
            await hub.open()
            hub.form()
            await hub.summed()
            assert hub.exact()

    asyncio.run(scenario())


async def _killed_before(hub: Circle, kind: str) -> None:
    """South's process ends as the first message of this kind comes to it, which is told to the next process."""
    await hub.open()
    killed: list[str] = []

    def down(name: str, message: pb.SecAgg) -> list[pb.SecAgg]:
        if (name, message.kind) == ("south", kind) and not killed:
            killed.append(name)
            return []
        return [message]

    hub.down = down
    hub.form()
    await hub.until(lambda: bool(killed))
    await hub.shells["south"].restart()
    await hub.shells["south"].connect()
    hub.replay("south")


@pytest.mark.parametrize("kind", ["roster", "delivery"])
def test_who_is_killed_before_its_input_says_so_and_is_in_the_next_attempt_with_the_same_lanes(
    tmp_path: Path, kind: str
) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, ALL_FOUR) as hub:
            await _killed_before(hub, kind)
            south = hub.shells["south"]
            before = south.lanes_file.read_bytes()
            await hub.until(lambda: bool(hub.faults) and hub.waiting == set(NAMES) and not hub.queue)
            assert south.aborts() == ["E_RESTARTED"]
            (place,) = [i for i, sent in enumerate(south.sent) if sent.secagg.kind == "abort"]
            assert south.sent[place + 1].HasField("ready")
            assert [fault.code for fault in hub.faults] == ["E_TOO_FEW"]
            hub.form()
            await hub.summed()
            assert hub.survivors == NAMES
            assert hub.exact()
            assert south.lanes_file.read_bytes() == before
            assert signed(hub, "south") == [(0, 1)]

    asyncio.run(scenario())


def test_who_is_killed_while_its_input_goes_up_is_in_the_next_attempt_under_other_masks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, ALL_FOUR) as hub:
            south = hub.shells["south"]
            await hub.open()
            south.uploadable.clear()
            hub.form()
            await hub.until(lambda: len(hub.payloads) == 3 and len(records(hub, "south")) == 2)
            before, held = south.lanes_file.read_bytes(), records(hub, "south")[1]["payload"]
            await south.restart()
            south.uploadable.set()
            await south.connect()
            hub.replay("south")
            await hub.until(lambda: bool(hub.faults) and hub.waiting == set(NAMES) and not hub.queue)
            assert south.aborts() == ["E_RESTARTED"]
            assert south.uploads == []
            hub.form()
            await hub.summed()
            assert hub.exact()
            assert south.lanes_file.read_bytes() == before
            assert hub.payloads["south"] not in ("", held)

    asyncio.run(scenario())


def test_who_is_killed_after_its_input_is_counted_and_keeps_its_local_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await _killed_before(hub, "survivors")
            await hub.summed()
            south = hub.shells["south"]
            await hub.drain()
            assert set(south.aborts()) == {"E_RESTARTED"}
            assert "south" in hub.survivors
            assert hub.exact()
            assert signed(hub, "south") == []
            hub.receipt("south")
            assert (south.folder / "state" / "runs" / RUN / "local-state.safetensors").read_bytes() == b"moments"
            assert not south.lanes_file.exists()

    asyncio.run(scenario())


def test_who_is_killed_after_it_signed_gives_no_share_and_does_not_offer_itself_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await _killed_before(hub, "quorum")
            south = hub.shells["south"]
            offered = len(south.ready)
            await hub.summed()
            await hub.drain()
            assert hub.exact()
            assert set(south.aborts()) == {"E_RESTARTED"}
            assert south.told("unmask") == []
            assert len(south.ready) == offered
            assert signed(hub, "south") == [(0, 0)]

    asyncio.run(scenario())


def test_a_start_that_the_last_process_had_answered_is_not_answered_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            starts = dict(hub.queue)
            await hub.drain()
            south = hub.shells["south"]
            await south.restart()
            await south.connect()
            await south.run.summed(starts["south"])
            assert len(south.told("advertise")) == 1
            assert south.aborts() == ["E_RESTARTED"]

    asyncio.run(scenario())


def test_a_message_that_is_repeated_after_a_cut_link_is_answered_with_the_same_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            south, heard = hub.shells["south"], []

            def down(name: str, message: pb.SecAgg) -> list[pb.SecAgg]:
                if name == "south":
                    heard.append(message)
                return [message]

            hub.down = down
            hub.form()
            await hub.summed()
            once = [message.secagg for message in south.sent if message.HasField("secagg")]
            await south.connect()
            for message in heard:
                await south.run.summed(message)
            await hub.until(lambda: len(south.uploads) == 2)
            told = [message.secagg for message in south.sent if message.HasField("secagg")]
            assert told == once * 2
            assert south.uploads[0] == south.uploads[1]
            for message in heard:  # over the same link a payload that was acknowledged is not sent again
                await south.run.summed(message)
            await asyncio.sleep(0)
            assert len(south.uploads) == 2
            assert [line["phase"] for line in records(hub, "south")] == ["advertised", "masked", "signed"]

    asyncio.run(scenario())


def test_what_a_cut_link_swallowed_is_said_again(tmp_path: Path) -> None:
    """An advertisement, and the last word of an attempt that a partner has ended."""

    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            south = hub.shells["south"]
            south.cut = True
            hub.form()
            await hub.drain()
            south.cut = False
            assert south.told("advertise") == []
            hub.replay("south")
            await hub.until(lambda: bool(south.told("advertise")))
            bad = pb.SecAgg(run_id=RUN, step=0, attempt=1, kind="roster", data=b"junk")
            south.cut = True
            await south.run.summed(bad)
            south.cut = False
            await south.run.summed(bad)
            assert south.aborts() == ["E_ENCODING"]

    asyncio.run(scenario())


def test_an_upload_that_breaks_goes_on_over_the_next_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.shells["south"].breaks = 3
            hub.form()
            await hub.summed()
            assert hub.survivors == NAMES
            assert hub.exact()
            assert len(hub.shells["south"].uploads) == 1

    asyncio.run(scenario())


def _other(name: str) -> Callable[[Circle], dict[str, Any]]:
    return lambda _: {name: bytes(32)}


LIES: dict[str, tuple[Callable[[Circle], dict[str, Any]], str]] = {
    "another model": (_other("model_digest"), "E_MODEL_DIGEST"),
    "another plan": (_other("plan_digest"), "E_PLAN"),
    "another layout": (_other("layout_digest"), "E_PLAN"),
    "noise that the plan has not": (lambda _: {"dp_digest": b"1" * 32}, "E_PLAN"),
    "another run": (lambda _: {"run_id": bytes(16)}, "E_PLAN"),
    "another round": (lambda _: {"round": 9}, "E_PLAN"),
    "another roster": (_other("roster_digest"), "E_ROSTER"),
    "a partner whom the step does not ask": (
        lambda hub: {"ids": tuple(sorted(hub.roster.by_name[name].id for name in (*NAMES[:3], "guest")))},
        "E_ROSTER",
    ),
    "a partner whom the roster does not name": (lambda hub: {"ids": (*hub.context_for(NAMES, 0).ids, 99)}, "E_ROSTER"),
    "a smaller cohort than the policy's": (lambda _: {"min_cohort": 2}, "E_POLICY"),
    "a profile that trusts the server": (lambda _: {"profile": Profile.HBC}, "E_POLICY"),
    "fewer colluders than the plan's, or more": (lambda _: {"gamma_ppm": 100_000}, "E_PLAN"),
    "another share of dropouts than the plan's": (lambda _: {"delta_ppm": 0}, "E_PLAN"),
    "another smallest cohort than the plan's": (lambda _: {"min_cohort": 4}, "E_PLAN"),
    "wider lanes": (lambda _: {"bits": 24}, "E_PLAN"),
    "lanes that overflow": (lambda _: {"bits": 20}, "E_OVERFLOW"),
    "another scale": (lambda _: {"scale": 1.0}, "E_PLAN"),
    "the attempt before the first": (lambda _: {"attempt": 0xFFFF}, "E_CTX_MISMATCH"),
    "another attempt than the message says": (lambda _: {"attempt": 1}, "E_CTX_MISMATCH"),
}  # fmt: skip


def test_a_start_that_is_not_what_plan_step_and_policy_say_is_refused_by_name_and_leaves_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            for lie, (changes, code) in LIES.items():
                before = {name: (len(shell.ready), len(shell.aborts())) for name, shell in hub.shells.items()}
                hub.attempt = -1
                hub.form(NAMES, **changes(hub))
                await hub.drain()
                assert hub.context is not None
                for name, shell in hub.shells.items():
                    if hub.roster.by_name[name].id not in hub.context.ids:
                        continue
                    ready, aborts = before[name]
                    assert shell.aborts()[aborts:] == [code], lie
                    assert Abort.decode(shell.told("abort")[-1].data).about == hub.context.ctx
                    assert (shell.told("advertise"), records(hub, name), len(shell.ready)) == ([], [], ready), lie
            hub.attempt = -1
            hub.form(NAMES)
            await hub.summed()
            assert hub.exact()

    asyncio.run(scenario())
    logged = {getattr(record.args[-1], "code", "") for record in caplog.records if isinstance(record.args, tuple)}
    assert {f"secagg.{code}" for _, code in LIES.values()} <= logged


def test_a_start_that_the_rosters_server_did_not_sign_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.identity = Ed25519PrivateKey.generate()
            hub.form()
            await hub.drain()
            assert {code for shell in hub.shells.values() for code in shell.aborts()} == {"E_SERVER_SIG"}

    asyncio.run(scenario())


def test_colluders_and_cohorts_are_demanded_at_each_attempt_and_not_only_when_a_run_is_joined(tmp_path: Path) -> None:
    """A person makes the policy stricter in the middle of a run."""

    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            for name, rule in (("north", "colluders = 0.1"), ("south", "min_cohort = 4")):
                (hub.shells[name].folder / "policy.toml").write_text(f"{POLICY}[secure]\n{rule}\n")
            (hub.shells["east"].folder / "policy.toml").write_text("junk")
            hub.form()
            await hub.drain()
            refused = {name: shell.aborts() for name, shell in hub.shells.items() if shell.aborts()}
            assert refused == {name: ["E_POLICY"] for name in ("east", "north", "south")}

    asyncio.run(scenario())


async def _all_signed(hub: Circle, opened: Step) -> list[tuple[str, pb.SecAgg]]:
    """Everybody signs in the step's first attempt; what would ask for the shares is held back."""
    held: list[tuple[str, pb.SecAgg]] = []

    def down(name: str, message: pb.SecAgg) -> list[pb.SecAgg]:
        if message.kind != "quorum":
            return [message]
        held.append((name, message))
        return []

    hub.down = down
    await hub.open(opened)
    hub.attempt = -1
    hub.form()
    await hub.until(lambda: len(held) == len(NAMES))
    hub.down = lambda _, message: [message]
    return held


def test_a_partner_that_signed_is_in_no_other_attempt_of_the_round_and_goes_on_in_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            held = await _all_signed(hub, step(0))
            first = hub.state, hub.context, hub.total
            hub.form(NAMES)
            await hub.drain()
            assert [shell.aborts() for shell in hub.shells.values()] == [["E_ROUND_CLOSED"]] * 4
            hub.state, hub.context, hub.total = first
            assert not hub.queue
            hub.attempt, hub.queue = 0, held
            await hub.summed()
            assert hub.exact()
            assert signed(hub, "south") == [(0, 0)]

    asyncio.run(scenario())


async def _burn(hub: Circle, opened: Step) -> None:
    """Everybody signs, and there is no sum: the round is burnt."""
    await _all_signed(hub, opened)
    hub.waiting = set()
    for shell in hub.shells.values():
        shell.run.closed(pb.CloseStep(run_id=RUN, step=opened.index, fault=pb.Fault(code="secure.burnt", what="burnt")))


def test_a_burnt_round_has_a_way_out_once_and_not_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await _burn(hub, step(0))
            await _burn(hub, step(1))
            assert signed(hub, "south") == [(0, 0), (1, 0)]
            await hub.open(step(2))
            hub.attempt = -1
            hub.form()
            await hub.drain()
            assert [shell.aborts() for shell in hub.shells.values()] == [["E_REPEAT_MODEL"]] * 4
            assert signed(hub, "south") == [(0, 0), (1, 0)]

    asyncio.run(scenario())


def test_a_data_set_signs_so_often_on_a_model_as_the_policy_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path, policy=f"{POLICY}[secure]\ncontributions_per_data = 1\n") as hub:
            await _burn(hub, step(0))
            await hub.open(step(1))
            hub.attempt = -1
            hub.form()
            await hub.drain()
            assert "E_REPEAT_MODEL" in hub.shells["east"].aborts()

    asyncio.run(scenario())


def test_a_newer_attempt_ends_what_still_goes_up_for_the_one_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            south = hub.shells["south"]
            south.uploadable.clear()
            hub.form()
            await hub.until(lambda: len(hub.payloads) == 3 and len(records(hub, "south")) == 2)
            hub.form(NAMES)
            await hub.drain()
            south.uploadable.set()
            await hub.summed()
            assert [header["attempt"] for header, _ in south.uploads] == [2]
            assert hub.exact()

    asyncio.run(scenario())


def test_the_end_of_a_run_leaves_the_records_and_a_daemon_that_starts_anew_holds_to_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await _burn(hub, step(0))
            south = hub.shells["south"]
            south.run.ended(pb.EndRun(run_id=RUN, state="finished"))
            await south.run.settle()
            before = records(hub, "south")
            await south.restart()
            assert records(hub, "south") == before
            assert len(before) == 3

    asyncio.run(scenario())


def test_who_withdraws_in_the_middle_says_nothing_more_of_the_sum(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            await hub.reach(ServerPhase.SHARE)
            south = hub.shells["south"]
            south.run.withdraw()
            said = len([message for message in south.sent if message.HasField("secagg")])
            await hub.until(lambda: not hub.queue)
            assert len([message for message in south.sent if message.HasField("secagg")]) == said
            assert south.run.session is not None
            assert south.run.session.phase is Phase.WITHDRAWN
            hub.time_up()
            await hub.summed()
            assert hub.survivors == tuple(name for name in NAMES if name != "south")

    asyncio.run(scenario())


def test_a_step_that_is_closed_while_its_input_goes_up_sends_no_more_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            south = hub.shells["south"]
            south.uploadable.clear()
            hub.form()
            await hub.until(lambda: len(hub.payloads) == 3 and len(records(hub, "south")) == 2)
            south.run.closed(pb.CloseStep(run_id=RUN, step=0, fault=pb.Fault(code="step.late", what="late")))
            await asyncio.sleep(0)
            south.uploadable.set()
            hub.time_up()
            await hub.summed()
            assert south.uploads == []
            assert "south" not in hub.survivors
            assert not south.lanes_file.exists()

    asyncio.run(scenario())


def test_a_start_for_a_step_that_has_nothing_to_sum_here_is_answered_so_that_nobody_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            south = hub.shells["south"]
            south.run.closed(pb.CloseStep(run_id=RUN, step=0, fault=pb.Fault(code="step.late", what="late")))
            hub.form()
            await hub.summed()
            assert south.aborts() == ["E_STATE"]
            assert "south" not in hub.survivors

    asyncio.run(scenario())


def test_an_abort_of_the_server_makes_a_partner_ready_for_the_next_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            await hub.reach(ServerPhase.INPUT)
            assert hub.state is not None
            assert hub.state.attempt is not None
            for name in NAMES:
                abort = Abort(hub.state.attempt.sid, Abort.decode(bytes(32) + b"\x09E_TIMEOUT" + bytes(4)).code)
                await hub.shells[name].run.summed(
                    pb.SecAgg(run_id=RUN, step=0, attempt=1, kind="abort", data=abort.data)
                )
            hub.queue = []
            assert hub.waiting == set(NAMES)
            hub.form()
            await hub.summed()
            assert hub.exact()

    asyncio.run(scenario())


@pytest.mark.parametrize("change", [{"reduce": Reduce.COLLECT}, {"addressed": {"north": ("1" * 64,)}}])
def test_a_secure_run_has_no_step_that_collects_or_gives_one_partner_a_model_of_its_own(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            north = hub.shells["north"]
            await north.connect()
            odd = msgspec.structs.replace(step(), **change)
            with pytest.raises(Refused) as caught:
                north.run.opened(pb.OpenStep(run_id=RUN, step=canonical_json(odd), deadline_ms=0))
            assert caught.value.code == "session.not_summed"

    asyncio.run(scenario())


def test_a_repeated_round_has_room_beside_the_plans_own_rounds_and_new_work_has_none(tmp_path: Path) -> None:
    """What was agreed to are three rounds: a server cannot turn the room for burnt ones into rounds of its own."""

    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            north = hub.shells["north"]
            await north.connect()

            def ask(index: int, round_: int) -> None:
                asked = msgspec.structs.replace(step(index), round=round_)
                north.run.opened(pb.OpenStep(run_id=RUN, step=canonical_json(asked), deadline_ms=0))

            for index, round_ in enumerate((1, 1, 2, 3, 3)):
                ask(index, round_)
            assert north.run.session is not None
            assert (north.run.session.worked, north.run.session.repeated) == ({"train:": 3}, {"train:": 2})
            with pytest.raises(Refused) as caught:
                ask(5, 4)
            assert caught.value.code == "session.not_planned"

    asyncio.run(scenario())


def test_lanes_without_masks_do_not_leave_whatever_the_session_on_the_disk_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            north = hub.shells["north"].run
            assert north.session is not None
            north.session = msgspec.structs.replace(north.session, secure=False)
            opened = pb.OpenStep(run_id=RUN, step=canonical_json(hub.step), deadline_ms=0)
            north.opened(opened)  # asked again, it brings what it has
            await north.settle()
            assert north.session.failed.startswith("session.unmasked")

    asyncio.run(scenario())


def test_a_kind_that_no_secure_sum_has_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            with pytest.raises(BadInput):
                await hub.shells["north"].run.summed(pb.SecAgg(run_id=RUN, step=0, attempt=1, kind="gift", data=b""))

    asyncio.run(scenario())


def test_a_server_that_follows_the_protocol_is_enough_where_plan_and_policy_say_so(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(PLAN, secure=SecureSettings(profile="hbc", colluders=0.0, metrics=("loss",)))

    async def scenario() -> None:
        async with circle(tmp_path, plan, f'{POLICY}[secure]\nprofile = "hbc"\n') as hub:
            await hub.open()
            hub.form()
            await hub.summed()
            assert hub.exact()
            assert signed(hub, "south") == [(0, 0)]

    asyncio.run(scenario())
