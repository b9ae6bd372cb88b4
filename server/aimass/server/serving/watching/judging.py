"""When a version does worse than it may, beside the one before it: tests that may be asked every second. Pure.

A version that is no worse is found to be worse with probability `Limits.alpha` at most over its whole rollout. Each
test has an equal part of that (Bonferroni), and is made twice: of all requests since the first share, and, so that who
turns bad late is found at once, of those since it has all of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Final

from aimass.server.serving.watching.evidence import Rate, mixed, more_often, too_often
from aimass.server.serving.watching.figures import Figures, shown_time
from aimass.server.serving.watching.settings import Limits

__all__ = ["Fault", "fault"]

_TIMES_S: Final = tuple(2.0**power for power in range(-16, 8))
"""Moments at which the times of two versions are compared, from 15 microseconds to two minutes."""
_TESTS: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Why a version may not go on, in words, and how strong the evidence is; `passing` where a crowd or a busy machine
    may have been the cause."""

    why: str
    evidence: float
    passing: bool = False


def fault(new: Figures, old: Figures | None, limits: Limits) -> Fault | None:
    """What a version does worse than it may.

    With `old`, figures of the version before it, all of it is compared; without, what is late may be the crowd's fault,
    and errors alone are held against `limits.error_rate`.
    """
    found: list[Fault | None] = [_errors(new, old, limits)]
    if old is not None:
        found += [_late(new, old, limits), _slow(new, old, limits), _same(new, old)]
    enough = math.log(2 * _TESTS / limits.alpha)
    return next((one for one in found if one is not None and one.evidence >= enough), None)


def _errors(new: Figures, old: Figures | None, limits: Limits) -> Fault:
    failed, before = Rate(new.errors, new.requests), _rate(old, lambda figures: figures.errors)
    why = f"it failed {failed.events} of {failed.requests} requests, and may fail {_allowed(before, limits)}"
    return Fault(why, _worse(failed, before, limits))


def _late(new: Figures, old: Figures, limits: Limits) -> Fault:
    late, before = Rate(new.late, new.requests), _rate(old, lambda figures: figures.late)
    why = f"it was late with {late.events} of {late.requests} requests, and may be with {_allowed(before, limits)}"
    return Fault(why, _worse(late, before, limits), passing=True)


def _slow(new: Figures, old: Figures, limits: Limits) -> Fault | None:
    """Whether its times, divided by `slower`, are longer than those before, at any of the moments."""
    if min(sum(old.seconds), sum(new.seconds)) < limits.least_requests:
        return None
    pairs = [(at_s, limits.slower * at_s + limits.slack_s) for at_s in _TIMES_S]
    logs = [more_often(new.longer_than(may_s), old.longer_than(at_s)) for at_s, may_s in pairs]
    at_s, may_s = pairs[logs.index(max(logs))]
    why = (
        f"{_percent(new.longer_than(may_s))} of its answers took more than {shown_time(may_s)}, where "
        f"{_percent(old.longer_than(at_s))} of the version before it took more than {shown_time(at_s)}"
    )
    return Fault(why, mixed(logs), passing=True)


def _same(new: Figures, old: Figures) -> Fault | None:
    """Whether it gives one answer to all, where the version before it gave others."""
    kinds = [place for place, count in enumerate(new.answers) if count]
    if len(kinds) != 1 or not old.answers:
        return None
    given, before = sum(new.answers), sum(old.answers)
    others = Rate(before - sum(old.answers[kinds[0] : kinds[0] + 1]), before)
    why = (
        f"it gave the same answer to all {given} requests that were looked at; the version before it gave others "
        f"to {_percent(others)}"
    )
    return Fault(why, more_often(others, Rate(0, given)))


def _rate(figures: Figures | None, events: Callable[[Figures], int]) -> Rate | None:
    return Rate(events(figures), figures.requests) if figures is not None and figures.requests else None


def _worse(rate: Rate, before: Rate | None, limits: Limits) -> float:
    """Above what is allowed to all, and above what the version before it makes allowed."""
    if rate.events < limits.least_errors:
        return 0.0
    above = too_often(rate, limits.error_rate)
    return above if before is None else min(above, more_often(rate, before, limits.worse))


def _allowed(before: Rate | None, limits: Limits) -> str:
    share = limits.worse * before.events / before.requests if before is not None else 0.0
    return f"{100 * max(limits.error_rate, share):.3g} %"


def _percent(rate: Rate) -> str:
    return f"{100 * rate.events / rate.requests:.3g} %"
