"""Boxes, one after the other, each of the rows that the former ones left: searched on some rows, judged on others."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.means import mean_interval
from aimass.explain.models import Model, lineage_of
from aimass.explain.prim.box import Condition, conditions_of, contains
from aimass.explain.prim.coding import Coded, coded
from aimass.explain.prim.groups import groups_of
from aimass.explain.prim.options import PrimOptions, fractions_of
from aimass.explain.prim.pasting import paste, simplify, without_crumbs
from aimass.explain.prim.peeling import Keep, Trajectory, peel
from aimass.explain.prim.regions import Density, Holder, Path, Region, Regions, checks_of, corrected
from aimass.explain.prim.target import Target, output_of, target_of
from aimass.explain.prim.validation import Choice, choose
from aimass.explain.rows import Rows
from aimass.explain.significance import difference_interval, hypergeometric, shuffled_p
from aimass.explain.work import Work
from aimass.proto.intervals import wilson

__all__ = ["density", "induce"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FEWEST: Final = 40
"""Rows without which nothing is searched."""
_SMALLEST: Final = 10
"""Rows in a box at least, whatever share of all that is."""
_SHUFFLES: Final = (199, 999)
"""Of a target that is no share, fewest and most."""
_SHUFFLED: Final = 20_000_000
"""Cells that may be shuffled for a box: of very many rows, so few shuffles are enough."""


@dataclasses.dataclass(frozen=True)
class _Side:
    """Rows with their target: those that search, or those that judge."""

    rows: Rows
    values: Floats

    def without(self, conditions: tuple[Condition, ...]) -> _Side:
        """The rows that a box leaves."""
        keep = ~contains(conditions, self.rows)
        return _Side(self.rows.take(keep), self.values[keep])


@dataclasses.dataclass(frozen=True)
class _Search:
    """What stays the same from box to box: the options, which columns may bound, and how few rows are enough."""

    options: PrimOptions
    fractions: tuple[float, ...]
    places: tuple[int, ...]
    target: Target
    least: float
    whole: float

    @property
    def sign(self) -> float:
        """By which a target is to be high that is looked for where it is low."""
        return 1.0 if self.options.direction == "high" else -1.0


def induce(model: Model, rows: Rows, said: Floats, options: PrimOptions, work: Work) -> Regions:
    """Boxes where the target is highest (or lowest), of predictions `said` float64 [n, outputs] of these rows."""
    target = target_of(model, rows, said, output_of(model, said, options.output), options)
    order = work.rng("prim", "judging").permutation(len(rows))
    cut = round(len(rows) * options.judging)
    parts = (np.sort(part) for part in (order[cut:], order[:cut]))
    search, judge = (_Side(rows.take(part), target.values[part]) for part in parts)
    regions = _regions(search, judge, target, options, work) if len(rows) >= FEWEST else ()
    whole = np.ones(len(judge.rows), bool)
    return Regions(
        lineage=lineage_of(model, rows, work),
        caveats=_caveats(rows, regions, judge.values, binary=target.binary),
        checks=checks_of(regions),
        target=target.name,
        share=target.share,
        direction=options.direction,
        searched=density(search.values, np.ones(len(search.rows), bool), binary=target.binary),
        judged=density(judge.values, whole, binary=target.binary),
        regions=regions,
    )


def _regions(search: _Side, judge: _Side, target: Target, options: PrimOptions, work: Work) -> tuple[Region, ...]:
    rows = search.rows
    places = tuple(rows.place(name) for name in options.features) or tuple(range(len(rows.features)))
    least = max(_SMALLEST, options.support * len(rows))
    what = _Search(options, fractions_of(options.peel), places, target, least, float(search.values.mean()))
    found: list[Region] = []
    for step in range(options.boxes):
        part = work.part(step / options.boxes, (step + 1) / options.boxes, f"box {step + 1}")
        one = _region(search, judge, what, part)
        if one is None:
            break
        found.append(one)
        search, judge = search.without(one.conditions), judge.without(one.conditions)
    return corrected(found)


def _region(search: _Side, judge: _Side, what: _Search, work: Work) -> Region | None:
    """The next box, or None where no box of the rows that are left stands out among all that searched."""
    if len(search.rows) < 2 * what.least:
        return None
    data, values, options = coded(search.rows, what.places), what.sign * search.values, what.options
    share = what.least / len(values)
    choice = choose(data, values, what.fractions, share, options.conditions, options.folds, work)
    path = peel(data, values, choice.fraction, what.least, options.conditions, work)
    conditions = conditions_of(data.columns, _chosen(path, data, values, choice, work))
    found = contains(conditions, search.rows)
    if not conditions or values[found].mean() <= what.sign * what.whole:
        return None
    kept = contains(conditions, judge.rows)
    more_low, more_high = _difference(judge.values, kept, binary=what.target.binary)
    return Region(
        conditions=conditions,
        searched=density(search.values, found, binary=what.target.binary),
        judged=density(judge.values, kept, binary=what.target.binary),
        fraction=choice.fraction,
        path=_path(path, search, judge, binary=what.target.binary),
        p=_beyond(judge.values, kept, what, work),
        more_low=more_low,
        more_high=more_high,
        holders=_holders(judge.rows, kept, options.beside),
    )


def _beyond(values: Floats, inside: Bools, what: _Search, work: Work) -> float:
    """p that values [n] `inside` a box that they did not choose are no higher than outside, or no lower; not corrected.

    1 where none is inside, or all are.
    """
    if not inside.any() or inside.all():
        return 1.0
    high = values if what.sign > 0 else 1.0 - values if what.target.binary else -values
    shuffles = int(np.clip(_SHUFFLED // len(values), *_SHUFFLES))
    return float(shuffled_p(inside[:, None], high, shuffles, work, "box")[0])


def _difference(values: Floats, inside: Bools, *, binary: bool) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean inside less that outside, where there is one."""
    low, high = difference_interval(values[inside], values[~inside], share=binary)
    return (None, None) if math.isnan(low) else (low, high)


def _holders(rows: Rows, inside: Bools, beside: str) -> tuple[Holder, ...]:
    """Each holder of rows that judge, its p-value not corrected."""
    names, groups = groups_of(rows, beside)
    box, of = int(inside.sum()), len(rows)
    if len(names) < 2 or not box:
        return ()
    counts = (np.bincount(part, minlength=len(names)).tolist() for part in (groups[inside], groups))
    return tuple(
        Holder(name=name, rows=rows, box=box, whole=whole, of=of, p=hypergeometric(rows, of, whole, box))
        for name, rows, whole in zip(names, *counts, strict=True)
    )


def _chosen(path: Trajectory, data: Coded, values: Floats, choice: Choice, work: Work) -> tuple[Keep, ...]:
    """The smallest box of the path that holds the support, grown where that helps and rid of idle bounds."""
    steps = int((path.counts >= choice.support * path.count * (1 - 1e-9)).sum()) - 1
    grown = paste(data, values, path.box(steps), choice.fraction, work)
    return without_crumbs(data, values, simplify(data, values, grown), choice.fraction)


def _path(path: Trajectory, search: _Side, judge: _Side, *, binary: bool) -> Path:
    boxes = [conditions_of(path.columns, path.box(step)) for step in range(len(path.peels) + 1)]
    searched = [density(search.values, contains(box, search.rows), binary=binary) for box in boxes]
    judged = [density(judge.values, contains(box, judge.rows), binary=binary) for box in boxes]
    return Path(
        rows=np.array([one.rows for one in searched], np.int64),
        mean=_floats([one.mean for one in searched]),
        judged=np.array([one.rows for one in judged], np.int64),
        judged_mean=_floats([one.mean for one in judged]),
        low=_floats([one.low for one in judged]),
        high=_floats([one.high for one in judged]),
        coverage=_floats([one.coverage for one in searched]),
    )


def _floats(values: list[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def density(values: Floats, inside: Bools, *, binary: bool) -> Density:
    """The target `values` [n] of the rows `inside` a box that these rows did not choose: mean and 95 % interval.

    Given the box its rows are drawn alike and apart from one another. So a share has Wilson's interval, another mean
    Student's.
    """
    here, count = values[inside], int(inside.sum())
    mean = float(here.mean()) if count else None
    low: float | None = None
    high: float | None = None
    if binary and mean is not None:
        low, high = wilson(mean, count)
    elif count >= 2:
        low, high = mean_interval(count, float(here.sum()), float((here**2).sum()))
    total = float(values.sum())
    return Density(
        rows=count,
        of=len(values),
        mean=mean,
        low=low,
        high=high,
        outside=float(values[~inside].mean()) if count < len(values) else None,
        coverage=float(here.sum()) / total if total > 0 and (values >= 0).all() else None,
    )


def _caveats(rows: Rows, regions: tuple[Region, ...], judged: Floats, *, binary: bool) -> tuple[str, ...]:
    said = []
    if len(rows) < FEWEST:
        said.append(f"{len(rows)} rows are too few for boxes; {FEWEST} are needed.")
    if any(one.judged.rows < FEWEST for one in regions):
        said.append(f"Some boxes were judged by fewer than {FEWEST} rows: their intervals are wide, and rough.")
    enough = 0 if binary else _enough(judged)
    if any(one.judged.rows < enough for one in regions):
        said.append(
            f"The target is skewed: of fewer than {enough:,} rows an interval holds the truth less often than it says."
        )
    if rows.held_out is False:
        said.append("The model was trained on these rows, also on those that judge the boxes.")
    said.append("A box is where the target is high, not why; other boxes may hold nearly the same rows.")
    return tuple(said)


def _enough(values: Floats) -> int:
    """How many rows have a mean whose 95 % interval holds in 94 of 100 cases: 25 squares of the skewness.

    Cochran 1977, Sampling Techniques, section 2.15.
    """
    off = values - values.mean() if len(values) else values
    spread = float((off**2).mean()) if len(values) else 0.0
    return math.ceil(25 * float((off**3).mean()) ** 2 / spread**3) if spread**3 > 0 else 0
