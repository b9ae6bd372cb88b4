"""Which spending a reservation covers, kind by kind: for a study, whose runs have other noise than the dearest of them.

A run of a mechanism is covered by a reserved run of the same mechanism for the same unit that tells at least as much:
the one is the other with more randomness on top (noise added, some of those drawn left out), so whatever bounds the
reserved one bounds it, under each neighbouring relation and however both are composed with others (Dwork and Roth 2014,
proposition 2.1). Each reserved run covers one run. Nothing here computes an epsilon.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from aimass.privacy.dp.events import (
    DiscreteGaussian,
    Event,
    FixedSizeGaussian,
    Gaussian,
    Mechanism,
    PoissonGaussian,
    Skellam,
    Tally,
    TruncatedPoissonGaussian,
    Unit,
    events_of,
)

__all__ = ["MOST_KINDS", "covers", "uncovered"]

MOST_KINDS: Final = 8
"""Of mechanisms in one reservation: a plan has three or four, and the work doubles with each."""


def covers(reserved: Mechanism, asked: Mechanism) -> bool:
    """Whether one run of `reserved` tells at least as much as one of `asked`, for any pair of neighbours.

    Where a batch is cut, no other rate is covered: what is cut depends on it.
    """
    match reserved, asked:
        case PoissonGaussian(), PoissonGaussian():
            return asked.q <= reserved.q and asked.sigma >= reserved.sigma
        case TruncatedPoissonGaussian(), TruncatedPoissonGaussian():
            alike = (asked.q, asked.records, asked.cap) == (reserved.q, reserved.records, reserved.cap)
            return alike and asked.sigma >= reserved.sigma
        case FixedSizeGaussian(), FixedSizeGaussian():
            alike = (asked.sample, asked.records) == (reserved.sample, reserved.records)
            return alike and asked.sigma >= reserved.sigma
        case Gaussian(), Gaussian():
            return asked.sigma >= reserved.sigma
        case DiscreteGaussian(), DiscreteGaussian():
            return asked.rho <= reserved.rho and asked.xi <= reserved.xi
        case Skellam(), Skellam():
            return asked.mu >= reserved.mu and asked.l2 <= reserved.l2 and asked.l1 <= reserved.l1
    return False


def uncovered(asked: Tally, reserved: Tally) -> tuple[Event, ...]:
    """Empty where each run of `asked` has a reserved run of its own that covers it; else runs of which there are more
    than reserved runs that might cover them.

    By Hall's condition: every set of asked kinds has as many reserved runs that cover one of its kinds. It is enough to
    look at unions of what single kinds are covered by. `reserved` has `MOST_KINDS` kinds at most.
    """
    places = {kind: 1 << place for place, kind in enumerate(reserved)}
    wanted: Counter[int] = Counter()
    masks = {kind: _mask(kind, places) for kind in asked}
    for kind, times in asked.items():
        wanted[masks[kind]] += times
    unions = {0}
    for mask in wanted:
        unions |= {union | mask for union in unions}
    for union in sorted(unions):
        room = sum(reserved[kind] for kind, place in places.items() if place & union)
        if sum(times for mask, times in wanted.items() if mask | union == union) > room:
            short = {kind: times for kind, times in asked.items() if masks[kind] | union == union}
            return events_of(short)
    return ()


def _mask(asked: tuple[Mechanism, Unit], places: dict[tuple[Mechanism, Unit], int]) -> int:
    """The reserved kinds that cover a kind, as bits."""
    return sum(place for kind, place in places.items() if kind[1] is asked[1] and covers(kind[0], asked[0]))
