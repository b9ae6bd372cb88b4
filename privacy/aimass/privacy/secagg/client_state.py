"""What a partner holds in an attempt, what it is told, and what it does: the values of the client's machine.

Secrets live here in memory alone and show in no repr. Python cannot promise that they are overwritten: references are
dropped when an attempt ends, and that is stated as a limit.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Fault
from aimass.privacy.secagg.messages import Advertise, RosterMessage
from aimass.privacy.secagg.parameters import Profile

__all__ = [
    "Action",
    "ClientState",
    "Ended",
    "Expected",
    "Held",
    "History",
    "Kind",
    "Limits",
    "Member",
    "Outcome",
    "Packed",
    "Persist",
    "Phase",
    "Randomness",
    "Record",
    "Room",
    "Secrets",
    "Send",
    "SendInput",
    "answered",
    "may_follow",
]

Room = Callable[[int], bytearray | memoryview]
"""Gives so many bytes to be written: of memory, or of a file where they are as many as a large model's."""


class Randomness(Protocol):
    """A cryptographic source."""

    def below(self, bound: int) -> int:
        """Uniform in [0, bound)."""
        ...

    def token(self, size: int) -> bytes:
        """Uniform bytes."""
        ...


class Kind(enum.StrEnum):
    """Messages by name, as the control stream carries them."""

    START = "start"
    ADVERTISE = "advertise"
    ROSTER = "roster"
    SEED = "seed"
    SEEDS = "seeds"
    SHARES = "shares"
    DELIVERY = "delivery"
    INPUT = "input"
    SURVIVORS = "survivors"
    SIGNATURE = "signature"
    QUORUM = "quorum"
    UNMASK = "unmask"
    ABORT = "abort"


class Phase(enum.IntEnum):
    """How far a partner is, in order."""

    ADVERTISED = 1
    REVEALED = 2
    SHARED = 3
    DELIVERED = 4
    MASKED = 5
    SIGNED = 6
    DONE = 7
    ABORTED = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What this partner computed itself of the step: the context must say the same."""

    run_id: bytes
    round: int
    model_digest: bytes
    plan_digest: bytes
    layout_digest: bytes
    dp_digest: bytes
    lanes: int
    largest: int
    """The largest |q| of a signed lane: n times it must fit below half of 2^b."""
    profile: Profile
    gamma_ppm: int
    delta_ppm: int
    min_cohort: int
    """What the plan promises: a partner that agreed to more than its policy's least is owed it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the partner's policy demands."""

    min_cohort: int = 3
    gamma_ppm: int = 0
    profile: Profile = Profile.MALICIOUS
    contributions_per_model: int = 2
    contributions_per_data: int = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What is durable of a (run, round): nothing in it is secret."""

    run_id: bytes
    round: int
    attempt: int
    phase: Phase
    ctx: bytes
    model_digest: bytes
    payload_digest: bytes = b""
    signed: bytes = b""
    """U1d and U2d, once signed, or in the profile without signatures once unmasked."""


def may_follow(record: Record, held: Record | None) -> bool:
    """Whether `record` may be made durable over what is held of the same (run, round); a store refuses what may not.

    It is the last guard of "one signed contribution of a round": should two attempts of one round ever live in one
    process, the older one can persist nothing any more, so it sends and signs nothing.
    """
    if held is None:
        return True
    if record.attempt != held.attempt:
        return record.attempt > held.attempt and not held.signed
    return record.ctx == held.ctx and record.phase >= held.phase and held.signed in (b"", record.signed)


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """What the durable records say beside this attempt: that of the same (run, round), and in how many other rounds an
    input was signed that may be in a sum."""

    record: Record | None = None
    signed_on_model: int = 0
    signed_on_data: int = 0
    reserved: bool = True
    """Whether the privacy ledger holds a reservation that covers this attempt."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """Who this partner is, and whom its pinned roster names."""

    id: int
    identity: Ed25519PrivateKey
    identities: Mapping[int, bytes]
    roster_digest: bytes
    server_key: bytes
    limits: Limits = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Secrets:
    """Drawn once for an attempt, and gone with it. The repr shows nothing."""

    encryption: bytes = dataclasses.field(repr=False)
    mask_seed: int = dataclasses.field(repr=False)
    self_seed: int = dataclasses.field(repr=False)
    ring_seed: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A dealer's shares that this member holds."""

    secret: int = dataclasses.field(repr=False)
    own: int = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """The encoded input, packed, and where its masked bytes are to go."""

    data: bytes | bytearray | memoryview = dataclasses.field(repr=False)
    room: Room


@dataclasses.dataclass(frozen=True)
class ClientState:
    """One attempt. `answers` are what was answered to which bytes; `last` is the last message, for a resumption."""

    phase: Phase
    member: Member
    context: RoundContext
    record: Record
    secrets: Secrets | None = dataclasses.field(default=None, repr=False)
    ad: Advertise | None = None
    roster: RosterMessage | None = None
    attempt: Attempt | None = None
    held: Mapping[int, Held] = dataclasses.field(default_factory=dict, repr=False)
    """Shares by the dealer's index, this member's own among them."""
    sharers: frozenset[int] = frozenset()
    survivors: frozenset[int] = frozenset()
    lanes: Packed | None = dataclasses.field(default=None, repr=False)
    answers: Mapping[tuple[Kind, bytes], tuple[Action, ...]] = dataclasses.field(default_factory=dict, repr=False)
    last: tuple[Action, ...] = dataclasses.field(default=(), repr=False)

    @property
    def index(self) -> int:
        """This member's index in the attempt."""
        assert self.attempt is not None  # noqa: S101  (asked for after the roster alone)
        return self.attempt.index[self.member.id]

    @property
    def near(self) -> frozenset[int]:
        """N[i]: the neighbours and this member."""
        assert self.attempt is not None  # noqa: S101
        return frozenset({self.index, *self.attempt.neighbours[self.index]})


@dataclasses.dataclass(frozen=True, slots=True)
class Persist:
    """Make this durable before anything that follows is sent."""

    record: Record


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """A message to the server."""

    kind: Kind
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class SendInput:
    """The masked input: a header on the control stream, its payload by the resumable transfer."""

    header: bytes
    payload: bytes | memoryview = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The attempt is over here: with a fault, or, without, because this partner's part is done."""

    fault: Fault | None


Action = Persist | Send | SendInput | Ended
Outcome = tuple[ClientState, tuple[Action, ...]]


def answered(state: ClientState, kind: Kind, data: bytes, actions: tuple[Action, ...]) -> Outcome:
    """Remember what was answered to these bytes."""
    answers = {**state.answers, (kind, hashlib.sha256(data).digest()): actions}
    spoken = tuple(action for action in actions if isinstance(action, Send | SendInput))
    return dataclasses.replace(state, answers=answers, last=spoken or state.last), actions
