"""The lines of a ledger, as they are written, hashed and read again for as long as the data set lives.

A field that is added has a default that means what a line without it meant.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from aimass.privacy.dp.events import Budget, Event
from aimass.privacy.dp.sketch import Sketch
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.values import Value

__all__ = [
    "START",
    "Accepted",
    "Body",
    "Budgeted",
    "Committed",
    "Doubted",
    "EntryState",
    "Head",
    "LedgerId",
    "Line",
    "Opened",
    "Released",
    "Reserved",
    "Sketched",
    "Spent",
    "Started",
    "StudyClosed",
    "StudyOpened",
]

START = "0" * 64
"""The head before the first line."""

LedgerId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
"""Sixteen random bytes: a ledger that was deleted and begun again is another one."""

Number = Annotated[int, msgspec.Meta(ge=1)]
Events = Annotated[tuple[Event, ...], msgspec.Meta(min_length=1, max_length=1000)]


class EntryState(enum.StrEnum):
    """How far what was reserved has come."""

    RESERVED = "reserved"
    TRAINING = "training"
    RELEASED = "released"
    COMMITTED = "committed"
    SPENT = "spent"


class Head(Value, frozen=True):
    """How far a ledger goes, for receipts: its number of lines and the SHA-256 of the last."""

    ledger: LedgerId
    lines: int
    head: Digest


class Opened(Value, frozen=True, tag="opened", tag_field="line"):
    """The first line."""

    data_set: Name
    ledger: LedgerId
    at: float


class Budgeted(Value, frozen=True, tag="budgeted", tag_field="line"):
    """The partner's budgets from here on, at most one for a unit; what was spent under others stays spent."""

    budgets: tuple[Budget, ...]
    at: float


class Reserved(Value, frozen=True, tag="reserved", tag_field="line"):
    """The most that a step of a run may spend, alone or out of a study."""

    number: Number
    run_id: RunId
    round: int
    purpose: Name
    events: Events
    at: float
    study: Number | None = None


class Started(Value, frozen=True, tag="started", tag_field="line"):
    """Written before data is touched."""

    number: Number
    at: float


class Released(Value, frozen=True, tag="released", tag_field="line"):
    """Cancelled before it started, by the process that reserved it."""

    number: Number
    at: float


class Committed(Value, frozen=True, tag="committed", tag_field="line"):
    """Finished: what was really spent, and the digest of the encoded update, which may be sent again."""

    number: Number
    events: tuple[Event, ...]
    result: Digest
    at: float


class Spent(Value, frozen=True, tag="spent", tag_field="line"):
    """Found open after a restart: it counts in full."""

    number: Number
    at: float


class StudyOpened(Value, frozen=True, tag="study-opened", tag_field="line"):
    """A whole study's reservation; its trials reserve out of it, `trials` runs at most (0: any number).

    `terms` is the digest of what was asked for, so that another study under the same name is noticed.
    """

    number: Number
    name: Name
    events: Events
    at: float
    trials: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    terms: Digest | None = None


class StudyClosed(Value, frozen=True, tag="study-closed", tag_field="line"):
    """What its trials did not reserve is free again."""

    number: Number
    at: float


class Sketched(Value, frozen=True, tag="sketched", tag_field="line"):
    """The rows as they are now; `another` are overlapping data sets that the partner says are others."""

    sketch: Sketch
    another: tuple[Name, ...]
    at: float


class Doubted(Value, frozen=True, tag="doubted", tag_field="line"):
    """A head that this partner signed and that these lines do not lead to: nothing is reserved until it is accepted."""

    head: Head
    at: float


class Accepted(Value, frozen=True, tag="accepted", tag_field="line"):
    """The partner's word that this copy is to be gone on with; `lost` is what the other had spent beyond it.

    From here on it is the ledger of another id, so that a head tells whether it was made before this word or after.
    """

    head: Head
    lost: tuple[Event, ...]
    at: float
    number: Number
    ledger: LedgerId | None = None


Body = (
    Opened
    | Budgeted
    | Reserved
    | Started
    | Released
    | Committed
    | Spent
    | StudyOpened
    | StudyClosed
    | Sketched
    | Doubted
    | Accepted
)


class Line(Value, frozen=True):
    """A line: its place, the SHA-256 of the line before it, and what it says."""

    place: Number
    previous: Digest
    body: Body
