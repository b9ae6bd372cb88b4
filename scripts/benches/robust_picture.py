"""The picture of `./scripts/bench robust`: accuracy against the share of liars, a panel an attack, a line a rule."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from scripts.benches.attacks import Attack

__all__ = ["draw"]

_COLOURS: Final = ("#8a8f98", "#1f6f6b", "#b0643c", "#5b4a9c", "#c7a23a")


def draw(
    found: Mapping[tuple[str, str, int], Sequence[float]],
    attacks: Mapping[str, Attack],
    rules: Sequence[str],
    partners: int,
    path: Path,
) -> None:
    """Medians as lines, seeds as points. `found` has accuracies by attack, rule and number of liars."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained", sharex=True, sharey=True)
    for place, (name, attack) in zip(axes.flat, attacks.items(), strict=True):
        for rule, colour in zip(rules, _COLOURS, strict=True):
            shares = sorted(liars for attacked, ruled, liars in found if (attacked, ruled) == (name, rule))
            percent = [100 * liars / partners for liars in shares]
            values = [found[name, rule, liars] for liars in shares]
            place.plot(percent, [statistics.median(one) for one in values], color=colour, label=rule)
            for at, each in zip(percent, values, strict=True):
                place.plot([at] * len(each), each, "o", color=colour, markersize=3, alpha=0.5)
        place.set_title(attack.title, fontsize=9)
        place.spines[["top", "right"]].set_visible(False)
    for place in axes[1]:
        place.set_xlabel(f"% of {partners} partners that lie")
    for place in axes[:, 0]:
        place.set_ylabel("accuracy, %")
    axes[0, 0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
