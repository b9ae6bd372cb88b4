"""Private runs at a partner: what it joins, what a server changes after it was agreed, and what the child is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.client.active_run import ActiveRun
from aimass.client.child import Made, start_child
from aimass.client.flower_source import AppSource
from aimass.client.partner import Partner
from aimass.client.plan_figure import plan_figure
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase
from aimass.client.worker_protocol import Opened, Order
from aimass.proto.clock import SystemClock
from aimass.proto.commands import main
from aimass.proto.contribution import Contribution, Group
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.elements import update_shapes
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import AnalysisNoise, Plan, PrivacySettings, Stage, TrainSettings, encode_plan
from aimass.proto.step import Step, StepKind
from aimass.proto.task import TaskSource, first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from tests.client.test_active_run import PLAN, POLICY, RUN, _Uplink
from tests.support.partners import enrolled, opened
from tests.support.patients import manifest, visits

PRIVACY = PrivacySettings(noise_multiplier=1.1, clip=0.5, sampling_rate=0.1, delta=1e-5, divisor=8.0)
PRIVATE = msgspec.structs.replace(
    PLAN,
    stages=(Stage(driver="averaging", options={"rounds": 2}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, steps=5, weight="one"),
    privacy=PRIVACY,
)
BY_PERSON = msgspec.structs.replace(PRIVACY, unit="person", rows_per_person=4)
PERSONS = msgspec.structs.replace(PRIVATE, privacy=BY_PERSON)

BUDGET = '[[budgets]]\ndata_set = "heart"\nepsilon = 20.0\ndelta = 1e-5\n'


class _Told:
    """A child that remembers what it was ordered, and never has done it."""

    alive = True

    def __init__(self, persons: int = 0) -> None:
        self.opened = Opened(
            device="none", confinement=("process",), training_rows=100, held_out_rows=10, persons=persons
        )
        self.ordered: asyncio.Queue[Order] = asyncio.Queue()

    async def work(self, order: Order, *_: object) -> Any:
        self.ordered.put_nowait(order)
        await asyncio.Event().wait()

    async def stop(self) -> None:
        pass


@pytest.fixture
def partner(tmp_path: Path) -> Partner:
    """An enrolled partner whose policy admits the plan."""
    enrolled(tmp_path, ["north"], POLICY)
    return opened(tmp_path / "north")


def run_of(partner: Partner, child: _Told, uplink: _Uplink) -> ActiveRun:
    async def start(*_: object) -> _Told:
        return child

    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    return ActiveRun(RUN, partner, folder, uplink, SystemClock(), start)


@pytest.mark.parametrize(("budget", "split"), [("", "stratified"), (BUDGET, "independent")])
def test_the_rows_of_a_data_set_with_a_budget_are_split_one_by_one(tmp_path: Path, budget: str, split: str) -> None:
    enrolled(tmp_path, ["north"], POLICY + budget)
    partner, given = opened(tmp_path / "north"), []

    async def start(_: TaskSource | AppSource, manifest: ShardManifest, __: Partner) -> _Told:
        given.append(manifest)
        return _Told()

    async def scenario() -> None:
        folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
        run = ActiveRun(RUN, partner, folder, _Uplink(), SystemClock(), start)
        await run.invited(invite(partner, PRIVATE))
        await run.stop()

    asyncio.run(scenario())
    assert [manifest.split for manifest in given] == [split]


class _Doing(_Told):
    """A child whose work is done once `during` has happened: an update of zeros, with the plan's private steps."""

    def __init__(self, during: Callable[[], object]) -> None:
        super().__init__()
        self._during = during

    async def work(self, order: Order, *given: Any) -> Any:
        self._during()
        [model] = given[0]
        shapes = update_shapes(Blob(model.read_bytes()).layout)
        zeros = {name: np.zeros(shape, np.float32) for name, (_, shape) in shapes.items()}
        made = Contribution({"update": Group(1.0, zeros)}, {}, {}).encode()
        return Made(memoryview(made), memoryview(b""), order.train.steps or 0)


class _Heard(_Uplink):
    """An uplink that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[pb.FromPartner] = asyncio.Queue()

    def send(self, message: pb.FromPartner) -> None:
        super().send(message)
        self.queue.put_nowait(message)


def asked(partner: Partner, kind: StepKind = StepKind.TRAIN, purpose: str = "") -> pb.OpenStep:
    """A step, of training unless it is said, on a model that is here already."""
    model = first_model(load(locate("heart")), 1)
    digest = hashlib.sha256(model).hexdigest()
    writer = partner.cache.spool.begin(digest, len(model), digest)
    writer.append(model)
    writer.finish()
    step = Step(
        index=0, kind=kind, purpose=purpose, round=1, participants=("north",), inputs=(digest,), quorum=1,
        deadline_s=9.0, required=not purpose,
    )  # fmt: skip
    return pb.OpenStep(run_id=RUN, step=canonical_json(step))


def other_rows(partner: Partner) -> str:
    """A policy by which another data set answers the plan."""
    data = partner.folder / "data"
    (data / "heart2.toml").write_text((data / "heart.toml").read_text())
    return POLICY.replace('= "heart" }', '= "heart2" }')


@pytest.mark.parametrize("change", [lambda _: POLICY + BUDGET, other_rows], ids=["a budget", "another data set"])
def test_a_child_that_has_read_other_rows_than_the_policy_names_now_gets_no_order(
    partner: Partner, change: Callable[[Partner], str]
) -> None:
    async def scenario() -> None:
        ordered: asyncio.Queue[Order] = asyncio.Queue()
        children: list[_Told] = []

        async def start(*_: object) -> _Told:
            children.append(_Told())
            children[-1].ordered = ordered
            return children[-1]

        folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
        run = ActiveRun(RUN, partner, folder, _Uplink(), SystemClock(), start)
        await run.invited(invite(partner, PRIVATE))
        await run.invited(invite(partner, PRIVATE))
        assert len(children) == 1
        (partner.folder / "policy.toml").write_text(change(partner))
        run.opened(asked(partner))
        await asyncio.wait_for(ordered.get(), 30)
        assert len(children) == 2
        await run.stop()

    asyncio.run(scenario())


async def failed(uplink: _Heard) -> str:
    """The code of the fault by which a step ended."""
    while not (message := await asyncio.wait_for(uplink.queue.get(), 30)).HasField("step_failed"):
        pass
    return message.step_failed.fault.code


def test_an_analysis_that_the_policy_does_not_release_is_not_debited_nor_asked_of_the_child(tmp_path: Path) -> None:
    enrolled(tmp_path, ["north"], POLICY + BUDGET)
    partner, child, uplink = opened(tmp_path / "north"), _Told(), _Heard()
    noise = msgspec.structs.replace(PRIVACY, analyses=AnalysisNoise(noise_multiplier=4.0))
    surveying = msgspec.structs.replace(
        PRIVATE, privacy=noise, stages=(Stage(driver="histogram", options={"required": False}), *PRIVATE.stages)
    )

    async def scenario() -> None:
        run = run_of(partner, child, uplink)
        await run.invited(invite(partner, surveying))
        run.opened(asked(partner, StepKind.ANALYSE, "histogram"))
        assert await failed(uplink) == "release.analysis"
        await run.stop()

    asyncio.run(scenario())
    assert child.ordered.empty()
    ledger = partner.budgets.ledger(partner.policy, "heart")
    assert ledger is not None
    assert not ledger.state.entries


def test_a_budget_that_is_stated_while_a_step_is_at_work_lets_nothing_of_it_out(partner: Partner) -> None:
    policy = partner.folder / "policy.toml"

    async def scenario() -> None:
        uplink = _Heard()
        run = run_of(partner, _Doing(lambda: policy.write_text(POLICY + BUDGET)), uplink)
        await run.invited(invite(partner, PRIVATE))
        run.opened(asked(partner))
        assert await failed(uplink) == "release.budget"
        await run.stop()

    asyncio.run(scenario())


def test_a_schema_that_the_policy_names_no_more_fails_the_step_by_name(partner: Partner) -> None:
    async def scenario() -> None:
        uplink = _Heard()
        run = run_of(partner, _Told(), uplink)
        await run.invited(invite(partner, PRIVATE))
        (partner.folder / "policy.toml").write_text(POLICY.replace("heart/1", "heart/2"))
        run.opened(asked(partner))
        assert await failed(uplink) == "policy.schema"
        await run.stop()

    asyncio.run(scenario())


def invite(partner: Partner, plan: Plan) -> pb.Invite:
    return pb.Invite(run_id=RUN, plan=encode_plan(plan), roster_digest=partner.keeper.roster.digest)


@pytest.mark.parametrize(("persons", "joins"), [(0, False), (40, True)])
def test_a_plan_for_persons_is_declined_by_name_where_nobody_knows_whose_the_rows_are(
    partner: Partner, persons: int, joins: bool
) -> None:
    async def scenario() -> None:
        uplink = _Uplink()
        run = run_of(partner, _Told(persons), uplink)
        await run.invited(invite(partner, PERSONS))
        assert run.session is not None
        if joins:
            assert run.session.phase is Phase.JOINED
        else:
            fault = uplink.sent[-1].declined.fault
            assert fault.code == "private.persons"
            assert "data add --person" in fault.cure
        await run.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("delta", "said"), [(0.02, ""), (0.03, "dp.delta")])
def test_delta_is_held_against_the_number_of_persons_and_not_of_rows(partner: Partner, delta: float, said: str) -> None:
    budget = f'[[budgets]]\ndata_set = "heart"\nepsilon = 50.0\ndelta = {delta}\nunit = "person"\n'
    (partner.folder / "policy.toml").write_text(POLICY + budget)

    async def scenario() -> None:
        run = run_of(partner, _Told(40), _Uplink())
        await run.invited(invite(partner, by_person(delta=delta)))
        assert run.session is not None
        assert run.session.reason.partition(":")[0] == said
        await run.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("persons", [40, 41])
def test_a_server_that_asks_for_too_large_a_delta_is_not_told_how_many_there_are(
    partner: Partner, persons: int
) -> None:
    budget = '[[budgets]]\ndata_set = "heart"\nepsilon = 50.0\ndelta = 1e-5\nunit = "person"\n'
    (partner.folder / "policy.toml").write_text(POLICY + budget)

    async def scenario() -> None:
        uplink = _Uplink()
        run = run_of(partner, _Told(persons), uplink)
        for _ in range(2):  # and not when it asks again
            await run.invited(invite(partner, by_person(delta=0.5)))
            assert "dp.delta" in str(told := uplink.sent[-1].declined.fault)
            assert str(persons) not in str(told)
        await run.stop()

    asyncio.run(scenario())


def test_what_waits_for_approval_says_how_much_of_a_person_its_updates_would_tell(
    partner: Partner, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = msgspec.structs.replace(PERSONS, task=msgspec.structs.replace(PERSONS.task, digest="0" * 64))
    figure = plan_figure(unknown)
    assert figure is not None

    async def scenario() -> None:
        run = run_of(partner, _Told(40), _Uplink())
        await run.invited(invite(partner, unknown))
        await run.stop()

    asyncio.run(scenario())
    home = ["--dir", str(partner.folder), "--json"]
    assert main(["client", "pending", *home]) == 0
    (waiting,) = json.loads(capsys.readouterr().out)["runs"]
    assert waiting["privacy"] == figure.sentence()
    assert "for one person" in waiting["privacy"]
    assert main(["client", "show", "last", *home]) == 0
    told = json.loads(capsys.readouterr().out)["server"]["could_not_learn"]
    assert figure.sentence() in told[0]


def by_person(**changes: Any) -> Plan:
    return msgspec.structs.replace(PERSONS, privacy=msgspec.structs.replace(BY_PERSON, **changes))


@pytest.mark.parametrize(
    "other",
    [
        by_person(sampling_rate=0.2),
        by_person(clip=1.0),
        by_person(noise_multiplier=1.0),
        by_person(rows_per_person=5),
        PRIVATE,
        msgspec.structs.replace(PERSONS, train=msgspec.structs.replace(PERSONS.train, batch_size=16)),
    ],
    ids=["rate", "clip", "noise", "rows of a person", "unit", "batch"],
)
def test_a_plan_that_changes_rate_clip_noise_unit_or_batch_after_it_was_joined_is_left(
    partner: Partner, other: Plan
) -> None:
    async def scenario() -> None:
        run, said = run_of(partner, _Told(40), _Uplink()), []
        for plan in (PERSONS, PERSONS, other):
            await run.invited(invite(partner, plan))
            assert run.session is not None
            said.append((run.session.phase, run.session.reason.partition(":")[0]))
        assert said == [(Phase.JOINED, ""), (Phase.JOINED, ""), (Phase.LEFT, "session.plan_changed")]
        await run.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("plan", [PRIVATE, PERSONS], ids=["examples", "persons"])
def test_the_child_is_ordered_with_the_plans_own_numbers(partner: Partner, plan: Plan) -> None:
    async def scenario() -> None:
        child = _Told(40)
        run = run_of(partner, child, _Uplink())
        await run.invited(invite(partner, plan))
        run.opened(asked(partner))
        order = await asyncio.wait_for(child.ordered.get(), 30)
        assert (order.privacy, order.train) == (plan.privacy, plan.train)
        await run.stop()

    asyncio.run(scenario())


def test_a_confined_child_counts_persons_and_trains_for_them(tmp_path: Path) -> None:
    async def work() -> None:
        secret, model, state = (tmp_path / name for name in ("identity.key", "model.safetensors", "state"))
        secret.write_text("secret")
        model.write_bytes(first_model(load(locate("heart")), 1))
        state.touch()
        (tmp_path / "rows.csv").write_text(visits([3, 1, 9, 2, 7, 4, 1, 5]))
        (tmp_path / "scratch").mkdir()
        child = await start_child(locate("heart"), manifest(0.2), tmp_path, secret, tmp_path / "scratch")
        try:
            assert 1 <= child.opened.persons <= 8
            assert child.opened.persons <= child.opened.training_rows
            order = Order(
                kind=StepKind.TRAIN, purpose="train:", seed="00" * 16, train=PERSONS.train, evaluate=PLAN.evaluate,
                privacy=PERSONS.privacy,
            )  # fmt: skip
            made = await child.work(order, [model], state, 1 << 20)
            assert made.private_steps == 5
        finally:
            await child.stop()

    asyncio.run(work())
