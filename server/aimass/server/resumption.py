"""Whether a run can go on with what this server has: its drivers, and the models that it works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aimass.proto.errors import NotFound
from aimass.server.drivers.base import Driver
from aimass.server.runs import Run

__all__ = ["hindrance", "needed_models"]


def needed_models(run: Run) -> frozenset[str]:
    """Models without which a run cannot go on: its first, its newest, what its open steps were opened with; and what
    its driver's state names."""
    inputs = {
        digest
        for state in run.open.values()
        for digests in (state.step.inputs, *state.step.addressed.values())
        for digest in digests
    }
    return frozenset({run.plan.model, run.model, *inputs}) | run.named


def hindrance(run: Run, drivers: Mapping[str, Driver], has: Callable[[str], bool]) -> NotFound | None:
    """Why a run cannot go on; None where nothing hinders it. `has` says whether a model is here. It may block."""
    for stage in run.plan.stages[run.stage :]:
        try:
            drivers[stage.driver]
        except NotFound as error:
            return error
    for digest in sorted(needed_models(run)):
        if not has(digest):
            return NotFound(
                "a model that the run goes on from is not on this server's disk",
                code="model.missing",
                value=digest[:16],
                cure="Look at this disk, and submit the run again.",
            )
    return None
