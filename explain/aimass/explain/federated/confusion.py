"""Confusion, calibration and threshold bands from one federated table: rows by score and by label.

The scores of a class lie in [0, 1], which is public, so its cells need nobody's data. The thresholds are edges of
cells, and so the confusion at each of them, the bands between them and the calibration are sums of whole cells.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Heat, Line, Panel, Picture, Spans, names_axis
from aimass.explain.federated.asking import bounded_model_at
from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.seam import outputs_of, rows_at
from aimass.explain.federated.sums import Floats, Release, Sums, Tables, check_size
from aimass.explain.lineage import Lineage
from aimass.explain.models import Model, asked
from aimass.explain.results import Array, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.words import number, percent
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.errors import BadInput
from aimass.proto.intervals import Z95, wilson
from aimass.proto.values import Value, convert

__all__ = ["ConfusionOptions", "FederatedConfusion", "analysis", "partial", "result", "row_norm", "tables"]

_CAVEATS: Final = (
    "Scores that fit the labels on average may be wrong for a group of rows: see where the model is wrong.",
    "Partners with more rows weigh more.",
)


class ConfusionOptions(Value, frozen=True):
    """How scores are cut."""

    bins: Annotated[int, msgspec.Meta(ge=2, le=200, description="equal parts of the scores, for calibration")] = 10
    thresholds: Annotated[str, msgspec.Meta(description="scores between bands, such as '0.2, 0.5, 0.8'")] = "0.5"

    def __post_init__(self) -> None:
        if not self.cuts or not all(0 < cut < 1 for cut in self.cuts):
            raise ValueError(f"`thresholds` {self.thresholds!r} names no scores between 0 and 1, like '0.2, 0.5'")

    @property
    def cuts(self) -> tuple[float, ...]:
        """The thresholds in order."""
        try:
            return tuple(sorted({float(part) for part in self.thresholds.split(",")}))
        except ValueError:
            return ()

    @property
    def edges(self) -> Floats:
        """float64 [cells + 1]: ends of the bins, the thresholds, and a half, where of two classes one is likelier."""
        return np.unique(np.round(np.concatenate([np.linspace(0, 1, self.bins + 1), self.cuts, (0.5,)]), 12))


def tables(options: ConfusionOptions, outputs: int) -> Tables:
    """Shapes of the sums of a model of so many classes; raises `BadInput` for too many, or for none.

    `cells` counts rows by class asked, score and whether they are of the class; `scores` sums their scores there;
    `classes` counts rows by label and likeliest class. Of two classes the second alone is asked for, and is
    the likelier from a half on: each cell is within one of `classes`. Of more, `labels` counts what both tables tell.
    """
    if outputs < 2:
        raise BadInput("confusion is of classes", code="explain.classes", cure="Ask for `ale` or `pdp` of a number.")
    cells, targets = len(options.edges) - 1, len(_targets(outputs))
    found = {"cells": (targets, cells, 2), "scores": (targets, cells, 2), "classes": (outputs, outputs)}
    if outputs > 2:
        found["labels"] = (outputs,)
    check_size(found)
    return found


def row_norm(outputs: int) -> float:
    """The largest L2 norm of what one row adds: a one and a score for each class asked, a one in each other table."""
    return math.sqrt(2 * len(_targets(outputs)) + (1 if outputs == 2 else 2))


def _targets(outputs: int) -> range:
    return range(1, 2) if outputs == 2 else range(outputs)


def partial(options: ConfusionOptions, model: Model, rows: Rows, work: Work | None = None) -> Sums:
    """What these rows add to the sums of `tables`."""
    outputs, labels = len(model.outputs), rows.need_labels()
    shapes = tables(options, outputs)
    said = asked(model, work or Work())(rows.values)
    cells = shapes["cells"][1]
    counts, scores = np.zeros(shapes["cells"]), np.zeros(shapes["scores"])
    for place, target in enumerate(_targets(outputs)):
        score = said[:, target]
        cell = np.clip(np.searchsorted(options.edges, score, side="right") - 1, 0, cells - 1)
        half = 2 * cell + (labels == target)
        counts[place] = np.bincount(half, minlength=2 * cells).reshape(cells, 2)
        scores[place] = np.bincount(half, score, minlength=2 * cells).reshape(cells, 2)
    likeliest = (said[:, 1] >= 0.5).astype(np.int64) if outputs == 2 else said.argmax(axis=1)
    pairs = np.bincount(labels * outputs + likeliest, minlength=outputs**2).reshape(outputs, outputs)
    found = {"cells": counts, "scores": scores, "classes": pairs.astype(np.float64)}
    return found if outputs == 2 else found | {"labels": pairs.sum(axis=1).astype(np.float64)}


class FederatedConfusion(Result, frozen=True, kw_only=True, eq=False, tag="federated.confusion"):
    """`cells` and `scores` [targets, cells, 2] and `classes` [label, likeliest] are the sums themselves.

    `edges` [cells + 1] cut the scores, `cuts` are the edges between bands.
    """

    outputs: tuple[str, ...]
    targets: tuple[str, ...]
    edges: Array
    cuts: tuple[float, ...]
    cells: Array
    scores: Array
    classes: Array
    release: Release

    @property
    def rows(self) -> float:
        """How many rows were counted; under noise, about as many."""
        return float(self.classes.sum())

    def confusion(self, cut: float, target: int = 0) -> tuple[float, float, float, float]:
        """True and false positives, false and true negatives where scores from `cut` on count as the target class.

        Raises `BadInput` for a cut that is no edge of cells.
        """
        place = np.flatnonzero(np.isclose(self.edges, cut, rtol=0, atol=1e-12))
        if len(place) != 1:
            raise BadInput("no edge of cells lies there", code="explain.threshold", value=cut)
        above = self.cells[target, place[0] :].sum(axis=0)
        below = self.cells[target, : place[0]].sum(axis=0)
        return float(above[1]), float(above[0]), float(below[1]), float(below[0])

    def bands(self, target: int = 0) -> Floats:
        """float64 [bands, 3]: rows, rows of the class, and sum of scores between the thresholds."""
        starts = np.searchsorted(self.edges, (0.0, *self.cuts))
        counts = np.add.reduceat(self.cells[target], starts, axis=0)
        scores = np.add.reduceat(self.scores[target].sum(axis=1), starts)
        return np.stack([counts.sum(axis=1), counts[:, 1], scores], axis=1)

    def rates(self, counts: Floats) -> tuple[Floats, Floats, Floats]:
        """Share of the class, and its 95 % interval (Wilson's, wider by the noise), of [n, 2] (rows, of the class).

        NaN where there are no rows.
        """
        found = np.full((3, len(counts)), np.nan)
        for place, (rows, hits) in enumerate(counts):
            if rows <= max(0.5, 2 * self.release.deviation("cells")):
                continue
            share = min(1.0, max(0.0, hits / rows))
            low, high = wilson(share, rows)
            shaken = Z95 * self.release.deviation("cells") * math.hypot(1 - share, share) / rows
            found[:, place] = share, share - math.hypot(share - low, shaken), share + math.hypot(high - share, shaken)
        return found[0], np.clip(found[1], 0, 1), np.clip(found[2], 0, 1)

    def describe(self) -> tuple[str, ...]:
        """Accuracy, and each band with its base rate."""
        right = float(np.trace(self.classes)) / max(self.rows, 1.0)
        rows = f"{number(self.rows, 6)} rows at {self.release.partners} partners"
        said = [f"The likeliest class is right for {percent(right)} of {rows}."]
        ends = (0.0, *self.cuts, 1.0)
        for target, name in enumerate(self.targets):
            bands = self.bands(target)
            share, low, high = self.rates(bands[:, :2])
            for place, (rows, _, scores) in enumerate(bands):
                if np.isnan(share[place]):
                    continue
                said.append(
                    f"Scored {number(ends[place])} to {number(ends[place + 1])} for {name}: {number(rows, 6)} rows, "
                    f"{percent(share[place])} are ({percent(low[place])} to {percent(high[place])}), "
                    f"said {percent(min(1.0, max(0.0, scores / rows)))}."
                )
        return tuple(said)

    def to_columns(self) -> Columns:
        """A line for each class asked and cell."""
        cells = len(self.edges) - 1
        counts = self.cells.reshape(-1, 2)
        return {
            "class": [name for name in self.targets for _ in range(cells)],
            "from": list(self.edges[:-1]) * len(self.targets),
            "to": list(self.edges[1:]) * len(self.targets),
            "rows": counts.sum(axis=1).tolist(),
            "rows_of_class": counts[:, 1].tolist(),
            "sum_of_scores": self.scores.sum(axis=2).reshape(-1).tolist(),
        }

    def picture(self) -> Picture:
        """Confusion, then calibration and bands of the first class asked."""
        return Picture(
            "Confusion and calibration over the federation",
            (_confusion_panel(self), _calibration_panel(self), _bands_panel(self)),
            "Left: rows by label and likeliest class. Middle: dots on the dashed line are scores that come true as "
            "often as they say. Right: rows by band, and how many of them are of the class.",
            " ".join(self.caveats),
            columns=3,
        )


def _confusion_panel(found: FederatedConfusion) -> Panel:
    at = np.arange(len(found.outputs) + 1) - 0.5
    heat = Heat(at, at, found.classes, "rows", written=len(found.outputs) <= 12)
    names = names_axis(found.outputs, "likeliest"), names_axis(found.outputs, "label")
    return Panel("Label and likeliest class", *names, (heat,), 220, 220)


def _calibration_panel(found: FederatedConfusion) -> Panel:
    counts = found.cells[0]
    rows = counts.sum(axis=1)
    share, low, high = found.rates(np.stack([rows, counts[:, 1]], axis=1))
    known = ~np.isnan(share)
    said = found.scores[0].sum(axis=1)[known] / rows[known]
    ends = np.array([0.0, 1.0])
    layers = (Line(ends, ends, "quiet", dashed=True), Spans(said, share[known], low[known], high[known]))
    unit = (0.0, 1.0)
    return Panel(
        "Calibration",
        Axis(f"share of {found.targets[0]}", domain=unit),
        Axis("mean score", domain=unit),
        layers,
        220,
        220,
    )


def _bands_panel(found: FederatedConfusion) -> Panel:
    bands, ends = found.bands(0), (0.0, *found.cuts, 1.0)
    names = tuple(f"{number(low)} to {number(high)}" for low, high in itertools.pairwise(ends))
    at = np.arange(len(bands), dtype=np.float64)
    every = Bars(at, bands[:, 0], colours=("quiet",), series="rows")
    hits = Bars(at, bands[:, 1], colours=("series:0",), series=f"rows of {found.targets[0]}")
    return Panel("Bands", Axis("rows"), names_axis(names, "score"), (every, hits), 220, 220)


def result(
    options: ConfusionOptions, outputs: tuple[str, ...], sums: Sums, lineage: Lineage, release: Release
) -> FederatedConfusion:
    """What the sums over all partners say."""
    return FederatedConfusion(
        lineage=lineage,
        caveats=(*_CAVEATS, *release.caveats()),
        outputs=outputs,
        targets=tuple(outputs[target] for target in _targets(len(outputs))),
        edges=options.edges,
        cuts=options.cuts,
        cells=sums["cells"],
        scores=sums["scores"],
        classes=sums["classes"],
        release=release,
    )


class Confusion:
    """The analysis that partners run: one step."""

    name = "confusion"
    asks = "how often the model is right, and how far its scores come true"
    options = ConfusionOptions

    def check(self, ask: Ask) -> None:
        """Classes, and not too many."""
        nothing_shared(ask)
        tables(_options(ask), len(outputs_of(ask)))

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """See `tables`; each class asked has a table of its own."""
        options, outputs = _options(ask), outputs_of(ask)
        shapes = tables(options, len(outputs))
        scores = Cells(name="scores", shape=shapes["scores"], of="cells", row_norm=math.sqrt(shapes["cells"][0]))
        if len(outputs) == 2:
            classes = Cells(name="classes", shape=shapes["classes"], counts=True)
            parts = tuple(2 * label + int(low >= 0.5) for low in options.edges[:-1] for label in range(2))
            cells = Cells(name="cells", shape=shapes["cells"], counts=True, tables=1, within="classes", parts=parts)
            return (Phase(cells=(classes, cells, scores)),)
        labels = Cells(name="labels", shape=shapes["labels"], counts=True)
        classes = Cells(name="classes", shape=shapes["classes"], counts=True, within="labels")
        own = (-1, 0) * (len(options.edges) - 1)
        cells = Cells(name="cells", shape=shapes["cells"], counts=True, tables=1, within="labels", parts=own)
        return (Phase(cells=(labels, classes, cells, scores)),)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Sums:
        """A partner's part."""
        return partial(_options(ask), bounded_model_at(ask, at), rows_at(ask, at))

    def next(self, ask: Ask, found: Sequence[Summed]) -> None:
        """There is no other step."""

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> FederatedConfusion:
        """See `result`."""
        return result(_options(ask), outputs_of(ask), found[-1].sums, lineage, release)


analysis = Confusion()


def _options(ask: Ask) -> ConfusionOptions:
    return convert(ConfusionOptions, ask.options, "the options of `confusion`")
