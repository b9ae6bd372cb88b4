"""What is served under one name at one moment, what can happen to it, and what follows: frozen values.

At most three versions are in memory: the one that serves, the former one while the one that serves is on probation, and
one that is coming. `serving` never becomes None again.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final, Literal

from aimass.proto.serving_views import ColumnDrift
from aimass.proto.values import Value
from aimass.server.serving.watching.figures import NONE, Figures
from aimass.server.serving.watching.moments import Moment

__all__ = [
    "NOTHING",
    "Action",
    "Again",
    "Away",
    "Coming",
    "Drifted",
    "Event",
    "Examine",
    "Examined",
    "Failed",
    "Fetch",
    "Fetched",
    "Keep",
    "Load",
    "Loaded",
    "Memory",
    "Promoted",
    "Refusal",
    "Release",
    "Remember",
    "Retrain",
    "Retrained",
    "Retraining",
    "Seen",
    "Serving",
    "Shift",
    "Stage",
    "Started",
    "State",
    "Tell",
    "Tick",
    "Tried",
    "Try",
    "Unload",
    "Unsaid",
]


class Release(Value, frozen=True):
    """A version of the model: its number, the digest of its document, and when it was made."""

    number: int
    digest: str
    created_at: float = 0.0

    def __str__(self) -> str:
        return f"version {self.number}"


class Again(enum.StrEnum):
    """Whether what failed is tried again: not for this promotion, a few times, or until it works."""

    NEVER = "never"
    SOME = "some"
    ALWAYS = "always"


class Refusal(Value, frozen=True):
    """A version that failed at `at`, for the `tries`-th time under the alias's state `entry`."""

    release: Release
    entry: int
    at: float
    reason: str
    again: Again
    tries: int = 1


class Memory(Value, frozen=True):
    """What outlives the process: versions that were good here, the newest last, and those that were not.

    `entry` is the newest state of the alias that was seen, of what is served as `target`.
    """

    target: str = ""
    entry: int = 0
    good: tuple[Release, ...] = ()
    refused: tuple[Refusal, ...] = ()


NOTHING: Final = Memory()


class Stage(enum.StrEnum):
    """What is being done with a version that is coming."""

    FETCHING = "fetching"
    LOADING = "loading"
    TESTING = "testing"
    CANARY = "canary"


@dataclasses.dataclass(frozen=True, slots=True)
class Coming:
    """A version on its way; `figures` are of its canary, and `beside` what the serving one did meanwhile. `before` are
    the requests that it had when its present share began.

    With `at_once` it takes all requests after its test: it was good here before, or nothing better serves.
    """

    release: Release
    stage: Stage
    since: Moment
    step: int = 0
    before: int = 0
    at_once: bool = False
    figures: Figures = NONE
    beside: Figures = NONE


@dataclasses.dataclass(frozen=True, slots=True)
class Serving:
    """The version that most requests go to. Until it is `settled` it is compared with `baseline`, the former one's.

    `canary` are its figures while it had a share, `answered` its requests in all. `beside` is what the former one did
    meanwhile, as it was asked what this one could not answer. `figures` are of the time since `window_since`, or since
    it serves.
    """

    release: Release
    since: Moment
    settled: bool
    figures: Figures = NONE
    window_since: Moment | None = None
    canary: Figures = NONE
    baseline: Figures = NONE
    beside: Figures = NONE
    answered: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Retraining:
    """That training was asked for because of a version, so that it is once; `again_at` is when what failed is tried
    again, for the `tries`-th time then. Nothing is while an answer is awaited, or once a run was submitted."""

    release: Release
    reason: str
    tries: int = 1
    again_at: Moment | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """All of it. `kept` is what was last good on this disk, `told` are topics that
    were told and have not ended since, each with the digest of the version that it was told of. `refused_at` are the
    moments of those refusals, by digest, that are not from before the process began."""

    target: str
    memory: Memory = NOTHING
    kept: Release | None = None
    started_at: Moment | None = None
    promoted: Promoted | None = None
    away_since: Moment | None = None
    moves: tuple[Moment, ...] = ()
    serving: Serving | None = None
    former: Release | None = None
    coming: Coming | None = None
    examined_at: Moment | None = None
    refused_at: Mapping[str, Moment] = dataclasses.field(default_factory=dict)
    retraining: Retraining | None = None
    told: frozenset[tuple[str, str]] = frozenset()

    @property
    def in_memory(self) -> tuple[Release, ...]:
        """What is loaded, or may be: loading is not known to have ended."""
        held = [self.serving.release] if self.serving is not None else []
        held += [self.former] if self.former is not None else []
        if self.coming is not None and self.coming.stage is not Stage.FETCHING:
            held.append(self.coming.release)
        return tuple(held)


# ---------------------------------------------------------------- what can happen


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """The process began, with what it remembers and the version that is on its disk."""

    memory: Memory = NOTHING
    kept: Release | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Promoted:
    """What the registry says is to be served: by the alias's state `entry`, 0 for a version that is named by number."""

    release: Release
    entry: int = 0
    reason: str = ""
    by: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Away:
    """The registry did not answer, or answered what cannot be verified."""

    code: str
    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """A version is on this disk, verified."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A version is in memory, warm, and its parameters there have the digest that was signed."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """What a version answered to its smoke inputs: `wrong` says what, `inputs` how many there were."""

    release: Release
    inputs: int = 0
    wrong: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """Fetching, loading or testing a version failed."""

    release: Release
    what: str
    code: str = ""
    again: Again = Again.SOME


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What versions did since the last time, by number."""

    figures: Mapping[int, Figures]


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """What came of an examination of a version that serves: `wrong` says what, where something is."""

    release: Release
    wrong: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Drifted:
    """What a window of live rows, or of answers to them, came to; columns that drifted first."""

    release: Release
    kind: Literal["input", "output"]
    columns: tuple[ColumnDrift, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Retrained:
    """What came of asking for training: the `run` that was submitted, or what is `wrong`."""

    release: Release
    run: str = ""
    wrong: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Unsaid:
    """Columns of a version that cannot be watched for drift, and why."""

    release: Release
    columns: tuple[str, ...]
    reason: str


Event = (
    Started
    | Tick
    | Promoted
    | Away
    | Fetched
    | Loaded
    | Tried
    | Failed
    | Seen
    | Examined
    | Drifted
    | Unsaid
    | Retrained
)


# ---------------------------------------------------------------- what is to be done


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """Bring it to this disk and verify it."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Bring it into memory, warm it up, and compare the digest of what is there."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Try:
    """Send it its smoke inputs."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Shift:
    """Divide the requests; the `fallback` answers those on which another errs."""

    shares: tuple[tuple[Release, float], ...]
    fallback: Release | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """It is good: keep it on this disk, for a start without the registry."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Unload:
    """Take it out of memory, or give up loading it."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Examine:
    """Ask for the digest of what is in memory, and send the smoke inputs."""

    release: Release


@dataclasses.dataclass(frozen=True, slots=True)
class Remember:
    """Write down what outlives the process."""

    memory: Memory


@dataclasses.dataclass(frozen=True, slots=True)
class Retrain:
    """Submit the plan that makes the next version."""

    release: Release
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tell:
    """A line of the audit log: what was decided or found, and why. `kind` is its stable name."""

    kind: str
    text: str
    release: Release | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)


Action = Fetch | Load | Try | Shift | Keep | Unload | Examine | Remember | Retrain | Tell
