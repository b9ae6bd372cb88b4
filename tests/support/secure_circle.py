"""A run of secure sums in one process: real shells of partners, and the server's pure machine on the other side.

What partners send over their uplink comes to the hub at once; uploads go through the real client side of a transfer over
a channel made here. A test may kill a partner, cut its link, break its upload or change what it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aimass.client.active_run import ActiveRun
from aimass.client.child import Made
from aimass.client.inbox import Handler
from aimass.client.run_folder import RunFolder
from aimass.client.worker_protocol import Opened
from aimass.privacy.keys import load_keys
from aimass.privacy.secagg import server, server_state
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Fault, FaultError
from aimass.privacy.secagg.lanes import LanePlan, LaneSums, decode, from_bytes
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.packing import add_packed, check_packed
from aimass.privacy.secagg.rounds import context_of, lanes_of, number_of, rotation_of
from aimass.privacy.secagg.unmasking import unmask
from aimass.privacy.transcript import Chain, Receipt, entry_bytes, sign_head, sign_receipt
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.elements import update_shapes
from aimass.proto.errors import OutOfSpace, Unavailable
from aimass.proto.plan import Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings, encode_plan, plan_digest
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import Spool
from aimass.proto.task import locate
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from tests.support.partners import enrolled, opened

__all__ = ["MODEL", "NAMES", "PLAN", "POLICY", "RUN", "Circle", "Shell", "circle", "step"]

T = TypeVar("T")
RUN = "ab" * 16
NAMES = ("east", "north", "south", "west")
MODEL = encode_numpy({"w": np.zeros(1000, np.float32), "preprocess.mean": np.zeros(2), "n": np.zeros(1, np.int64)})
PLAN = Plan(
    name="test", task=TaskRef(name="heart", digest=locate("heart").digest), data_schema="heart/1", seed=1,
    model="0" * 64, stages=(Stage(driver="averaging", options={"rounds": 3}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1), cohort=Cohort(quorum=3),
    secure=SecureSettings(colluders=0.0, dropouts=0.2, max_weight=1000, metrics=("accuracy", "loss")),
)  # fmt: skip
POLICY = f"""smallest_cohort = 3
confinement = []
schemas = {{ "heart/1" = "heart" }}
[release]
metrics = ["loss", "secret"]
figures = ["auc"]
[[tasks]]
name = "heart"
digest = "{PLAN.task.digest}"
"""
WAIT_S = 30.0


def step(index: int = 0, kind: StepKind = StepKind.TRAIN, model: bytes = MODEL) -> Step:
    """A step of all partners on the one model."""
    return Step(
        index=index, kind=kind, round=index, participants=NAMES, inputs=(hashlib.sha256(model).hexdigest(),), quorum=3,
        deadline_s=9.0,
    )  # fmt: skip


class _Call:
    """The server's side of one upload."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._header: dict[str, Any] = {}
        self._data = b""
        self._replies = 0

    async def write(self, data: bytes) -> None:
        if not self._header:
            self._header = json.loads(data)
            return
        if self._shell.breaks > 0:
            self._shell.breaks -= 1
            raise Unavailable("the link broke", code="wire.unavailable")
        self._data += data

    async def read(self) -> bytes:
        self._replies += 1
        if self._replies == 1:
            return b'{"offset":0}'
        await self._shell.uploadable.wait()
        self._shell.hub.uploaded(self._shell.name, self._header, self._data)
        return b'{"status":"stored"}'

    async def done_writing(self) -> None:
        pass

    async def code(self) -> None:
        pass

    def cancel(self) -> None:
        pass


class _Channel:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def stream_stream(self, _: str) -> Callable[[], _Call]:
        return lambda: _Call(self._shell)


class _Worker:
    """A child that makes the same of every order."""

    opened = Opened(device="none", confinement=("process",), training_rows=1, held_out_rows=1)
    alive = True

    def __init__(self, contribution: bytes) -> None:
        self._contribution = contribution

    async def work(self, *_: object) -> Made:
        return Made(memoryview(self._contribution), memoryview(b"moments"))

    async def stop(self) -> None:
        pass


class Instant(SystemClock):
    """Nobody waits: who tries again does so at once, after everybody else."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Shell:
    """One partner: its folder outlives `restart`, its memory does not. It is its own uplink."""

    def __init__(self, folder: Path, hub: Circle, number: int, durability: Durability) -> None:
        self.name, self.folder, self.hub, self.durability = folder.name, folder, hub, durability
        self.update = np.linspace(-1, 1, 1000, dtype=np.float32) * (number + 1) / 8
        self.weight = 10.0 * (number + 1)
        self.cut = False
        """Whether the link is cut that messages go by, and nobody has noticed yet."""
        self.breaks = 0
        """Uploads that break from now on."""
        self.uploadable = asyncio.Event()
        """Cleared, the server does not acknowledge."""
        self.uploadable.set()
        self.sent: list[pb.FromPartner] = []
        self.uploads: list[tuple[dict[str, Any], bytes]] = []
        self.partner = opened(folder, durability)
        spool, digest = Spool(folder / "cache", synced=False), hashlib.sha256(hub.model).hexdigest()
        writer = spool.begin(digest, len(hub.model), digest)
        writer.append(hub.model)
        writer.finish()
        self.run = self._active()

    def _active(self) -> ActiveRun:
        async def start(*_: object) -> Any:
            return _Worker(self.contribution.encode())

        folder = RunFolder(self.folder / "state" / "runs" / RUN, self.durability)
        return ActiveRun(RUN, self.partner, folder, self, Instant(), start)

    @property
    def contribution(self) -> Contribution:
        """What the child makes."""
        counters = {"n": np.array([3], np.int64)} if "n" in update_shapes(self.hub.layout) else {}
        tensors = {"w": self.update, **counters}
        metrics = {"loss": Metric(5.0, self.weight), "accuracy": Metric(1.0, 2.0), "secret": Metric(9.0, 9.0)}
        return Contribution({"update": Group(self.weight, tensors)}, metrics, {"auc": 0.5, "rows": 212.0})

    def send(self, message: pb.FromPartner) -> None:
        if not self.cut:
            self.sent.append(message)
            self.hub.heard(self.name, message)

    async def transfer(self, use: Callable[[Any], Awaitable[T]]) -> T:
        return await use(_Channel(self))

    async def restart(self) -> None:
        """The process ends and another begins: only what is on the disk is left."""
        await self.stop()
        self.partner = opened(self.folder, self.durability)
        self.run = self._active()

    async def stop(self) -> None:
        """The process ends."""
        await self.run.stop()
        self.partner.budgets.close()

    async def connect(self) -> None:
        """What a server says to who comes."""
        digest = self.partner.keeper.roster.digest
        invite = pb.Invite(run_id=RUN, plan=self.hub.plan_bytes, roster_digest=digest)
        await self._taken(lambda: self.run.invited(invite))
        if self.hub.step is not None:
            opened_step = pb.OpenStep(run_id=RUN, step=canonical_json(self.hub.step), deadline_ms=0)
            await self._taken(lambda: self.run.opened(opened_step))

    async def _taken(self, handler: Handler) -> None:
        """Handled as the inbox does it: a full disk is waited for."""
        while True:
            try:
                waiting = handler()
                if waiting is not None:
                    await waiting
            except OutOfSpace:
                continue
            return

    @property
    def lanes_file(self) -> Path:
        """The contribution of the open step."""
        assert self.hub.step is not None
        return self.folder / "state" / "runs" / RUN / f"step-{self.hub.step.index}.safetensors"

    def told(self, kind: str) -> list[pb.SecAgg]:
        """What it sent of one kind."""
        return [message.secagg for message in self.sent if message.HasField("secagg") and message.secagg.kind == kind]

    def aborts(self) -> list[str]:
        """The faults that it gave as reasons, in order."""
        return [Abort.decode(message.data).code for message in self.told("abort")]

    @property
    def ready(self) -> list[pb.Ready]:
        """How often it said that it is ready, and with which figures."""
        return [message.ready for message in self.sent if message.HasField("ready")]


Change = Callable[[str, pb.SecAgg], Iterable[pb.SecAgg]]


class Circle:
    """The hub: it forms attempts of those that are ready, and sums."""

    def __init__(self, folder: Path, plan: Plan, policy: str, durability: Durability, model: bytes = MODEL) -> None:
        self.plan, self.plan_bytes = plan, encode_plan(plan)
        self.model, self.layout = model, Blob(model).layout
        enrolled(folder, (*NAMES, "guest"), policy)  # the guest is a partner, and in no step
        self.identity = load_keys(folder / "hub" / "keys").identity
        self.step: Step | None = None
        self.shells = {name: Shell(folder / name, self, number, durability) for number, name in enumerate(NAMES)}
        self.roster = self.shells["north"].partner.keeper.roster
        self.attempt = -1
        self.waiting: set[str] = set()
        self.queue: list[tuple[str, pb.SecAgg]] = []
        self.moved = asyncio.Event()
        self.down: Change = lambda _, message: [message]
        """What becomes of a message on its way to a partner."""
        self.look: Callable[[str, pb.FromPartner], None] = lambda *_: None
        """Sees each message of a partner as it leaves."""
        self.context: RoundContext | None = None
        self.state: server_state.ServerState | None = None
        self.total: Lanes | None = None
        self.faults: list[Fault] = []
        """Why attempts ended without a sum."""
        self.refused: list[tuple[str, Fault]] = []
        self.sums: LaneSums | None = None
        self.lanes: Lanes | None = None
        self.survivors: tuple[str, ...] = ()
        self.payloads: dict[str, str] = {}
        """Digests of the inputs of the attempt that lives."""

    # ---------------------------------------------------------------- the run

    async def open(self, opened_step: Step | None = None) -> None:
        """Invite everybody, ask for a step, and wait until all are ready."""
        self.step = opened_step or step(model=self.model)
        for shell in self.shells.values():
            await shell.connect()
        await self.until(lambda: self.waiting == set(NAMES))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Deliver what is queued and wait for what moves, until `reached`."""
        while not reached():
            if self.queue:
                await self._deliver(*self.queue.pop(0))
            else:
                await asyncio.wait_for(self.moved.wait(), WAIT_S)
                self.moved.clear()

    async def _deliver(self, name: str, message: pb.SecAgg) -> None:
        shell = self.shells.get(name)
        if shell is None:
            return
        for changed in self.down(name, message):
            await shell.run.summed(changed)

    async def drain(self) -> None:
        """Deliver all that is queued now, and what follows without an upload."""
        while self.queue:
            await self._deliver(*self.queue.pop(0))

    async def stop(self) -> None:
        for shell in self.shells.values():
            await shell.stop()

    # ---------------------------------------------------------------- attempts

    @property
    def lane_plan(self) -> LanePlan:
        """The lanes as the server computes them."""
        assert self.step is not None
        return lanes_of(self.plan, self.step, {"update": update_shapes(self.layout)})

    def context_for(self, names: Iterable[str], attempt: int) -> RoundContext:
        """The context of an attempt of these partners."""
        assert self.step is not None
        ids, digest = [self.roster.by_name[name].id for name in names], plan_digest(self.plan_bytes)
        key, pinned = self.roster.server.identity, self.roster.digest
        return context_of(self.plan, digest, RUN, self.step, attempt, ids, pinned, key, self.lane_plan)

    def form(self, names: Iterable[str] | None = None, **changes: Any) -> None:
        """Begin the next attempt with those that are ready; a liar's context has `changes`."""
        members = sorted(self.waiting if names is None else names)
        self.attempt += 1
        self.context = dataclasses.replace(self.context_for(members, self.attempt), **changes)
        self.total = np.zeros(self.context.lanes, lane_type(self.context.bits))
        self.payloads = {}
        self.waiting -= set(members)
        identities = {member.id: member.identity for member in self.roster.members}
        self.state, actions = server.begin(self.context, identities, self.identity)
        self._perform(actions)

    async def summed(self) -> None:
        """Go on until there is a sum."""
        await self.until(lambda: self.sums is not None)

    async def reach(self, phase: server_state.Phase) -> None:
        """Go on until the attempt is in this phase."""
        await self.until(lambda: self.state is not None and self.state.phase >= phase)

    def time_up(self) -> None:
        """The phase's deadline passes."""
        self._feed("", server_state.TimeUp())

    def replay(self, name: str) -> None:
        """Tell a partner that comes back what it was told last."""
        assert self.state is not None
        member = self.roster.by_name[name].id
        for kind, data in self.state.last.get(member, ()):
            self._queue(member, kind, data)

    def heard(self, name: str, message: pb.FromPartner) -> None:
        """A message of a partner."""
        self.moved.set()
        self.look(name, message)
        if message.HasField("ready"):
            assert json.loads(message.ready.figures) == {"auc": 0.5}
            self.waiting.add(name)
        if message.HasField("secagg") and message.secagg.attempt == number_of(self.attempt):
            told = message.secagg
            self._feed(name, server_state.From(self.roster.by_name[name].id, Kind(told.kind), told.data))

    def uploaded(self, name: str, header: dict[str, Any], payload: bytes) -> None:
        """An upload that is whole."""
        self.moved.set()
        self.shells[name].uploads.append((header, payload))
        assert self.context is not None
        assert self.state is not None
        assert hashlib.sha256(payload).hexdigest() == header["digest"]
        if header["attempt"] != number_of(self.attempt):
            return
        padded = True
        try:
            check_packed(payload, self.context.lanes, self.context.bits)
        except ValueError:
            padded = False
        member, before = self.roster.by_name[name].id, set(self.state.inputs)
        event = server_state.Input(
            member, bytes.fromhex(header["masked"]), len(payload), hashlib.sha256(payload).digest(), padded
        )
        self.payloads[name] = header["digest"]
        self._feed(name, event, lambda: self._add(payload) if member not in before else None)

    def _add(self, payload: bytes) -> None:
        assert self.context is not None
        assert self.total is not None
        add_packed(self.total, payload, self.context.bits)

    def _feed(self, name: str, event: server_state.Event, durable: Callable[[], None] = lambda: None) -> None:
        assert self.state is not None
        try:
            state, actions = server.apply(self.state, event)
        except FaultError as error:
            self.refused.append((name, error.fault))
            return
        durable()
        self.state = state
        self._perform(actions)

    def _perform(self, actions: Iterable[server_state.Action]) -> None:
        names = {member.id: member.name for member in self.roster.members}
        for action in actions:
            match action:
                case server_state.Deliver(member, kind, data):
                    self._queue(member, kind, data)
                case server_state.Finish(plus, minus, survivors):
                    assert self.context is not None
                    assert self.total is not None
                    self.survivors = tuple(names[member] for member in survivors)
                    self.lanes = unmask(self.context, self.total, list(plus), list(minus))
                    assert self.step is not None
                    rotation = rotation_of(self.plan, RUN, self.step)
                    self.sums = decode(self.lane_plan, self.lanes, len(survivors), rotation)
                case server_state.Ended(fault):
                    self.faults.append(fault)
                case _:
                    pass

    def _queue(self, member: int, kind: Kind, data: bytes) -> None:
        assert self.step is not None
        name = next((entry.name for entry in self.roster.members if entry.id == member), "")
        told = pb.SecAgg(run_id=RUN, step=self.step.index, attempt=number_of(self.attempt), kind=kind, data=data)
        self.queue.append((name, told))
        self.moved.set()

    # ---------------------------------------------------------------- after it

    def exact(self) -> bool:
        """Whether the sum's lanes are the sum of the lanes that the survivors keep, to the last bit."""
        plan = self.lane_plan
        kept = [from_bytes(plan, self.shells[name].lanes_file.read_bytes()) for name in self.survivors]
        total = sum(lanes.astype(object) for lanes in kept) % (1 << plan.bits)
        return self.lanes is not None and bool((self.lanes == total).all())

    def mean(self) -> np.ndarray:
        """The weighted mean of the survivors' updates, by the oracle: float64."""
        those = [self.shells[name] for name in self.survivors]
        total = sum(shell.weight * shell.update.astype(np.float64) for shell in those)
        return np.asarray(total / sum(shell.weight for shell in those))

    def receipt(self, name: str) -> None:
        """Give a partner the receipt for its input, with the history that it stands in."""
        shell, entry = self.shells[name], entry_bytes(RUN, Chain(), b"created")
        chain = Chain().extended(entry)
        signature = sign_head(self.identity, RUN, chain)
        shell.run.history(pb.History(run_id=RUN, first=0, entries=[entry], signature=signature))
        assert self.step is not None
        receipt = Receipt(
            run_id=RUN, step=self.step.index, partner=name, contribution=self.payloads[name], outcome="counted",
            reason="", entries=1, head=chain.head,
        )  # fmt: skip
        body, signature = sign_receipt(self.identity, receipt)
        shell.run.receipt(pb.Receipt(body=body, signature=signature))


@contextlib.asynccontextmanager
async def circle(
    folder: Path,
    plan: Plan = PLAN,
    policy: str = POLICY,
    durability: Durability = UNINTERRUPTED,
    model: bytes = MODEL,
) -> AsyncIterator[Circle]:
    """A circle that ends with the test."""
    made = Circle(folder, plan, policy, durability, model)
    try:
        yield made
    finally:
        await made.stop()
