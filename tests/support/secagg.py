"""Attempts of secure aggregation in memory: the server's machine and every member's, with all messages in the open.

A test may lose, change, repeat or reorder any message, and look into every state.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.secagg import admission, client, client_state, server, server_state
from aimass.privacy.secagg.client_state import ClientState, Expected, History, Kind, Limits, Member, Record
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, Fault, FaultError
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.packing import add_packed, check_packed, pack
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import CHECK_LANES, bits_needed, centred, to_lanes
from aimass.privacy.secagg.unmasking import unmask
from aimass.privacy.signing import public_key


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Seeded:
    """Randomness that a seed repeats: for tests alone."""

    def __init__(self, *seed: object) -> None:
        self._state = hashlib.sha256(repr(seed).encode()).digest()
        self._count = 0
        self.drawn: list[bytes] = []

    def token(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._count += 1
            data += hashlib.sha256(self._state + struct.pack(">Q", self._count)).digest()
        self.drawn.append(data[:size])
        return data[:size]

    def below(self, bound: int) -> int:
        size = (bound.bit_length() + 7) // 8
        while (value := int.from_bytes(self.token(size), "big")) >= bound:
            pass
        return value


Change = Callable[[int, Kind, bytes], bytes | None]
"""A message on its way to or from a member: as it goes on, or None where it is lost."""


def _unchanged(_: int, __: Kind, data: bytes) -> bytes:
    return data


@dataclasses.dataclass
class Lab:
    """One attempt. `down` and `up` may change any message; `gone` members take and send nothing any more."""

    n: int
    bits: int = 0
    data_lanes: int = 8
    profile: Profile = Profile.MALICIOUS
    gamma_ppm: int = 100_000
    delta_ppm: int = 100_000
    min_cohort: int = 2
    largest: int = 1000
    seed: int = 0
    attempt: int = 0
    round: int = 7
    down: Change = _unchanged
    up: Change = _unchanged

    def __post_init__(self) -> None:
        self.bits = self.bits or bits_needed(self.n, self.largest)
        self.identities = {i: Ed25519PrivateKey.from_private_bytes(sha(f"id{i}")) for i in range(self.n)}
        self.keys = {i: public_key(key) for i, key in self.identities.items()}
        self.server_identity = Ed25519PrivateKey.from_private_bytes(sha("server"))
        self.context = RoundContext(
            run_id=bytes(range(16)), round=self.round, attempt=self.attempt, model_digest=sha("model"),
            plan_digest=sha("plan"), layout_digest=sha("layout"), roster_digest=sha("roster"),
            server_key=public_key(self.server_identity), profile=self.profile, gamma_ppm=self.gamma_ppm,
            delta_ppm=self.delta_ppm, min_cohort=self.min_cohort, bits=self.bits,
            lanes=self.data_lanes + CHECK_LANES, clip=1.0, scale=1024.0, ids=tuple(range(self.n)),
        )  # fmt: skip
        self.total: Lanes = np.zeros(self.context.lanes, lane_type(self.bits))
        self.random = {i: Seeded("lab", self.seed, self.attempt, i) for i in range(self.n)}
        self.members: dict[int, ClientState] = {}
        self.faults: dict[int, Fault] = {}
        """Why a member's attempt ended."""
        self.refused: list[tuple[int, Fault]] = []
        """What the server refused of whom."""
        self.sent: list[tuple[int, Kind, bytes]] = []
        """What members sent, as they sent it."""
        self.records: dict[int, Record] = {}
        self.gone: set[int] = set()
        self.histories: dict[int, History] = {}
        self.ended: server_state.Ended | None = None
        self.result: npt.NDArray[np.int64] | None = None
        self.survivors: tuple[int, ...] = ()
        self.log: list[server_state.Event] = []
        self.payloads: dict[int, bytes] = {}
        self.inputs: dict[int, npt.NDArray[np.int64]] = {}
        self.queue: list[server_state.Deliver] = []
        self.server, actions = server.begin(self.context, self.keys, self.server_identity)
        self._perform(actions)

    # ---------------------------------------------------------------- inputs

    def member(self, index: int) -> Member:
        return Member(
            index, self.identities[index], self.keys, sha("roster"), public_key(self.server_identity),
            Limits(min_cohort=2, profile=Profile.HBC),
        )  # fmt: skip

    def expected(self) -> Expected:
        return Expected(
            bytes(range(16)), self.round, sha("model"), sha("plan"), sha("layout"), bytes(32), self.context.lanes,
            self.largest, self.profile, self.gamma_ppm, self.delta_ppm, self.min_cohort,
        )  # fmt: skip

    def give(self, inputs: Mapping[int, Sequence[int]] | None = None) -> None:
        """The encoded inputs, seeded where none are given."""
        random = np.random.Generator(np.random.PCG64(self.seed))
        for index in range(self.n):
            drawn = random.integers(-self.largest, self.largest, self.data_lanes, endpoint=True)
            values = np.array(inputs[index], np.int64) if inputs is not None else drawn
            self.inputs[index] = values

    # ---------------------------------------------------------------- moving

    def run(self, until: server_state.Phase | None = None) -> None:
        """Deliver what is queued, and what follows, until nothing moves or the server is in this phase."""
        if not self.inputs:
            self.give()
        while self.queue and (until is None or self.server.phase < until):
            self.deliver(self.queue.pop(0))

    def time_up(self) -> None:
        self.feed(server_state.TimeUp())

    def deliver(self, message: server_state.Deliver) -> None:
        if message.id in self.gone:
            return
        data = self.down(message.id, message.kind, message.data)
        if data is None:
            return
        self.tell(message.id, message.kind, data)

    def tell(self, member: int, kind: Kind, data: bytes) -> None:
        """A message to a member; what it answers goes to the server."""
        if kind is Kind.START and member not in self.members:  # told again, the machine that lives answers
            try:
                history = self.histories.get(member, History())
                state, actions = admission.start(
                    self.member(member), self.expected(), history, data, self.random[member]
                )
            except FaultError as error:
                self.faults[member] = error.fault
                return
            self.members[member] = state
            self._act(member, actions)
            lanes = to_lanes(self.inputs[member], self.bits)
            self.members[member], actions = client.encoded(self.members[member], pack(lanes, self.bits))
        else:
            if member not in self.members:
                return
            self.members[member], actions = client.receive(self.members[member], kind, data, self.random[member])
        self._act(member, actions)

    def _act(self, member: int, actions: Iterable[client_state.Action]) -> None:
        for action in actions:
            match action:
                case client_state.Persist(record):
                    assert client_state.may_follow(record, self.records.get(member))
                    self.records[member] = record
                case client_state.Send(kind, data):
                    self.sent.append((member, kind, data))
                    changed = self.up(member, kind, data)
                    if changed is not None:
                        self.feed(server_state.From(member, kind, changed))
                case client_state.SendInput(header, payload):
                    changed = self.up(member, Kind.INPUT, header + payload)
                    if changed is not None:
                        self.send_input(member, changed[: len(header)], changed[len(header) :])
                case client_state.Ended(fault):
                    if fault is not None:
                        self.faults[member] = fault

    def send_input(self, member: int, header: bytes, payload: bytes) -> None:
        """What the transfer does: the payload's length, digest and padding are found while it moves."""
        try:
            check_packed(payload, self.context.lanes, self.bits)
            padded = True
        except ValueError:
            padded = False
        before = set(self.server.inputs)
        self.payloads.setdefault(member, payload)
        event = server_state.Input(member, header, len(payload), hashlib.sha256(payload).digest(), padded)
        self.feed(event, lambda: add_packed(self.total, payload, self.bits) if member not in before else None)

    def feed(self, event: server_state.Event, durable: Callable[[], None] = lambda: None) -> None:
        """An event to the server; one that it accepts is logged first, as its payload is."""
        try:
            state, actions = server.apply(self.server, event)
        except FaultError as error:
            member = getattr(event, "id", -1)
            self.refused.append((member, error.fault))
            return
        self.log.append(event)
        durable()
        self.server = state
        self._perform(actions)

    def _perform(self, actions: Iterable[server_state.Action]) -> None:
        for action in actions:
            match action:
                case server_state.Deliver():
                    self.queue.append(action)
                case server_state.Finish(plus, minus, survivors):
                    self.survivors = survivors
                    try:
                        lanes = unmask(self.context, self.total, list(plus), list(minus))
                    except FaultError as error:
                        self.ended = server_state.Ended(error.fault)
                        return
                    self.result = centred(lanes, self.bits)
                case server_state.Ended():
                    self.ended = action
                case _:
                    pass

    def restart_server(self) -> None:
        """The process died: the same state follows from the log, and members are told its last word again."""
        state, _ = server.begin(self.context, self.keys, self.server_identity)
        for event in self.log:
            state, _ = server.apply(state, event)
        assert state == self.server
        self.server = state
        self.queue = [
            server_state.Deliver(member, kind, data)
            for member, told in sorted(state.last.items())
            for kind, data in told
        ]

    def lose(self, *members: int) -> None:
        self.gone |= set(members)

    def revealed(self, member: int) -> bool:
        """Whether a member gave any share to unmask with."""
        return any(kind is Kind.UNMASK for sender, kind, _ in self.sent if sender == member)

    def code(self, member: int) -> Code:
        """The name of what ended a member's attempt."""
        return self.faults[member].code

    def refusals(self) -> list[tuple[int, Code]]:
        """Who was refused, and by which name."""
        return [(member, fault.code) for member, fault in self.refused]

    def exact(self) -> bool:
        """Whether there is a sum, and it is that of the survivors' inputs."""
        return self.result is not None and bool((self.result == self.expected_sum()).all())

    def expected_sum(self) -> npt.NDArray[np.int64]:
        """The oracle: integers, modulo nothing."""
        total = sum(self.inputs[index].astype(object) for index in self.survivors)
        wrapped = np.array([int(value) % (1 << self.bits) for value in np.atleast_1d(total)], object)
        half = 1 << self.bits - 1
        return np.array([value - (1 << self.bits) if value >= half else value for value in wrapped], np.int64)


def only(member: int, kind: Kind, change: Callable[[bytes], bytes | None]) -> Change:
    """Change one kind of one member's messages."""
    return lambda whose, what, data: change(data) if (whose, what) == (member, kind) else data


def flip(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    out = bytearray(data)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)
