"""What was spent of a data set's privacy, as frozen values: which mechanism ran, how often, and whom it protects.

An event is all that an accountant needs and all that a ledger keeps. Its canonical JSON is what is hashed. Nothing here
imports an accounting library, so that plans and ledgers are read where none is installed.

Units form a chain: a partner holds persons, a person has examples. An event bounds its own unit and every smaller one,
and says nothing of a larger one. Towards a smaller unit its sensitivity doubles: taking one row out of a clipped
contribution does not take the contribution away, it turns one vector of norm C into another.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = [
    "MOST_EPSILON",
    "MOST_TIMES",
    "UNCOUNTED_DELTA",
    "Budget",
    "DiscreteGaussian",
    "Event",
    "FixedSizeGaussian",
    "Gaussian",
    "Mechanism",
    "PoissonGaussian",
    "Relation",
    "Skellam",
    "Tally",
    "Terms",
    "TruncatedPoissonGaussian",
    "Unit",
    "check_delta",
    "events_of",
    "tally",
]

MOST_EPSILON: Final = 50.0
"""A larger budget promises nothing (a likelihood ratio beyond 10^21), and its figures take minutes to compute."""

UNCOUNTED_DELTA: Final = 1e-5
"""The largest delta over units that nobody counts: one in a hundred thousand, which who has more has to undercut."""

MOST_TIMES: Final = 10**9
"""Runs of one mechanism that one event stands for."""

Times = Annotated[int, msgspec.Meta(ge=1, le=MOST_TIMES)]
Records = Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Unit(enum.StrEnum):
    """Whose presence is hidden: one row, all rows of one person, or all that one partner contributes."""

    EXAMPLE = "example"
    PERSON = "person"
    PARTNER = "partner"

    @property
    def size(self) -> int:
        """Place in the chain; the larger holds the smaller."""
        return list(Unit).index(self)

    @classmethod
    def widest(cls, units: Iterable[Unit]) -> Unit:
        """The largest of them; an example, which is in all of them, where there is none."""
        return max(units, key=lambda unit: unit.size, default=cls.EXAMPLE)


class Relation(enum.StrEnum):
    """Which two data sets must be hard to tell apart: a unit is in one and absent, zeroed, or another in the other."""

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_SPECIAL = "replace-special"
    REPLACE_ONE = "replace-one"


class PoissonGaussian(Value, frozen=True, tag="poisson-gaussian", tag_field="kind"):
    """A clipped sum over a Poisson sample with Gaussian noise: each unit is in it with probability `q`, by itself.

    `sigma` is the noise multiplier: the standard deviation divided by the clipping norm. `q` is what the loader really
    used. Abadi et al. 2016.
    """

    q: float
    sigma: float

    def __post_init__(self) -> None:
        _checked(self, "sigma", "noise")
        _checked(self, "q", "sampling", most=1.0)


class TruncatedPoissonGaussian(Value, frozen=True, tag="truncated-poisson-gaussian", tag_field="kind"):
    """Poisson sampling from `records` units whose batch is cut at `cap`, for accelerators that want a fixed size."""

    q: float
    sigma: float
    records: Records
    cap: Annotated[int, msgspec.Meta(ge=1)]

    def __post_init__(self) -> None:
        _checked(self, "sigma", "noise")
        _checked(self, "q", "sampling", most=1.0)
        _whole("records", self.records)
        _whole("cap", self.cap)


class FixedSizeGaussian(Value, frozen=True, tag="fixed-size-gaussian", tag_field="kind"):
    """`sample` of `records` units without replacement, then Gaussian noise. It has a bound for `REPLACE_ONE` alone.

    Prefer Poisson sampling: the same noise costs ten times as much here.
    """

    sample: Annotated[int, msgspec.Meta(ge=1)]
    records: Records
    sigma: float

    def __post_init__(self) -> None:
        _checked(self, "sigma", "noise")
        _whole("records", self.records)
        _whole("sample", self.sample)
        if self.sample > self.records:
            raise _bad("a sample is larger than what it is drawn from", "sampling", self.sample, self.records)


class Gaussian(Value, frozen=True, tag="gaussian", tag_field="kind"):
    """A clipped sum over all units, noise of `sigma` times the clipping norm; a whole matrix mechanism is one too."""

    sigma: float

    def __post_init__(self) -> None:
        _checked(self, "sigma", "noise")


class DiscreteGaussian(Value, frozen=True, tag="discrete-gaussian", tag_field="kind"):
    """Distributed discrete Gaussian noise inside a secure sum, as `rho`-zCDP with the slack `xi` of summing shares.

    Kairouz, Liu, Steinke 2021, theorem 1. There is no amplification by sampling: it is as if all took part. For a
    partner it has no bound under `ADD_OR_REMOVE_ONE`: one that is absent takes its share of the noise along.
    """

    rho: float
    xi: float

    def __post_init__(self) -> None:
        _checked(self, "rho", "noise")
        _checked(self, "xi", "noise", least=0.0)


class Skellam(Value, frozen=True, tag="skellam", tag_field="kind"):
    """Skellam noise of variance `mu` in the sum, on integers with norms `l2` and `l1`. Agarwal, Kairouz, Liu 2021."""

    mu: float
    l2: float
    l1: float

    def __post_init__(self) -> None:
        for name in ("mu", "l2", "l1"):
            _checked(self, name, "noise")


Mechanism = PoissonGaussian | TruncatedPoissonGaussian | FixedSizeGaussian | Gaussian | DiscreteGaussian | Skellam


class Event(Value, frozen=True):
    """`times` independent runs of a mechanism that protects `unit`."""

    mechanism: Mechanism
    unit: Unit
    times: Times = 1

    def __post_init__(self) -> None:
        _whole("times", self.times, MOST_TIMES)


class Terms(Value, frozen=True):
    """What a figure is a figure of: epsilon says nothing without these three."""

    unit: Unit
    relation: Relation
    delta: float

    def __post_init__(self) -> None:
        _checked(self, "delta", "delta", below=1.0)

    @classmethod
    def usual(cls, unit: Unit, delta: float) -> Terms:
        """By the relation that budgets and plans are stated for: one more or less of a unit; of a partner, that what it
        contributed is hidden, since noise inside a secure sum cannot hide that it took part."""
        relation = Relation.REPLACE_SPECIAL if unit is Unit.PARTNER else Relation.ADD_OR_REMOVE_ONE
        return cls(unit=unit, relation=relation, delta=delta)


class Budget(Value, frozen=True):
    """The most that a data set may ever spend towards one unit."""

    terms: Terms
    epsilon: float

    def __post_init__(self) -> None:
        _checked(self, "epsilon", "budget", most=MOST_EPSILON)


Tally = Mapping[tuple[Mechanism, Unit], int]
"""How often each mechanism ran for each unit; the order of events does not matter to what they cost."""


def tally(events: Iterable[Event]) -> Tally:
    """Events with equal ones merged."""
    counts: Counter[tuple[Mechanism, Unit]] = Counter()
    for event in events:
        counts[event.mechanism, event.unit] += event.times
    return counts


def events_of(counts: Tally) -> tuple[Event, ...]:
    """The events of a tally, without those that did not happen."""
    return tuple(Event(mechanism=kind, unit=unit, times=times) for (kind, unit), times in counts.items() if times)


def check_delta(delta: float, units: int) -> None:
    """Refuse a delta above 1/n, n being how many units there are: it would allow to publish one of them whole.

    Of 0 units n is not known, and `UNCOUNTED_DELTA` stands for 1/n. The refusal may be told to a server, so it does not
    say n.
    """
    uncounted = f"at most {UNCOUNTED_DELTA:g}, as nobody knows that number"
    if not 0 < delta <= (1 / units if units else UNCOUNTED_DELTA):
        raise BadInput(
            "delta is larger than one in the number that it protects",
            code="dp.delta",
            value=delta,
            limit="at most one in that number" if units else uncounted,
            cure="Choose a delta well below that; a tenth is usual.",
        )


def _checked(
    value: Value, name: str, code: str, *, least: float | None = None, most: float = math.inf, below: float = math.inf
) -> None:
    """Refuse a number outside its range, NaN included; a whole number becomes a float: equal values, equal bytes."""
    found = float(getattr(value, name))
    low = found > 0 if least is None else found >= least
    if not (low and math.isfinite(found) and found <= most and found < below):
        lowest = "above 0" if least is None else f"at least {least:g}"
        highest = f", at most {most:g}" if math.isfinite(most) else f", below {below:g}" if math.isfinite(below) else ""
        raise _bad(f"{name} is outside its range", code, found, lowest + highest)
    msgspec.structs.force_setattr(value, name, found + 0.0)


def _whole(name: str, found: int, most: int = 10**12) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
        raise _bad(f"{name} is not a whole number in its range", "count", found, f"1 to {most}")


def _bad(what: str, code: str, value: object, limit: object) -> BadInput:
    return BadInput(what, code=f"dp.{code}", value=value, limit=limit, cure="Correct the plan or the policy.")
