"""One run at a partner against a server that lies: what it can ask for, and what a bad message can break."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from aimass.client.active_run import ActiveRun
from aimass.client.partner import Partner, open_partner
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase
from aimass.client.worker_protocol import Opened
from aimass.privacy.enrolment import make_request
from aimass.privacy.keys import create_keys
from aimass.privacy.pki import Role
from aimass.privacy.root_store import RootStore
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, Refused, WrongState
from aimass.proto.plan import Cohort, Plan, Stage, TaskRef, TrainSettings, encode_plan, planned_rounds, planned_steps
from aimass.proto.step import Step, StepKind
from aimass.proto.task import locate
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, convert

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
    store = RootStore.create(tmp_path / "root", "test", time.time())
    north = tmp_path / "north"
    requests = []
    for name, role, hosts in (("hub", Role.SERVER, ("localhost",)), ("north", Role.PARTNER, ())):
        keys = create_keys(tmp_path / name / "keys")
        requests.append(make_request(store.token(name, role, hosts, time.time() + 60), keys))
    bundle = store.sign(requests, time.time())
    (north / "trust").mkdir()
    (north / "data").mkdir()
    (north / "trust" / "bundle.json").write_bytes(bundle)
    (north / "trust" / "root.pem").write_bytes(store.root.to_pem())
    (north / "client.toml").write_text('name = "north"\nserver = "localhost:1"\nenrol = "localhost:2"\n')
    (north / "policy.toml").write_text(POLICY)
    (north / "data" / "heart.toml").write_text(
        f'name = "heart"\ndata_schema = "heart/1"\nuris = ["x.csv"]\nformat = "csv"\nparticipant = "north"\n'
        f'salt = "{"00" * 32}"\nheld_out = 0.2\n'
    )
    return open_partner(north, UNINTERRUPTED, SystemClock())


def _run(partner: Partner, uplink: _Uplink) -> ActiveRun:
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    return ActiveRun(RUN, partner, folder, uplink, SystemClock(), _worker)


def _invite(partner: Partner, plan: bytes) -> pb.Invite:
    return pb.Invite(run_id=RUN, plan=plan, roster_digest=partner.keeper.roster.digest)


def _open(index: int, kind: StepKind, purpose: str = "", participants: tuple[str, ...] = ("north",)) -> pb.OpenStep:
    step = Step(
        index=index, kind=kind, purpose=purpose, round=index, participants=participants, inputs=("0" * 64,),
        quorum=1, deadline_s=9.0,
    )  # fmt: skip
    return pb.OpenStep(run_id=RUN, step=canonical_json(step), deadline_ms=0)


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
