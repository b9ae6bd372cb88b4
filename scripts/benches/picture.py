"""A benchmark's picture: a bar for each figure with its range, a group for each unit, what was aimed at as a line, a
peer's figure as a diamond."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from scripts.benches.row import Row

__all__ = ["draw"]

_COLOURS = {None: "#8a8f98", True: "#1f6f6b", False: "#b0643c"}


def draw(name: str, rows: Sequence[Row], path: Path) -> None:
    """Write the PNG. Figures of one unit share an axis, logarithmic where they are orders of magnitude apart."""
    units = list(dict.fromkeys(row.unit for row in rows))
    groups = [[row for row in rows if row.unit == unit] for unit in units]
    heights = [len(group) + 1 for group in groups]
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(9, 0.42 * sum(heights) + 0.6), height_ratios=heights, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for place, unit, group in zip(axes[:, 0], units, groups, strict=True):
        _bars(place, unit, group)
    axes[0, 0].set_title(name, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(axes: plt.Axes, unit: str, rows: Sequence[Row]) -> None:
    positions = range(len(rows))
    values = [row.value for row in rows]
    below = [max(0.0, row.value - row.range[0]) for row in rows]
    above = [max(0.0, row.range[1] - row.value) for row in rows]
    axes.barh(positions, values, 0.6, xerr=(below, above), color=[_COLOURS[row.met] for row in rows], ecolor="#444")
    for position, row in zip(positions, rows, strict=True):
        if row.target is not None:
            axes.plot([row.target] * 2, [position - 0.42, position + 0.42], color="black", linewidth=2)
        if row.peer is not None:
            axes.plot([row.peer], [position], marker="D", color="#5b4a9c", markersize=6)
            axes.annotate("  peer", (row.peer, position), va="center", fontsize=7, color="#5b4a9c")
        shown = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.3g}"
        axes.annotate(f" {shown}", (row.value, position), va="bottom", fontsize=8)
    targets = [row.target for row in rows if row.target is not None]
    targets += [row.peer for row in rows if row.peer is not None]
    if min(values) > 0 and max(*values, *targets, 0) / min(values) > 100:
        axes.set_xscale("log")
    axes.set_yticks(list(positions), [row.metric for row in rows])
    axes.set_xlabel(unit)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
