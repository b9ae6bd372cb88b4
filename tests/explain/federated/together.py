"""An analysis carried out step by step over partners in memory: what the engine does, without an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.sums import added
from aimass.proto.analysis import Analysis, AtPartner, Summed, check_sums
from aimass.proto.asks import Ask, Cells, phase_at

__all__ = ["largest_rows", "together"]


def together(analysis: Analysis, ask: Ask, partners: Sequence[AtPartner]) -> list[Summed]:
    """All steps; each partner's sums are held against the phase that the plan would state."""
    analysis.check(ask)
    found: list[Summed] = []
    inputs: dict[str, npt.NDArray[np.float64]] = {}
    while True:
        phase = phase_at(analysis.phases(ask), len(found))
        parts = []
        for partner in partners:
            parts.append(analysis.compute(ask, len(found), dataclasses.replace(partner, inputs=inputs)))
            check_sums(phase, parts[-1])
        found.append(Summed(added(parts), tuple(f"p{place}" for place in range(len(partners)))))
        further = analysis.next(ask, found)
        if further is None:
            return found
        inputs = dict(further)


def largest_rows(
    analysis: Analysis, ask: Ask, found: Sequence[Summed], rows: Sequence[AtPartner]
) -> list[tuple[Cells, float]]:
    """Of each tensor the largest L2 norm of what one of `rows`, partners of one row each, adds to it in any step."""
    most: dict[tuple[int, str], tuple[Cells, float]] = {}
    inputs: dict[str, npt.NDArray[np.float64]] = {}
    for number in range(len(found)):
        for cells in phase_at(analysis.phases(ask), number).cells:
            for row in rows:
                sums = analysis.compute(ask, number, dataclasses.replace(row, inputs=inputs))[cells.name]
                norm = float(np.linalg.norm(sums))
                most[number, cells.name] = cells, max(norm, most.get((number, cells.name), (cells, 0.0))[1])
        inputs = dict(analysis.next(ask, found[: number + 1]) or {})
    return list(most.values())
