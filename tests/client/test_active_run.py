"""One run at a partner against a server that lies: what it can ask for, and what a bad message can break."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from aimass.client.active_run import ActiveRun
from aimass.client.child import ChildFailed
from aimass.client.daemon import Daemon
from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.release import Released
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase, Session, Work
from aimass.client.workbench import Product, Workbench
from aimass.client.worker_protocol import APP_DEVICE, Opened
from aimass.privacy.keys import load_keys
from aimass.privacy.transcript import Chain, Receipt, check_head, entry_bytes, sign_head, sign_receipt
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, Refused, WrongState
from aimass.proto.plan import (
    FLOWER,
    Cohort,
    Needs,
    Plan,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
    encode_plan,
    plan_digest,
    planned_rounds,
    planned_steps,
)
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.task import locate
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, convert, decode_json
from tests.support.clock import ManualClock
from tests.support.older import older_plan
from tests.support.partners import enrolled, opened

T = TypeVar("T")
RUN = "ab" * 16
PLAN = Plan(
    name="test", task=TaskRef(name="heart", digest=locate("heart").digest), data_schema="heart/1", seed=1,
    model="0" * 64, stages=(Stage(driver="statistics"), Stage(driver="averaging", options={"rounds": 2})),
    train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1), cohort=Cohort(quorum=1),
)  # fmt: skip
POLICY = f"""plain_sums = true
smallest_cohort = 1
confinement = []
schemas = {{ "heart/1" = "heart" }}
[[tasks]]
name = "heart"
digest = "{PLAN.task.digest}"
"""


@dataclasses.dataclass
class _Uplink:
    """Remembers what would leave; its transfers never begin."""

    sent: list[pb.FromPartner] = dataclasses.field(default_factory=list)

    def send(self, message: pb.FromPartner) -> None:
        self.sent.append(message)

    async def transfer(self, use: Callable[[Any], Awaitable[T]]) -> T:
        await asyncio.Event().wait()
        raise AssertionError


class _Worker:
    opened = Opened(device="none", confinement=("process",), training_rows=1, held_out_rows=1)
    alive = True

    async def work(self, *_: object) -> Any:
        raise AssertionError

    async def stop(self) -> None:
        pass


async def _worker(*_: object) -> _Worker:
    return _Worker()


@pytest.fixture
def partner(tmp_path: Path) -> Partner:
    """An enrolled partner whose policy admits the plan."""
    enrolled(tmp_path, ["north"], POLICY)
    return opened(tmp_path / "north")


def _run(partner: Partner, uplink: _Uplink) -> ActiveRun:
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    return ActiveRun(RUN, partner, folder, uplink, SystemClock(), _worker)


def _invite(partner: Partner, plan: bytes) -> pb.Invite:
    return pb.Invite(run_id=RUN, plan=plan, roster_digest=partner.keeper.roster.digest)


def _open(
    index: int,
    kind: StepKind,
    purpose: str = "",
    participants: tuple[str, ...] = ("north",),
    reduce: Reduce = Reduce.SUM,
) -> pb.OpenStep:
    step = Step(
        index=index, kind=kind, purpose=purpose, round=index, participants=participants, inputs=("0" * 64,),
        quorum=1, deadline_s=9.0, reduce=reduce,
    )  # fmt: skip
    return pb.OpenStep(run_id=RUN, step=canonical_json(step), deadline_ms=0)


def test_a_server_cannot_ask_too_few_nor_for_updates_apart_from_a_sum(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        with pytest.raises(Refused) as caught:
            run.opened(_open(0, StepKind.TRAIN, reduce=Reduce.COLLECT))
        assert caught.value.code == "session.not_summed"
        policy = partner.folder / "policy.toml"
        policy.write_text(policy.read_text().replace("smallest_cohort = 1", "smallest_cohort = 2"))
        with pytest.raises(Refused) as caught:
            run.opened(_open(0, StepKind.TRAIN))
        assert caught.value.code == "policy.quorum"
        assert run.session is not None
        assert run.session.step is None
        await run.stop()

    asyncio.run(scenario())


def test_a_server_gets_no_more_steps_than_the_plan_has_room_for(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        for index, kind in enumerate((StepKind.TRAIN, StepKind.EVALUATE, StepKind.TRAIN, StepKind.EVALUATE)):
            run.opened(_open(index, kind))
        run.opened(_open(4, StepKind.ANALYSE, "statistics"))
        with pytest.raises(Refused) as caught:
            run.opened(_open(5, StepKind.TRAIN))
        assert caught.value.code == "session.not_planned"
        assert run.session is not None
        assert run.session.phase is Phase.LEFT
        assert uplink.sent[-1].declined.fault.code == "session.not_planned"
        await run.stop()

    asyncio.run(scenario())


def test_a_run_that_was_joined_under_an_older_release_goes_on_after_an_upgrade(partner: Partner) -> None:
    plan = older_plan(1, "0" * 64, PLAN.task.digest)
    assert encode_plan(convert(Plan, json.loads(plan), "the plan")) != plan, "this release writes it otherwise"
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    folder.save_plan(plan)
    folder.save(
        Session(
            run_id=RUN, plan_digest=plan_digest(plan), roster_digest=partner.keeper.roster.digest, phase=Phase.JOINED
        )
    )

    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, plan))
        assert run.session is not None
        assert (run.session.phase, run.session.reason) == (Phase.JOINED, "")
        assert uplink.sent[-1].joined.plan_digest == plan_digest(plan)
        run.opened(_open(0, StepKind.TRAIN))
        assert run.session.step is not None
        assert folder.plan() == plan
        await run.stop()

    asyncio.run(scenario())


def test_a_run_pins_the_roster_that_was_compared_when_it_was_joined(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(pb.Invite(run_id=RUN, plan=encode_plan(PLAN), roster_digest="0" * 64))
        assert run.session is not None
        assert (run.session.phase, run.session.roster_digest) == (Phase.PENDING, "0" * 64)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        pinned = partner.keeper.roster.digest
        assert (run.session.phase, run.session.roster_digest) == (Phase.JOINED, pinned)
        await run.invited(pb.Invite(run_id=RUN, plan=encode_plan(PLAN), roster_digest="1" * 64))
        assert (run.session.phase, run.session.roster_digest) == (Phase.JOINED, pinned)
        await run.stop()

    asyncio.run(scenario())


def test_a_run_of_plain_sums_has_no_secure_ones(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        with pytest.raises(WrongState):
            await run.summed(pb.SecAgg(run_id=RUN, step=0, attempt=1, kind="start", data=b""))
        await run.stop()

    asyncio.run(scenario())


@dataclasses.dataclass
class _Asked(_Uplink):
    """Says when a transfer is wanted."""

    wanted: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def transfer(self, use: Callable[[Any], Awaitable[T]]) -> T:
        self.wanted.set()
        return await super().transfer(use)


class _Clock(ManualClock):
    """Says when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waited_for.set()
        await super().sleep(seconds)


def test_a_partner_whose_disk_is_nearly_full_begins_no_step_says_so_and_goes_on_when_there_is_room(
    partner: Partner, caplog: pytest.LogCaptureFixture
) -> None:
    def floor(bytes_free: int) -> None:
        limits = msgspec.structs.replace(partner.settings.limits, min_free_bytes=bytes_free)
        partner.settings = msgspec.structs.replace(partner.settings, limits=limits)

    async def scenario() -> None:
        clock, uplink = _Clock(), _Asked()
        folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
        run = ActiveRun(RUN, partner, folder, uplink, clock, _worker)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        floor(1 << 60)
        run.opened(_open(0, StepKind.TRAIN))
        await asyncio.wait_for(clock.waited_for.wait(), 30)
        assert not uplink.wanted.is_set()
        floor(0)
        clock.advance(1.0)
        await asyncio.wait_for(uplink.wanted.wait(), 30)
        await run.stop()

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    assert "nearly full" in caplog.text


def test_an_analysis_that_is_not_in_the_plan_is_not_begun_and_a_repeated_step_counts_once(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        for _ in range(5):
            run.opened(_open(0, StepKind.ANALYSE, "statistics"))
        with pytest.raises(Refused):
            run.opened(_open(1, StepKind.QUERY, "rows"))
        await run.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("purpose", ["statistics", "counts"])
def test_an_analysis_of_the_plan_that_is_asked_for_as_a_query_is_not_begun(partner: Partner, purpose: str) -> None:
    plan = msgspec.structs.replace(PLAN, stages=(Stage(driver=purpose), PLAN.stages[1]))

    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(plan)))
        with pytest.raises(Refused) as caught:
            run.opened(_open(0, StepKind.QUERY, purpose))
        assert caught.value.code == "session.not_planned"
        assert run.session is not None
        assert (run.session.phase, run.session.step) == (Phase.LEFT, None)
        await run.stop()

    asyncio.run(scenario())


def test_a_partner_whose_records_of_secure_sums_were_lost_leaves_a_run_in_which_it_sent_something(
    partner: Partner,
) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert run.session is not None
        assert run.session.phase is Phase.JOINED
        run.session = msgspec.structs.replace(run.session, secure=True, sent="5" * 64)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert run.session.phase is Phase.LEFT
        assert next(m.declined.fault.code for m in uplink.sent if m.HasField("declined")) == "secure.records_lost"
        await run.stop()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_plan_that_cannot_be_read_is_declined_and_does_not_stop_the_next_start(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, b'{"format":2}'))
        assert uplink.sent[-1].declined.fault.code == "value.invalid"
        again = _run(partner, uplink)
        assert again.session is not None
        assert again.session.phase is Phase.DECLINED

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("needs", "code"),
    [
        (Needs(memory_bytes=1 << 46), "needs.memory"),
        (Needs(disk_bytes=1 << 46), "needs.disk"),
        (Needs(gpu_bytes=1 << 46), "needs.gpu"),
    ],
)
def test_a_plan_that_needs_more_than_this_machine_has_is_declined_with_what_and_how_much(
    partner: Partner, monkeypatch: pytest.MonkeyPatch, needs: Needs, code: str
) -> None:
    monkeypatch.setattr(_Worker, "opened", msgspec.structs.replace(_Worker.opened, gpu_bytes=8 << 30))

    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(msgspec.structs.replace(PLAN, needs=needs))))
        fault = uplink.sent[-1].declined.fault
        assert (fault.code, "70368.7 GB" in fault.limit) == (code, True)
        assert run.session is not None
        assert run.session.phase is Phase.DECLINED

    asyncio.run(scenario())


def test_a_run_that_was_joined_is_not_left_because_less_is_free_than_at_first(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        invite = _invite(partner, encode_plan(msgspec.structs.replace(PLAN, needs=Needs(disk_bytes=1))))
        await run.invited(invite)
        limits = msgspec.structs.replace(partner.settings.limits, min_free_bytes=1 << 60)
        partner.settings = msgspec.structs.replace(partner.settings, limits=limits)
        await run.invited(invite)
        assert [message.HasField("joined") for message in uplink.sent] == [True, True]

    asyncio.run(scenario())


def test_what_waits_for_approval_says_what_approves_it(partner: Partner) -> None:
    async def scenario() -> None:
        (partner.folder / "policy.toml").write_text(POLICY.partition("[[tasks]]")[0])
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert run.session is not None
        assert run.session.phase is Phase.PENDING
        assert "aimass client approve heart" in run.session.reason
        assert "client pending" not in run.session.reason

    asyncio.run(scenario())


def test_who_is_invited_again_to_a_run_that_has_ended_shows_what_the_server_signed(partner: Partner) -> None:
    """Only a server that was restored from an older backup does that."""

    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        keys = partner.folder.parent / "hub" / "keys"
        server = load_keys(keys).identity
        entry = entry_bytes(RUN, Chain(), b"created")
        chain = Chain().extended(entry)
        run.history(pb.History(run_id=RUN, first=0, entries=[entry], signature=sign_head(server, RUN, chain)))
        assert run.mark is not None
        run.ended(pb.EndRun(run_id=RUN, state="finished"))
        again = _run(partner, uplink)
        await again.invited(_invite(partner, encode_plan(PLAN)))
        declined = uplink.sent[-1].declined
        assert declined.fault.code == "session.ended"
        assert (declined.mark.entries, declined.mark.head) == (1, chain.head)
        check_head(RUN, chain, declined.mark.signature, partner.keeper.roster.server.identity)
        await run.stop()
        await again.stop()

    asyncio.run(scenario())


def test_an_approval_that_is_no_digest_is_refused_and_leaves_the_policy_readable(partner: Partner) -> None:
    from aimass.client.policy import AdmittedTask

    with pytest.raises(BadInput):
        partner.approve_task(convert(AdmittedTask, {"name": "heart", "digest": "junk"}, "the approval"))
    assert partner.policy.plain_sums


@pytest.mark.parametrize("rounds", ["many", 1.5, True, -1])
def test_a_number_of_rounds_that_is_none_is_taken_for_endless(rounds: object) -> None:
    stage = Stage(driver="averaging", options={"rounds": rounds})  # type: ignore[dict-item]
    assert planned_rounds(msgspec.structs.replace(PLAN, stages=(stage,))) == float("inf")


def test_the_rounds_of_all_stages_count_together() -> None:
    twice = msgspec.structs.replace(PLAN, stages=(*PLAN.stages, PLAN.stages[1], PLAN.stages[0]))
    assert planned_rounds(twice) == 4
    assert planned_steps(twice, StepKind.ANALYSE, "statistics") == 2
    assert planned_steps(twice, StepKind.ANALYSE, "other") == 0


@pytest.mark.parametrize(("rounds", "every", "wanted"), [(4, 1, 4), (5, 2, 3), (4, 2, 2), (3, 7, 1), (4, 0, 0)])
def test_evaluations_have_as_much_room_as_the_plan_says(rounds: int, every: int, wanted: int) -> None:
    stage = Stage(driver="averaging", options={"rounds": rounds})
    plan = msgspec.structs.replace(PLAN, stages=(stage,), evaluate=msgspec.structs.replace(PLAN.evaluate, every=every))
    assert planned_steps(plan, StepKind.EVALUATE, "") == wanted
    endless = msgspec.structs.replace(plan, stages=(Stage(driver="averaging", options={"rounds": "many"}),))
    assert planned_steps(endless, StepKind.EVALUATE, "") == (float("inf") if every else 0)


def test_a_partner_that_withdraws_says_so_again_to_a_server_that_asks_again(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.opened(_open(0, StepKind.TRAIN))
        run.withdraw()
        assert uplink.sent[-1].declined.fault.code == "partner.withdrew"
        with pytest.raises(WrongState):
            run.withdraw()
        await run.stop()
        again = _run(partner, uplink)
        await again.invited(_invite(partner, encode_plan(PLAN)))
        again.opened(_open(1, StepKind.TRAIN))
        assert uplink.sent[-1].declined.fault.code == "partner.withdrew"
        assert not again.takes_part
        await again.stop()

    asyncio.run(scenario())


def test_a_partner_that_has_withdrawn_declines_what_comes_until_it_returns(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        partner.withdraw()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert uplink.sent[-1].declined.fault.code == "partner.withdrawn"
        partner.come_back()
        partner.check_member()
        await run.stop()

    asyncio.run(scenario())


def _open_step(run: ActiveRun) -> int | None:
    return run.session.step.index if run.session and run.session.step else None


def test_work_that_is_late_and_carried_goes_on(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.opened(_open(0, StepKind.TRAIN))
        run.closed(pb.CloseStep(run_id=RUN, step=0, fault=pb.Fault(code="step.carried", what="late")))
        assert _open_step(run) == 0
        run.closed(pb.CloseStep(run_id=RUN, step=0, fault=pb.Fault(code="step.late", what="late")))
        assert _open_step(run) is None
        await run.stop()

    asyncio.run(scenario())


def test_the_owner_sees_that_the_server_asks_no_more_and_that_it_asks_again(partner: Partner) -> None:
    run = _run(partner, _Uplink())
    run.standing(pb.Standing(run_id=RUN, fault=pb.Fault(code="run.excluded", what="nothing in 3 steps in a row")))
    assert run.excluded == "run.excluded: nothing in 3 steps in a row"
    run.standing(pb.Standing(run_id=RUN))
    assert run.excluded == ""


@pytest.mark.parametrize(("outcome", "sent"), [("counted", 1), ("refused", 0)])
def test_work_whose_receipt_overtakes_its_acknowledgement_counts_as_sent(
    partner: Partner, tmp_path: Path, outcome: str, sent: int
) -> None:
    message = _open(0, StepKind.TRAIN)
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    digest = folder.save_contribution(0, [b"released"], synced=True)
    folder.save_plan(encode_plan(PLAN))
    folder.save(
        Session(
            run_id=RUN, plan_digest=plan_digest(encode_plan(PLAN)), roster_digest=partner.keeper.roster.digest,
            phase=Phase.JOINED, heads=("cd" * 32,), step=decode_json(Step, message.step, "the step"), work=Work.READY,
            digest=digest,
        )
    )  # fmt: skip
    receipt = Receipt(
        run_id=RUN, step=0, partner="north", contribution=digest, outcome=outcome, reason="", entries=1,  # type: ignore[arg-type]
        head="cd" * 32,
    )  # fmt: skip
    body, signature = sign_receipt(load_keys(tmp_path / "hub" / "keys").identity, receipt)

    async def scenario() -> None:
        uplink, meters = _Asked(), DaemonMeters()
        run = ActiveRun(RUN, partner, folder, uplink, SystemClock(), _worker, meters)
        run.opened(message)
        await uplink.wanted.wait()
        run.receipt(pb.Receipt(body=body, signature=signature))
        await run.settle()
        assert meters.steps.read().get(("train", "sent"), 0) == sent
        assert meters.bytes_moved.read().get(("up",), 0) == sent * len(b"released")
        timed, _ = meters.part_seconds.read().get(("sent",), ((), 0.0))
        assert sum(timed) == sent
        await run.stop()

    asyncio.run(scenario())


class _Gated:
    """Starts children when it is told to, and remembers which live."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.started = 0
        self.alive = 0

    async def __call__(self, *_: object) -> Any:
        self.asked.set()
        await self.go.wait()
        gate = self
        gate.started, gate.alive = gate.started + 1, gate.alive + 1

        class Living(_Worker):
            async def stop(self) -> None:
                gate.alive -= 1

        return Living()


def _gated_run(partner: Partner, uplink: _Uplink) -> tuple[ActiveRun, _Gated]:
    gate = _Gated()
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    return ActiveRun(RUN, partner, folder, uplink, SystemClock(), gate), gate


def test_who_leaves_the_federation_while_an_invitation_is_considered_does_not_join(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run, gate = _gated_run(partner, uplink)
        invited = asyncio.create_task(run.invited(_invite(partner, encode_plan(PLAN))))
        await gate.asked.wait()
        partner.withdraw()
        gate.go.set()
        await invited
        assert run.session is not None
        assert run.session.phase is Phase.DECLINED
        assert [message.WhichOneof("body") for message in uplink.sent] == ["declined"]
        await run.settle()
        assert (gate.started, gate.alive) == (1, 0)
        await run.stop()

    asyncio.run(scenario())


def test_a_run_that_was_left_while_its_child_started_has_none(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        first = _run(partner, uplink)
        await first.invited(_invite(partner, encode_plan(PLAN)))
        await first.stop()
        run, gate = _gated_run(partner, uplink)
        invited = asyncio.create_task(run.invited(_invite(partner, encode_plan(PLAN))))
        await gate.asked.wait()
        run.withdraw()
        gate.go.set()
        await asyncio.gather(invited, return_exceptions=True)
        await run.settle()
        assert (gate.started, gate.alive) == (1, 0)
        assert uplink.sent[-1].declined.fault.code == "partner.withdrew"
        await run.stop()

    asyncio.run(scenario())


def _files(partner: Partner) -> set[str]:
    return {path.name for path in (partner.folder / "state" / "runs" / RUN).iterdir()}


def test_a_contribution_that_is_being_saved_when_a_person_withdraws_is_deleted(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that writes it cannot be stopped; what it has written goes when it is done."""

    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        saving, go = threading.Event(), threading.Event()
        save = Workbench.save

        def slowly(bench: Workbench, step: Step, product: Product) -> str:
            saving.set()
            go.wait(10)
            return save(bench, step, product)

        async def computed(*_: object, **__: object) -> Product:
            return Product(Released([b"numbers"], 1, (), (), ("plain sum",)), b"moments")

        monkeypatch.setattr(Workbench, "save", slowly)
        monkeypatch.setattr(Workbench, "compute", computed)
        run.opened(_open(0, StepKind.TRAIN))
        assert await asyncio.to_thread(saving.wait, 10)
        run.withdraw()
        go.set()
        await run.settle()
        assert _files(partner) == {"session.json", "plan.json"}
        await run.stop()

    asyncio.run(scenario())


def test_what_a_crash_left_of_a_run_that_was_left_goes_at_the_next_start(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.opened(_open(0, StepKind.TRAIN))
        run.withdraw()
        await run.stop()
        for name in ("step-0.safetensors", "step-0.local-state", "local-state.safetensors"):
            (partner.folder / "state" / "runs" / RUN / name).write_bytes(b"x")
        again = _run(partner, _Uplink())
        assert _files(partner) == {"session.json", "plan.json"}
        await again.stop()

    asyncio.run(scenario())


def test_a_policy_that_allows_the_plan_no_more_ends_the_work_at_hand(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.opened(_open(0, StepKind.TRAIN))
        (partner.folder / "policy.toml").write_text(POLICY.replace("plain_sums = true", "plain_sums = false"))
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert uplink.sent[-1].declined.fault.code == "policy.plain_sums"
        assert _open_step(run) is None
        await run.settle()
        await run.stop()

    asyncio.run(scenario())


def test_a_standing_is_forgotten_at_the_next_connection_which_says_it_again_where_it_holds(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.standing(pb.Standing(run_id=RUN, fault=pb.Fault(code="run.excluded", what="nothing\x1b[2J in 3 steps")))
        assert run.excluded.isprintable()
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert run.excluded == ""
        await run.stop()

    asyncio.run(scenario())


def test_a_daemon_that_was_killed_while_it_left_all_runs_leaves_the_rest_when_it_starts(partner: Partner) -> None:
    async def scenario() -> None:
        run = _run(partner, _Uplink())
        await run.invited(_invite(partner, encode_plan(PLAN)))
        run.opened(_open(0, StepKind.TRAIN))
        await run.stop()
        partner.withdraw()
        stop = asyncio.Event()
        stop.set()
        await Daemon(partner.folder, start=_worker).serve(stop, lambda: None)
        again = _run(partner, _Uplink())
        assert again.session is not None
        assert again.session.phase is Phase.WITHDRAWN

    asyncio.run(scenario())


APP_PLAN = msgspec.structs.replace(
    PLAN, task=msgspec.structs.replace(PLAN.task, kind="app"), stages=(Stage(driver=FLOWER, options={"rounds": 5}),)
)


def test_the_server_hears_no_word_of_an_app_that_fails_beside_secret_sums(
    partner: Partner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(*_: object, **__: object) -> Product:
        raise ChildFailed("the training child failed at Miller/diabetes.py:47", code="child.Huntington")

    async def scenario() -> None:
        for secure, heard in ((SecureSettings(min_cohort=3), "child.app_failed"), (None, "child.Huntington")):
            uplink = _Uplink()
            run = _run(partner, uplink)
            await run.invited(_invite(partner, encode_plan(PLAN)))
            plan = msgspec.structs.replace(APP_PLAN, secure=secure, cohort=Cohort(quorum=3))
            monkeypatch.setattr(run, "_plan", plan)
            run.opened(_open(0 if secure else 1, StepKind.TRAIN))
            await run.settle()
            fault = uplink.sent[-1].step_failed.fault
            assert fault.code == heard
            assert ("Miller" in fault.what) == (secure is None)
            assert "Miller/diabetes.py:47" in caplog.text, "the partner reads it"
            await run.stop()

    monkeypatch.setattr(Workbench, "compute", failing)
    asyncio.run(scenario())


def test_an_app_cannot_choose_what_it_is_said_to_run_on(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = _run(partner, uplink)
        await run.invited(_invite(partner, encode_plan(PLAN)))
        assert (uplink.sent[-1].joined.device, uplink.sent[-1].joined.confinement) == ("none", "process")
        monkeypatch.setattr(
            _Worker, "opened", msgspec.structs.replace(_Worker.opened, device="Mr Miller", confinement=("Huntington",))
        )
        monkeypatch.setattr(run, "_plan", APP_PLAN)
        monkeypatch.setattr(Workbench, "manifest", lambda *_: partner.manifest("heart"))
        monkeypatch.setattr(Workbench, "worker", _worker)
        await run._join(run.session.plan_digest if run.session else "")
        assert (uplink.sent[-1].joined.device, uplink.sent[-1].joined.confinement) == (APP_DEVICE, "")
        await run.stop()

    asyncio.run(scenario())
