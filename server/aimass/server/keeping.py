"""Whether unreferenced objects of a data set or a model may be deleted now: one small document, changed under a
condition.

Who makes a version holds it: nothing is deleted while a hold stands, and while something is deleted no hold is given.
Both are states of one numbered document, so of a writer and a collector who begin together one is told.
Holds and sweeps end by the clock, so that who was killed stands in nobody's way for ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from aimass.proto.errors import Unavailable, WrongState
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, decode_canonical_json

__all__ = ["HOLD_S", "MARGIN_S", "SWEEP_S", "Hold", "Keeping", "change", "held", "let_go", "read_keeping", "with_sweep"]

HOLD_S: Final = 7 * 86_400.0
"""Work that was killed can be resumed for so long; one that goes on renews its hold."""
SWEEP_S: Final = 600.0
"""A collector deletes for so long and no longer."""
MARGIN_S: Final = 60.0
"""How far the clocks of two machines may differ."""


class Keeping(Value, frozen=True):
    """Until when each job holds it, and until when somebody deletes, in Unix time; since when each
    unreferenced object was seen, by store and key."""

    holds: dict[str, float] = {}
    sweeping_until: float | None = None
    since: dict[str, dict[str, float]] = {}


def with_hold(keeping: Keeping, job: str, now: float, term_s: float = HOLD_S) -> Keeping:
    """`job` holds from now on; raises `WrongState` while somebody deletes."""
    _check_sweep(keeping, now)
    return msgspec.structs.replace(keeping, holds={**_standing(keeping, now), job: now + term_s})


def without_hold(keeping: Keeping, job: str) -> Keeping:
    """`job` is over."""
    return msgspec.structs.replace(keeping, holds={name: end for name, end in keeping.holds.items() if name != job})


def with_sweep(keeping: Keeping, now: float) -> Keeping:
    """Somebody deletes from now on; raises `WrongState` where another does, or a job holds it."""
    if standing := _standing(keeping, now):
        raise WrongState(
            "a version is being made, or that was broken off and may be resumed",
            code="keeping.held",
            value=", ".join(sorted(standing)),
            cure="Wait for it, or resume it; a hold that nobody renews ends after a week.",
        )
    _check_sweep(keeping, now)
    return msgspec.structs.replace(keeping, holds={}, sweeping_until=now + SWEEP_S)


def _check_sweep(keeping: Keeping, now: float) -> None:
    if keeping.sweeping_until is not None and now < keeping.sweeping_until + MARGIN_S:
        raise WrongState(
            "what no version refers to is being deleted",
            code="keeping.sweeping",
            limit=f"until {keeping.sweeping_until + MARGIN_S:.0f} in Unix time, or when it is done",
            cure="Try again in a minute.",
        )


def _standing(keeping: Keeping, now: float) -> dict[str, float]:
    return {job: end for job, end in keeping.holds.items() if now < end + MARGIN_S}


def read_keeping(store: ObjectStore, name: str) -> Keeping:
    """The state now."""
    found = Numbered(store, _prefix(name)).newest()
    return Keeping() if found is None else _read(found.data)


def change(store: ObjectStore, name: str, apply: Callable[[Keeping], Keeping]) -> Keeping:
    """Commit what `apply` makes of the state now; raises what it raises."""
    return Numbered(store, _prefix(name)).change(_read, Keeping(), apply)


class Hold:
    """One job's hold: taken before it looks which shards are there already, and kept while it works.

    Who is killed, or stops and may go on later, leaves it to the clock. Raises `WrongState` while somebody deletes.
    """

    def __init__(
        self, store: ObjectStore, name: str, job: str, clock: Callable[[], float], term_s: float = HOLD_S
    ) -> None:
        self._store, self._name, self._job, self._clock, self._term_s = store, name, job, clock, term_s
        self._take()

    def keep(self) -> None:
        """Say that the job lives, for each shard and before the commit: costs something a few times a week.

        Raises `WrongState` where the hold is over, since what stood may have been deleted.
        """
        left = self._until - self._clock()
        if left <= 0:
            raise WrongState(
                "the job slept for so long that what it wrote may have been deleted",
                code="keeping.hold_lost",
                value=self._name,
                cure="Begin the same command again: what stands is taken up.",
            )
        if left < self._term_s / 2:
            self._take()

    def _take(self) -> None:
        taken = change(
            self._store, self._name, lambda keeping: with_hold(keeping, self._job, self._clock(), self._term_s)
        )
        self._until = taken.holds[self._job]


def let_go(store: ObjectStore, name: str, job: str) -> None:
    """End a job's hold, if it has one: its version is committed, or nobody will go on."""
    change(store, name, lambda keeping: without_hold(keeping, job))


@contextmanager
def held(store: ObjectStore, name: str, clock: Callable[[], float], term_s: float) -> Iterator[Hold]:
    """The hold of work that is not resumed: it ends with the block, or `term_s` later where the process was killed."""
    job = secrets.token_hex(8)
    hold = Hold(store, name, job, clock, term_s)
    try:
        yield hold
    finally:
        with suppress(Unavailable):
            let_go(store, name, job)


def _prefix(name: str) -> str:
    return f"{name}/gc"


def _read(data: bytes) -> Keeping:
    return decode_canonical_json(Keeping, data, "what is kept of a data set or model")
