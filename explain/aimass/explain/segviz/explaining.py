"""Where a model of a table is wrong: all views together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Picture
from aimass.explain.lineage import Lineage
from aimass.explain.models import Model, lineage_of
from aimass.explain.results import Columns, Result, Whole
from aimass.explain.rows import Feature, Rows
from aimass.explain.segviz import sliceline
from aimass.explain.segviz.error_tree import grow
from aimass.explain.segviz.judged import Judged, judge
from aimass.explain.segviz.options import SegvizOptions
from aimass.explain.segviz.predicates import Predicate, holds, path_sentence, predicates_of, sentence
from aimass.explain.segviz.regions import Candidates, Holders, Regions, judged_regions
from aimass.explain.segviz.segments import Segments, bands_of, beside_of, segments
from aimass.explain.words import number
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["SegvizResult", "error_slices", "error_tree", "explain"]

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_FEWEST: Final = 20
"""Rows of a slice at least: of fewer a mean says little."""
_SKEWED: Final = 2.0
"""From here on the 95 % interval of a mean of 20 rows holds it in 92 of 100 cases or fewer."""
_SPARE: Final = 10
"""Slices searched for each one that is shown, so that enough are left that hold other rows."""
_UNSURE = "A chance near the threshold is wrong most often in any model that means what it says."
_TRAINED = "The model was trained on these rows: on new ones it is wrong more often, and perhaps elsewhere."


class SegvizResult(Whole, frozen=True, kw_only=True, eq=False, tag="segviz"):
    """`bands` of the prediction, `holders` of the rows where a column says who holds them, `slices` and the `tree`."""

    bands: Segments
    holders: Segments | None
    slices: Regions
    tree: Regions

    def views(self) -> Mapping[str, Result]:
        """The parts that there are."""
        parts = {"bands": self.bands, "holders": self.holders, "slices": self.slices, "tree": self.tree}
        return {name: part for name, part in parts.items() if part is not None}

    def describe(self) -> tuple[str, ...]:
        """Every slice, then the worst holder and band."""
        held = () if self.holders is None else self.holders.describe()
        return (*self.slices.describe(), *held, *self.bands.describe())

    def headlines(self) -> tuple[str, ...]:
        """The first slice that holds on other rows, then whose rows are worst and whether that is chance."""
        return (*self.slices.headlines(), *(() if self.holders is None else self.holders.describe()))

    def picture(self) -> Picture:
        """The slices', which say most."""
        return self.slices.picture()

    def to_columns(self) -> Columns:
        """The slices' table."""
        return self.slices.to_columns()


def explain(
    model: Model,
    rows: Rows,
    options: SegvizOptions = SegvizOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
) -> SegvizResult:
    """Where the model is wrong over these rows, whose labels are known."""
    lineage = lineage_of(model, rows, work)
    caveats = (_TRAINED,) if rows.held_out is False else ()
    judged = judge(
        model, rows, work.part(0, 0.4, "asking the model"),
        output=options.output, threshold=options.threshold, loss=options.loss,
    )  # fmt: skip
    caveats = (*caveats, *_skewed(judged))
    places, names = bands_of(judged, options.bands, chance=model.classifies)
    unsure = (_UNSURE,) if judged.share else ()
    bands = segments(judged, places, names, judged.title, lineage, None, caveats=(*caveats, *unsure))
    held, beside = None, beside_of(rows, options.beside)
    if beside is not None:
        by, places, names, limits = beside
        held = segments(
            judged, places, names, by, lineage, work, shuffles=options.shuffles, caveats=(*limits, *caveats)
        )
        if options.by_beside:
            rows = _with(rows, by, places, names)
    holders = None if beside is None else (beside[1], beside[2])
    slices = error_slices(rows, judged, lineage, options, work.part(0.4, 0.8, "slices"), holders=holders)
    tree = error_tree(rows, judged, lineage, options, work.part(0.8, 1.0, "error tree"), holders=holders)
    return SegvizResult(
        lineage=lineage, caveats=caveats, bands=bands, holders=held, slices=slices, tree=tree,
    )  # fmt: skip


def _skewed(judged: Judged) -> tuple[str, ...]:
    """That Student's interval of few rows is too short where few rows hold most of the errors."""
    spread = 0.0 if judged.share else float(judged.errors.std())
    if not spread > 0:
        return ()
    skewness = float(((judged.errors - judged.errors.mean()) ** 3).mean() / spread**3)
    if skewness <= _SKEWED:
        return ()
    told = f"skewness {number(skewness, 2)}"
    return (f"A few rows have far larger errors than most ({told}): intervals over few rows are too short.",)


def error_slices(
    rows: Rows, judged: Judged, lineage: Lineage, options: SegvizOptions, work: Work, *, holders: Holders | None = None
) -> Regions:
    """The slices that score best on the rows that search, without those that are nearly a better one."""
    judges = _judges(len(rows), options.judging, work)
    predicates, met, least = _asked_of(rows, judges, options, work)
    columns = np.array([rows.place(one.column) for one in predicates], np.int64)
    found, limits = _searched(met[:, ~judges], judged.errors[~judges], columns, least, options, work)
    inside = np.array([met[list(one)].all(axis=0) for one in found.slices], np.bool_).reshape(-1, len(rows))
    kept = _apart(inside[:, ~judges], options.overlap)[: options.slices]
    says = tuple(sentence(tuple(predicates[place] for place in found.slices[slice_])) for slice_ in kept)
    candidates = Candidates("slices", says, inside[kept].T, found.scores[kept], found.evaluated, found.possible)
    return judged_regions(
        candidates, judged, judges, lineage, work,
        shuffles=options.shuffles, holders=holders, caveats=(*limits, *_limits(predicates, least, judges)),
    )  # fmt: skip


def _searched(
    met: Flags, errors: Floats, columns: npt.NDArray[np.int64], least: int, options: SegvizOptions, work: Work
) -> tuple[sliceline.Found, tuple[str, ...]]:
    """The best slices, of fewer conditions than were asked for where those are more than memory holds."""
    for depth in range(options.depth, 1, -1):
        try:
            found = sliceline.search(
                met, errors, columns, work,
                count=options.slices * _SPARE, depth=depth, least=least, alpha=options.alpha,
            )  # fmt: skip
        except BadInput as error:
            if error.code != sliceline.TOO_MANY:
                raise
            continue
        limit = f"Slices of more than {depth} conditions were not searched: there are more than memory holds."
        return found, (limit,) if depth < options.depth else ()
    found = sliceline.search(
        met, errors, columns, work, count=options.slices * _SPARE, depth=1, least=least, alpha=options.alpha
    )
    return found, ("Only slices of one condition were searched.",) if options.depth > 1 else ()


def error_tree(
    rows: Rows, judged: Judged, lineage: Lineage, options: SegvizOptions, work: Work, *, holders: Holders | None = None
) -> Regions:
    """The leaves of a tree that is grown on the rows that search, the worst first."""
    judges = _judges(len(rows), options.judging, work)
    predicates, met, least = _asked_of(rows, judges, options, work)
    errors = judged.errors[~judges]
    leaves = grow(met[:, ~judges], errors, work, depth=options.tree_depth, least=least)
    inside = np.array([leaf.holds(met) for leaf in leaves], np.bool_).reshape(-1, len(rows))
    sizes = np.maximum(1, inside[:, ~judges].sum(axis=1))
    order = np.argsort(-(inside[:, ~judges] @ errors) / sizes, kind="stable")
    says = tuple(path_sentence([(predicates[at], meets) for at, meets in leaves[place].path]) for place in order)
    return judged_regions(
        Candidates("tree", says, inside[order].T, np.full(len(leaves), np.nan)), judged, judges, lineage, work,
        shuffles=options.shuffles, holders=holders, caveats=_limits(predicates, least, judges),
    )  # fmt: skip


def _judges(rows: int, share: float, work: Work) -> Flags:
    """bool [rows]: a random part that judges what is found on the rest."""
    found = np.zeros(rows, np.bool_)
    found[work.rng("segviz", "judges").permutation(rows)[: int(rows * share)]] = True
    return found


def _asked_of(
    rows: Rows, judges: Flags, options: SegvizOptions, work: Work
) -> tuple[tuple[Predicate, ...], Flags, int]:
    """The predicates of the rows that search, bool [predicates, n] of all rows, and the rows of a slice at least."""
    predicates = predicates_of(rows.take(~judges), options.cuts)
    if len(predicates) * len(rows) > work.memory_bytes:
        raise BadInput(
            "which rows meet which conditions is more than memory holds",
            code="explain.memory",
            value=f"{len(predicates):,} conditions of {len(rows):,} rows",
            limit=f"{work.memory_bytes >> 20} MiB",
            cure="Give fewer rows, columns or cuts, or more memory.",
        )
    met = np.array([holds((one,), rows) for one in predicates], np.bool_).reshape(-1, len(rows))
    return predicates, met, max(_FEWEST, int(np.ceil(options.least * int((~judges).sum()))))


def _apart(inside: Flags, overlap: float) -> list[int]:
    """Which of these regions [k, n] share at most `overlap` of their rows (Jaccard) with each one kept before."""
    kept: list[int] = []
    for place, one in enumerate(inside):
        others = inside[kept]
        if not len(others) or ((others & one).sum(axis=1) <= overlap * (others | one).sum(axis=1)).all():
            kept.append(place)
    return kept


def _limits(predicates: tuple[Predicate, ...], least: int, judges: Flags) -> tuple[str, ...]:
    found = []
    if not predicates:
        found.append("No column tells these rows apart.")
    if 2 * least > int((~judges).sum()):
        found.append(f"Too few rows to search: {int((~judges).sum())}, where a region has {least} at least.")
    return tuple(found)


def _with(rows: Rows, name: str, places: npt.NDArray[np.int64], names: tuple[str, ...]) -> Rows:
    """The rows with what stands beside as one column more, for slices alone."""
    taken = {feature.name for feature in rows.features}
    column = Feature(name=name if name not in taken else f"{name} (beside)", kind="category", values=names)
    values = np.concatenate([rows.values, places[:, None].astype(np.float64)], axis=1)
    return dataclasses.replace(rows, features=(*rows.features, column), values=values)
