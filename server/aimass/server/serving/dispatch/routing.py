"""Which version answers a request: by name, by share, or the fallback. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from aimass.proto.errors import BadInput

__all__ = ["NO_ROUTE", "Route", "divided"]

_CLOSE: Final = 1e-9


class Route(msgspec.Struct, frozen=True):
    """A model's versions with the upper ends of their shares in [0, 1), and who answers where they cannot."""

    ends: tuple[tuple[float, int], ...] = ()
    fallback: int | None = None

    def choose(self, draw: Callable[[], float]) -> int | None:
        """A version by the shares; one that has all of them costs no draw."""
        if len(self.ends) == 1:
            return self.ends[0][1]
        drawn = draw() if self.ends else 0.0
        return next((version for end, version in self.ends if drawn < end), self.fallback)

    @property
    def asked(self) -> tuple[int, ...]:
        """All versions that may answer who names none."""
        return (*(version for _, version in self.ends), *(() if self.fallback is None else (self.fallback,)))

    def share(self, version: int) -> float:
        """Its part of the requests."""
        before = 0.0
        for end, each in self.ends:
            if each == version:
                return end - before
            before = end
        return 0.0

    def without(self, version: int) -> Route:
        """The route when a version goes: the others have its share by theirs, the fallback where there is none."""
        shares = {each: self.share(each) for _, each in self.ends if each != version}
        total = sum(shares.values())
        fallback = None if self.fallback == version else self.fallback
        if not total:
            return Route((), fallback) if fallback is None else Route(((1.0, fallback),), None)
        loaded = (*shares, *(() if fallback is None else (fallback,)))
        return divided({each: share / total for each, share in shares.items()}, loaded, fallback)


NO_ROUTE: Final = Route()


def divided(shares: Mapping[int, float], loaded: Collection[int], fallback: int | None) -> Route:
    """The route of these shares; raises `BadInput` where they do not add up to 1, are negative, or name others."""
    absent = [version for version in (*shares, *(() if fallback is None else (fallback,))) if version not in loaded]
    if absent:
        raise BadInput(
            "a share is for a version that is not loaded",
            code="serving.share_version",
            value=", ".join(map(str, absent)),
            limit=", ".join(map(str, loaded)) or "none",
        )
    if any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0, abs_tol=_CLOSE):
        raise BadInput("shares are parts of 1, and add up to it", code="serving.shares", value=dict(shares))
    given = [(version, share) for version, share in shares.items() if share > 0]
    ends = list(itertools.accumulate(share for _, share in given))
    ends[-1] = 1.0
    return Route(tuple(zip(ends, (version for version, _ in given), strict=True)), fallback)
