"""Latency over time while models are swapped, with what was done when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from scripts.benches.checked_load import Records, Verdict
from scripts.benches.swap_schedule import Happened, Kind

__all__ = ["draw_time"]

_MARKS: Final = {Kind.KILL: ("worker killed", "#b0643c"), Kind.BAD: ("bad version promoted", "#7a1f6f")}


def draw_time(records: Records, happened: Sequence[Happened], path: Path) -> None:
    """Write the PNG: p50, p99 and the longest of each second, failures as crosses, events as lines."""
    at_s, took_ms = records.at_s, records.took_s * 1_000
    seconds = np.floor(at_s).astype(int)
    moments = np.unique(seconds)
    by_second = [took_ms[seconds == second] for second in moments]
    figure, axes = plt.subplots(figsize=(11, 4.2), layout="constrained")
    for name, share, colour in (("p50", 50, "#1f6f6b"), ("p99", 99, "#5b4a9c"), ("longest", 100, "#b9bdc4")):
        axes.plot(moments, [np.percentile(one, share) for one in by_second], color=colour, label=name, linewidth=1)
    failed = records.verdict != Verdict.RIGHT
    if failed.any():
        axes.plot(at_s[failed], took_ms[failed], "x", color="red", label="failed")
    for kind, (name, colour) in _MARKS.items():
        found = [one.at_s for one in happened if one.kind is kind]
        for place, at in enumerate(found):
            axes.axvline(at, color=colour, linewidth=0.6, alpha=0.6, label=name if place == 0 else None)
    for away, back in _absences(happened):
        axes.axvspan(away, back, color="#8a8f98", alpha=0.2, linewidth=0)
    axes.set(yscale="log", xlabel="seconds; versions are swapped from 0 on; grey: registry away", ylabel="ms")
    axes.legend(loc="upper right", fontsize=7, ncols=6)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _absences(happened: Sequence[Happened]) -> list[tuple[float, float]]:
    gone = [one.at_s for one in happened if one.kind is Kind.AWAY]
    back = [one.at_s for one in happened if one.kind is Kind.BACK]
    return list(zip(gone, back, strict=False))
