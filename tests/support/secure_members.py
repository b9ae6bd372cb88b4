"""Partners of a secure run over a bench's engine: the real client machines, without sockets, disks or training."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Mapping

import numpy as np

from aimass.privacy.secagg import admission, client, client_state
from aimass.privacy.secagg.client_state import ClientState, History, Kind, Limits, Member, Record
from aimass.privacy.secagg.faults import Code, Fault, FaultError
from aimass.privacy.secagg.lanes import encode
from aimass.privacy.secagg.masks import Lanes
from aimass.privacy.secagg.packing import pack
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.rounds import expected_of, lanes_of, rotation_of
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.errors import AimassError
from aimass.proto.plan import plan_digest
from aimass.proto.sealed import SealedHead
from aimass.proto.step import Step
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, decode_json
from tests.support.engines import Bench

GROUPS = {"update": {"w": ("F32", (4,))}}


class System:
    """Randomness of the operating system."""

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def below(self, bound: int) -> int:
        return secrets.randbelow(bound)


class SecurePartner:
    """One partner: it keeps encoded lanes by step and records by round, and forgets an attempt's state with `restart`."""

    def __init__(self, bench: Bench, run_id: str, name: str, value: float, weight: float) -> None:
        self.bench, self.run_id, self.name = bench, run_id, name
        self.value, self.weight = value, weight
        self.read = 0
        self.steps: dict[int, Step] = {}
        self.lanes: dict[int, Lanes] = {}
        self.records: dict[tuple[bytes, int], Record] = {}
        self.attempts: dict[tuple[int, int], ClientState] = {}
        self.faults: list[Fault] = []
        self.sent: list[Kind] = []
        self.deaf = False
        self.silent_on: frozenset[Kind] = frozenset()
        self.figures: dict[str, float] = {}
        self.ledger: SealedHead | None = None
        self.spoils = False
        """Whether its input is what no encoding gives, masked and signed as it should be."""
        self.limits = Limits(profile=Profile.HBC)

    @property
    def member(self) -> Member:
        roster = self.bench.roster
        return Member(
            roster.by_name[self.name].id, self.bench.keys[self.name],
            {one.id: one.identity for one in roster.members if one.name != "hub"},
            bytes.fromhex(roster.digest), self.bench.engine.identity, self.limits,
        )  # fmt: skip

    def restart(self) -> None:
        """The process dies: what it held of attempts is gone, and what it had encoded is not."""
        self.attempts.clear()

    async def hear(self) -> bool:
        """Take what was said since; whether there was anything."""
        said = self.bench.outbox.said[self.read :]
        self.read += len(said)
        mine = [message for name, message in said if name == self.name]
        if self.deaf:
            return False
        for message in mine:
            match message.WhichOneof("body"):
                case "open_step":
                    await self.opened(decode_json(Step, message.open_step.step, "a step"))
                case "secagg":
                    await self.secagg(message.secagg)
        return bool(mine)

    async def opened(self, step: Step) -> None:
        row = self.bench.engine.live(self.run_id).row
        if step.index not in self.lanes:
            update = Group(self.weight, {"w": np.full(4, self.value, np.float32)})
            own = Contribution({"update": update}, {"loss": Metric(self.value * self.weight, self.weight)}, {})
            plan = lanes_of(row.run.plan, step, GROUPS)
            rotation = rotation_of(row.run.plan, self.run_id, step)
            self.lanes[step.index] = encode(plan, own, lambda: secrets.token_bytes(16), rotation)
        self.steps[step.index] = step
        ledger = canonical_json(self.ledger) if self.ledger is not None else b""
        ready = pb.Ready(run_id=self.run_id, step=step.index, figures=canonical_json(self.figures), ledger=ledger)
        await self.bench.desk.ready(self.name, ready)

    async def secagg(self, message: pb.SecAgg) -> None:
        place, kind = (message.step, message.attempt), Kind(message.kind)
        if place not in self.attempts:
            await self._begin(place, kind, message.data)
            return
        state, actions = await asyncio.to_thread(
            client.receive, self.attempts[place], kind, message.data, System()
        )  # fmt: skip
        self.attempts[place] = state
        await self._act(place, actions)

    def _noise(self, lanes: Lanes) -> Lanes:
        """Lanes that no encoding gives: a weight beyond every limb."""
        spoilt: Lanes = np.full_like(lanes, np.iinfo(lanes.dtype).max)
        return spoilt

    async def _begin(self, place: tuple[int, int], kind: Kind, data: bytes) -> None:
        row, step = self.bench.engine.live(self.run_id).row, self.steps[place[0]]
        held = [record for (_, index), record in self.records.items() if index == step.index]
        if kind is not Kind.START or (held and held[0].attempt >= place[1] - 1):
            if held and kind is not Kind.ABORT:
                await self._send(place, Kind.ABORT, admission.restarted(held[0]).data)
            return
        expected = expected_of(
            row.run.plan, plan_digest(row.plan), self.run_id, step, lanes_of(row.run.plan, step, GROUPS)
        )
        try:
            state, actions = admission.start(self.member, expected, History(held[0] if held else None), data, System())
        except FaultError as error:
            self.faults.append(error.fault)
            return
        self.attempts[place] = state
        await self._act(place, actions)
        lanes = self._noise(self.lanes[step.index]) if self.spoils else self.lanes[step.index].copy()
        self.attempts[place], actions = client.encoded(self.attempts[place], pack(lanes, state.context.bits))
        await self._act(place, actions)

    async def _act(self, place: tuple[int, int], actions: tuple[client_state.Action, ...]) -> None:
        for action in actions:
            match action:
                case client_state.Persist(record):
                    key = record.run_id, record.round
                    assert client_state.may_follow(record, self.records.get(key))
                    self.records[key] = record
                case client_state.Send(kind, data):
                    await self._send(place, kind, data)
                case client_state.SendInput(header, payload):
                    await self._upload(place, header, bytes(payload))
                case client_state.Ended(fault):
                    if fault is not None:
                        self.faults.append(fault)

    async def _send(self, place: tuple[int, int], kind: Kind, data: bytes) -> None:
        if kind in self.silent_on:
            return
        self.sent.append(kind)
        message = pb.SecAgg(run_id=self.run_id, step=place[0], attempt=place[1], kind=kind, data=data)
        with contextlib.suppress(AimassError):  # refused by name; the attempt's end says what came of it
            await self.bench.desk.secagg(self.name, message)

    async def _upload(self, place: tuple[int, int], header: bytes, payload: bytes) -> None:
        if Kind.INPUT in self.silent_on:
            return
        self.sent.append(Kind.INPUT)
        await self.send_input(
            SubmitHeader(
                kind="contribution", size=len(payload), digest=hashlib.sha256(payload).hexdigest(), run_id=self.run_id,
                step=place[0], attempt=place[1], masked=header.hex(),
            ),
            payload,
        )  # fmt: skip

    async def send_input(self, header: SubmitHeader, payload: bytes) -> None:
        """As the transfer does: nothing where it is stored, the bytes where they belong, and the acknowledgement."""
        contributions = self.bench.contributions
        if contributions.stored(self.name, header):
            return
        writer = self.bench.spool.begin(contributions.key(self.name, header), header.size, header.digest)
        try:
            if writer.offset < len(payload):
                writer.append(payload[writer.offset :])
            path = writer.finish()
        finally:
            writer.close()
        await contributions.accept(self.name, header, path)

    def code(self) -> Code:
        """Why its last attempt ended."""
        return self.faults[-1].code


async def settled(
    partners: Mapping[str, SecurePartner],
    until: Callable[[], bool],
    push: Callable[[], None] | None = None,
    idle: int = 200,
) -> None:
    """Let everybody hear and answer until something holds. Where nothing moves any more, `push`, or fail."""
    still = pushes = 0
    while not until():
        moved = [await partner.hear() for partner in partners.values()]
        still = 0 if any(moved) else still + 1
        if push is not None and still == idle // 4:
            push()
            still, pushes = 0, pushes + 1
        assert still < idle, "nothing moves any more"
        assert pushes < 20, "pushing leads nowhere"
        await asyncio.sleep(0.005 if still else 0)
