"""What the server holds of an attempt, what can happen to it, and what follows: the values of the server's machine."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Fault
from aimass.privacy.secagg.messages import Advertise, MaskedInput, RosterMessage, ShareKeys, Unmask
from aimass.privacy.secagg.parameters import Profile

__all__ = [
    "Action",
    "Deliver",
    "Ended",
    "Event",
    "Finish",
    "Freeze",
    "From",
    "GiveUp",
    "Input",
    "Outcome",
    "Phase",
    "ServerState",
    "TimeUp",
]


class Phase(enum.IntEnum):
    """What the server waits for, in order."""

    ADVERTISE = 1
    REVEAL = 2
    SHARE = 3
    INPUT = 4
    SIGN = 5
    UNMASK = 6
    DONE = 7
    ABORTED = 8


@dataclasses.dataclass(frozen=True)
class ServerState:
    """One attempt; maps are by roster id, sets of members by index. It holds nothing that the log does not."""

    phase: Phase
    context: RoundContext
    identities: Mapping[int, bytes]
    start: bytes
    ads: Mapping[int, Advertise] = dataclasses.field(default_factory=dict)
    ad_keys: Mapping[bytes, int] = dataclasses.field(default_factory=dict, repr=False)
    """The public keys of `ads`, and whose they are: none may come twice."""
    roster: RosterMessage | None = None
    reveals: Mapping[int, bytes] = dataclasses.field(default_factory=dict, repr=False)
    attempt: Attempt | None = None
    keys: Mapping[int, ShareKeys] = dataclasses.field(default_factory=dict)
    sharers: frozenset[int] = frozenset()
    inputs: Mapping[int, MaskedInput] = dataclasses.field(default_factory=dict)
    survivors: frozenset[int] = frozenset()
    signatures: Mapping[int, bytes] = dataclasses.field(default_factory=dict)
    unmasked: Mapping[int, Unmask] = dataclasses.field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    """Members that said that they are out: nobody waits for them any more."""
    accused: Mapping[int, frozenset[int]] = dataclasses.field(default_factory=dict)
    """Whom members blamed as they left, by whom."""
    shares: Mapping[int, Mapping[int, int]] = dataclasses.field(default_factory=dict, repr=False)
    """Revealed shares that fit their commitments, by holder and dealer (indices)."""
    counts: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """How many of them each dealer's seed has."""
    set_aside: tuple[Fault, ...] = ()
    """Shares that did not fit their commitments: dealer and holder are named, neither is proven guilty."""
    last: Mapping[int, tuple[tuple[Kind, bytes], ...]] = dataclasses.field(default_factory=dict, repr=False)
    """What each member was told last and may not have seen, in order, for one that comes back."""

    @property
    def guilty(self) -> tuple[int, ...]:
        """Members whom more others blame than the colluders that are tolerated, and more than one: not all of them lie.

        A dealer can send each holder a box that does not open, and push all of them out of one attempt after another.
        """
        liars = max(1, self.roster.c if self.roster is not None else 0)
        return tuple(sorted(member for member, by in self.accused.items() if len(by - {member}) > liars))

    @property
    def least(self) -> int:
        """Fewest members that may go on."""
        if self.attempt is not None:
            return self.attempt.least
        if self.roster is not None and self.context.profile is Profile.MALICIOUS:
            return max(self.roster.T, self.context.min_cohort)
        return self.context.min_cohort


@dataclasses.dataclass(frozen=True, slots=True)
class From:
    """A message of a member."""

    id: int
    kind: Kind
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """A masked input that is whole and durable: its header, and what was found of its payload while it moved."""

    id: int
    header: bytes
    length: int
    payload_digest: bytes
    padded: bool
    """Whether the bits beyond the last lane are zero."""


@dataclasses.dataclass(frozen=True, slots=True)
class TimeUp:
    """The phase's deadline has passed."""


@dataclasses.dataclass(frozen=True, slots=True)
class GiveUp:
    """The attempt cannot come to a sum that may be used: whoever runs the machine says why."""

    what: str


Event = From | Input | TimeUp | GiveUp


@dataclasses.dataclass(frozen=True, slots=True)
class Deliver:
    """A message to a member."""

    id: int
    kind: Kind
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Freeze:
    """The survivors are fixed: accumulator, U1 and U2 are durable before anything that follows is sent."""

    survivors: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Finish:
    """All masks are known: take the streams of `plus` from the accumulator and add those of `minus` (see `unmask`)."""

    plus: tuple[bytes, ...] = dataclasses.field(repr=False)
    minus: tuple[bytes, ...] = dataclasses.field(repr=False)
    survivors: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The attempt is over without a sum; `absent` are the ids that were waited for in vain."""

    fault: Fault
    absent: tuple[int, ...] = ()


Action = Deliver | Freeze | Finish | Ended
Outcome = tuple[ServerState, tuple[Action, ...]]
