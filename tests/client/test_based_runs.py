"""A task on a frozen base at a partner: handed into the confined child, fetched where it is not here, or refused."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import torch

from aimass.client.active_run import ActiveRun
from aimass.client.base_fetch import provide
from aimass.client.child import ChildFailed, start_child
from aimass.client.partner import Partner
from aimass.client.policy import rules
from aimass.client.private_trainer import PrivateTrainer
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase
from aimass.proto.adapters import adapt
from aimass.proto.bases import BaseFolder
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import Conflict, IntegrityError, NotFound, Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.hashing import file_digest
from aimass.proto.home import HomeLimits
from aimass.proto.plan import Needs, Plan, PrivacySettings, TaskRef, TrainSettings, encode_plan
from aimass.proto.step import StepKind
from aimass.proto.task import TaskSource, first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, Outgoing
from tests.client.test_active_run import PLAN, POLICY, RUN, _invite, _worker
from tests.client.test_child import manifest, order
from tests.client.test_trainer import heart
from tests.proto.test_transfer import Side, over_the_wire
from tests.support import based
from tests.support.bases import base_file, install_based
from tests.support.clock import ManualClock
from tests.support.installed import see_too
from tests.support.partners import enrolled, opened

T = TypeVar("T")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskSource]:
    """The task `based`, which child processes find too."""
    monkeypatch.setattr(sys, "executable", str(install_based(tmp_path / "python")))
    see_too(tmp_path / "python", monkeypatch)
    yield locate("based")
    sys.modules.pop("based", None)


@pytest.fixture
def partner(tmp_path: Path, source: TaskSource) -> Partner:
    """A partner that admits the task, and has no base."""
    enrolled(
        tmp_path, ["north"], POLICY.replace('name = "heart"', 'name = "based"').replace(PLAN.task.digest, source.digest)
    )
    return opened(tmp_path / "north")


def plan_of(source: TaskSource) -> Plan:
    return msgspec.structs.replace(PLAN, task=TaskRef(name="based", digest=source.digest), base=source.base)


def test_a_confined_child_trains_what_its_task_has_beside_the_base(tmp_path: Path, source: TaskSource) -> None:
    bases = BaseFolder(tmp_path / "bases")
    base = bases.add("layer", base_file(tmp_path / "file"))
    secret, model, state = (tmp_path / name for name in ("secret", "model", "state"))
    secret.write_text("secret")
    state.touch()
    model.write_bytes(first_model(load(source, bases), 1))
    (tmp_path / "scratch").mkdir()

    async def work(file: Path) -> set[str]:
        child = await start_child(source, manifest(), tmp_path, secret, tmp_path / "scratch", base=file)
        try:
            made = await child.work(order(StepKind.TRAIN), [model], state, 1 << 20)
            assert "files" in child.opened.confinement
            return set(decode_contribution(Blob(made.contribution)).groups["update"].tensors)
        finally:
            await child.stop()

    assert asyncio.run(work(bases.path(base))) == {"output.weight", "output.bias"}
    with pytest.raises(ChildFailed) as caught:
        asyncio.run(work(base_file(tmp_path / "another", seed=2)))
    assert caught.value.code == "base.changed"


class Serves(Side):
    """A server that has one base, or none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.offset = 0, -1

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        self.asked, self.offset = self.asked + 1, request.offset
        if self.asked == 1:
            raise Unavailable("a link that breaks", code="link.broken")
        if not self.data:
            raise NotFound("not kept", code="model.not_kept")
        return Outgoing("north", memoryview(self.data))


class Uplink:
    """A link to it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def send(self, message: object) -> None:
        raise AssertionError

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        return await use(self._channel)


def test_a_base_is_fetched_once_for_all_runs_and_stays_for_later_lives(
    tmp_path: Path, partner: Partner, source: TaskSource
) -> None:
    base = source.base
    assert base is not None

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        assert isinstance(side, Serves)
        side.data = base_file(tmp_path / "file").read_bytes()
        clock = ManualClock()
        both = asyncio.gather(*(provide(base, partner, run * 32, Uplink(channel), clock) for run in "ab"))
        while not both.done():
            await asyncio.sleep(0)
            clock.advance(1.0)
        await both
        assert side.asked == 2  # the second run had nothing to fetch
        await provide(base, opened(partner.folder), RUN, Uplink(channel), clock)
        assert side.asked == 2

    over_the_wire(tmp_path, work, make=Serves)
    assert Blob(partner.bases.path(base).read_bytes()).digest == base.digest
    assert list(partner.bases.all()) == [base]


def test_a_fetch_goes_on_where_an_earlier_life_stopped_and_takes_no_other_bytes(
    tmp_path: Path, partner: Partner, source: TaskSource
) -> None:
    base = source.base
    assert base is not None
    data = base_file(tmp_path / "file").read_bytes()

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        assert isinstance(side, Serves)
        side.data, side.asked = base_file(tmp_path / "another", seed=2).read_bytes(), 1
        with pytest.raises(IntegrityError):
            await provide(base, partner, RUN, Uplink(channel), ManualClock())
        assert not partner.bases.has(base)
        writer = partner.bases.spool().begin(base.digest, base.bytes, base.digest)
        writer.append(data[:700])
        writer.close()
        side.data = data
        await provide(base, opened(partner.folder), RUN, Uplink(channel), ManualClock())
        assert side.offset == 700
        assert partner.bases.path(base).read_bytes() == data

    over_the_wire(tmp_path, work, make=Serves)


def test_a_base_that_nobody_has_is_named_with_what_helps(tmp_path: Path, partner: Partner, source: TaskSource) -> None:
    base = source.base
    assert base is not None

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        assert isinstance(side, Serves)
        side.data, side.asked = b"", 1
        with pytest.raises(NotFound, match="layer") as absent:
            await provide(base, partner, RUN, Uplink(channel), ManualClock())
        assert "aimass client base add" in absent.value.cure
        partner.bases.add("layer", base_file(tmp_path / "another", seed=2))
        with pytest.raises(Conflict) as other:
            await provide(base, partner, RUN, Uplink(channel), ManualClock())
        assert other.value.code == "base.other"

    over_the_wire(tmp_path, work, make=Serves)


class Silent:
    """Remembers what would leave."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    async def transfer(self, use: object) -> Any:
        raise NotFound("not kept", code="model.not_kept")


@pytest.mark.parametrize(("here", "phase"), [(True, Phase.JOINED), (False, Phase.DECLINED)])
def test_a_base_that_is_here_already_needs_no_more_of_the_disk(
    here: bool, phase: Phase, tmp_path: Path, partner: Partner, source: TaskSource
) -> None:
    settings = msgspec.structs.replace(partner.settings, limits=HomeLimits(min_free_bytes=1 << 60))
    partner = dataclasses.replace(partner, settings=settings)
    base = source.base
    assert base is not None
    if here:
        partner.bases.add("layer", base_file(tmp_path / "file"))
    plan = msgspec.structs.replace(plan_of(source), needs=Needs(disk_bytes=base.bytes))
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    run = ActiveRun(RUN, partner, folder, Silent(), SystemClock(), _worker)
    asyncio.run(run.invited(_invite(partner, encode_plan(plan))))
    assert run.session is not None
    assert run.session.phase is phase


@pytest.mark.parametrize(
    ("case", "code"), [("here", ""), ("absent", "base.absent"), ("not the task's", "task.base"), ("none", "task.base")]
)
def test_a_partner_checks_the_plans_base_before_it_accepts(
    case: str, code: str, tmp_path: Path, partner: Partner, source: TaskSource
) -> None:
    plan = plan_of(source)
    if case == "here":
        partner.bases.add("layer", base_file(tmp_path / "file"))
    elif case == "none":
        plan = msgspec.structs.replace(plan, base=None)
    elif case == "not the task's":
        plan = msgspec.structs.replace(plan, base=partner.bases.add("layer", base_file(tmp_path / "file", seed=2)))
    uplink = Silent()
    folder = RunFolder(partner.folder / "state" / "runs" / RUN, UNINTERRUPTED)
    run = ActiveRun(RUN, partner, folder, uplink, SystemClock(), _worker)
    asyncio.run(run.invited(_invite(partner, encode_plan(plan))))
    assert run.session is not None
    assert run.session.phase is (Phase.DECLINED if code else Phase.JOINED)
    assert run.session.reason.partition(":")[0] == code


class Adapted(based.Based):
    """The base stays as it is, and has an adapter."""

    def build(self) -> torch.nn.Module:
        network = super().build()
        adapt(network, ["hidden"], rank=2)
        return network


def test_training_with_privacy_for_each_row_changes_adapters_and_what_is_trained_beside_them_alone(
    tmp_path: Path,
) -> None:
    bases = BaseFolder(tmp_path)
    base = bases.add("layer", base_file(tmp_path / "file"))
    task = Adapted().on(bases)
    start = Blob(first_model(task, 1))
    train = TrainSettings(batch_size=16, learning_rate=0.5, steps=3, weight="one")
    privacy = PrivacySettings(noise_multiplier=1.0, clip=0.2, sampling_rate=0.3, delta=1e-5, divisor=18.0)
    made = PrivateTrainer(task).train(heart("cleveland"), start, b"", train, privacy)
    tensors = made.contribution.groups["update"].tensors
    assert set(tensors) == {"hidden.lora_A.weight", "hidden.lora_B.weight", "output.weight", "output.bias"}
    assert all(value.any() for value in tensors.values())
    assert file_digest(bases.path(base)) == base.digest


def test_a_policy_check_tells_the_base(partner: Partner, source: TaskSource) -> None:
    told = {rule.name: rule for rule in rules(partner.policy, plan_of(source), 2, frozenset())}
    assert source.base is not None
    assert source.base.digest in told["base"].value
