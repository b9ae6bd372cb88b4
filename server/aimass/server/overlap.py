"""Steps of a run that are open at once: whether its driver has such, and which are given up. Pure.

A step that is given up stands in the history without a result, like one whose secure sum failed: partners count what
they were asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aimass.server import standing, steps
from aimass.server.drivers.base import Context, Driver, Overlapping
from aimass.server.runs import Action, Run, TellClosed, Void

__all__ = ["busy", "may_open", "without", "without_outdated"]


def may_open(run: Run, driver: Driver) -> bool:
    """Whether the driver is asked for steps now: always where its steps overlap, else while none is open."""
    return not run.open or isinstance(driver, Overlapping)


def busy(run: Run) -> frozenset[str]:
    """Partners that have a place in an open step."""
    return frozenset(name for state in run.open.values() for name in state.slots)


def without_outdated(run: Run, driver: Driver, state: object, context: Context) -> tuple[Run, tuple[Action, ...]]:
    """The run without the open steps that its driver has no more use for, in its new `state`."""
    if not isinstance(driver, Overlapping):
        return run, ()
    return without(run, driver.outdated(state, context))


def without(run: Run, reasons: Mapping[int, str]) -> tuple[Run, tuple[Action, ...]]:
    """The run without these open steps, whose partners hear why; who was too slow for them has failed."""
    actions: tuple[Action, ...] = ()
    for index, reason in sorted(reasons.items()):
        closed, told = steps.given_up(run.open[str(index)], reason)
        left = {other: state for other, state in run.open.items() if other != str(index)}
        run, excluded = standing.after_step(msgspec.structs.replace(run, open=left), closed)
        actions += tuple(TellClosed(partner=one.partner, index=index, reason=reason) for one in told)
        actions += (Void(closed=closed, reason=reason), *excluded)
    return run, actions
