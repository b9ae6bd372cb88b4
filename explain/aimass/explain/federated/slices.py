"""Slices over a federation where the model is worst: SliceLine's search, measured where the rows are.

A first step counts each feature over the federation, for the predicates. Then each step asks for sizes and sums of
errors of some slices; the bounds that leave others out need these alone (`segviz.sliceline`), with the loss's own
bound in place of the largest error, which is no sum. Rows are of two sides by their keys: half search, half judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.federated.asking import bounded_model_at, largest_loss, loss_in
from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.groups import grouped, told_in_groups
from aimass.explain.federated.inputs import input_of, odd_input
from aimass.explain.federated.marginals import counted, marginal_phase, marginals_of, uniforms
from aimass.explain.federated.seam import rows_at
from aimass.explain.federated.slice_search import SliceSearch, check_table, predicate_table, predicates_in, replayed
from aimass.explain.federated.sums import Floats, Release, Sums
from aimass.explain.federated.tested import Moments, difference_interval, interval_of, permutation_p
from aimass.explain.lineage import Lineage
from aimass.explain.losses import LossName, losses
from aimass.explain.models import asked
from aimass.explain.results import Check
from aimass.explain.rows import Rows, features_of
from aimass.explain.segviz.predicates import Predicate, holds, sentence
from aimass.explain.segviz.regions import Regions
from aimass.explain.segviz.sliceline import possible_slices, score
from aimass.explain.significance import holm
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["SliceOptions", "analysis", "partial"]

Places = npt.NDArray[np.int64]
_FEWEST: Final = 20
"""Rows of a slice at least: of fewer a mean says little."""
_SPARE: Final = 10
"""Slices searched for each one that is shown, so that enough are left that do not lie within one another."""
_SEARCHED: Final = 0.5
_NEVER: Final = (
    "A slice says for which rows the model is wrong more often, not why; others can hold nearly the same rows."
)


class SliceOptions(Value, frozen=True):
    """The options of a stage."""

    loss: Annotated[
        Literal["", "log_loss", "brier", "error_rate", "squared_error", "absolute_error"],
        msgspec.Meta(description="how errors are measured"),
    ] = ""
    slices: Annotated[int, msgspec.Meta(ge=1, le=30, description="slices at most")] = 5
    depth: Annotated[int, msgspec.Meta(ge=1, le=4, description="conditions of a slice at most")] = 2
    alpha: Annotated[float, msgspec.Meta(ge=0.01, le=1, description="weight of error against size in a slice")] = 0.95
    least: Annotated[float, msgspec.Meta(ge=0.001, le=0.5, description="smallest share of the rows in a slice")] = 0.05
    cuts: Annotated[int, msgspec.Meta(ge=1, le=20, description="quantiles that a number is cut at")] = 5
    at_once: Annotated[int, msgspec.Meta(ge=16, le=8_192, description="slices that a step measures")] = 2_048
    steps: Annotated[int, msgspec.Meta(ge=1, le=100, description="steps at most")] = 12


class FederatedSlices:
    """A step for the predicates, and as many as the search needs."""

    name = "slices"
    asks = "for which kinds of rows the model is worst"
    options = SliceOptions

    def check(self, ask: Ask) -> None:
        """Columns of numbers and categories, and a loss of the label's kind."""
        nothing_shared(ask)
        features_of(ask.schema)
        _loss(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """Of each slice, and of all rows, how many there are and what their errors sum to, on both sides."""
        options, most = _options(ask), largest_loss(ask.schema, _loss(ask))
        shape, root = (options.at_once,), math.sqrt(options.at_once)
        cells: list[Cells] = []
        for side in ("searched", "judged"):
            cells += [
                Cells(name=side, counts=True),
                Cells(name=f"{side}_total", of=side, row_norm=most),
                Cells(name=f"{side}_sizes", shape=shape, counts=True, tables=1, within=side),
                Cells(name=f"{side}_errors", shape=shape, of=f"{side}_sizes", row_norm=most * root),
            ]
        cells += [
            Cells(name="judged_squares", of="judged", row_norm=most**2),
            Cells(name="judged_error_squares", shape=shape, of="judged_sizes", row_norm=most**2 * root),
        ]
        return (marginal_phase(ask.schema), Phase(cells=tuple(cells), times=options.steps))

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part of one step."""
        rows = rows_at(ask, at)
        # Groups are the same whatever seed is asked with: two runs too differ by whole ones.
        judges = uniforms(at.keys, "slices", ask.seed if at.least == 1 else 0) >= _SEARCHED
        told, sides = grouped(rows, judges.astype(np.int64), at.least)
        if number == 0:
            return counted(told.take(sides >= 0))
        size = _options(ask).at_once
        table, wanted = input_of(at, "predicates", (None, 3)), input_of(at, "slices", (None, None))
        check_table(rows.features, table, _options(ask).cuts)
        if 0 in wanted.shape or wanted.shape[0] > size or wanted.shape[1] > _options(ask).depth:
            raise odd_input("asks for nothing, or for more than a step has", f"slices {list(wanted.shape)}")
        if not np.isin(wanted, np.arange(len(table))).all():
            raise odd_input("names a predicate that there is not", "slices")
        predicates, slices = predicates_in(rows.features, table), wanted.astype(np.int64)
        model = bounded_model_at(ask, at)
        errors = losses(asked(model, Work())(rows.values), rows.need_labels(), _loss(ask)) if len(rows) else np.empty(0)
        return partial(errors, told, sides, predicates, slices, size)

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The slices that the search asks about next."""
        table = _table(ask, found)
        if len(found) == _options(ask).steps + 1 or not len(table):
            return None
        wanted = replayed(_search(ask, table), [one.sums for one in found[1:]]).wanted
        return None if wanted is None else {"predicates": table, "slices": wanted.astype(np.float64)}

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Regions:
        """The worst slices, with what the rows that judge say of them."""
        table, sums = _table(ask, found), [one.sums for one in found[1:]]
        search, predicates = _search(ask, table), predicates_in(features_of(ask.schema), table)
        so_far = replayed(search, sums)
        said = [_NEVER] if len(table) else ["No column tells these rows apart.", _NEVER]
        if so_far.wanted is not None and sums:
            said.append("The search ended before its last step: better slices may be left.")
        best = _best(search, so_far.asked, sums, _options(ask).slices)
        evaluated = sum(map(len, so_far.asked))
        possible = possible_slices(search.columns, search.depth)
        caveats = (*said, *told_in_groups(release.group), *release.caveats())
        return _regions(best, sums, predicates, _loss(ask), lineage, caveats, (evaluated, possible), release)


analysis = FederatedSlices()


def partial(
    errors: Floats, rows: Rows, sides: Places, predicates: Sequence[Predicate], slices: Places, size: int
) -> Sums:
    """Of rows [n] by side (0 searches, 1 judges) and slice [k, level]: how many, and sums of their errors [n], for
    `size` slices."""
    met = np.array([holds((one,), rows) for one in predicates], np.float64).reshape(len(predicates), len(rows))
    found: dict[str, Floats] = {}
    for side, there in (("searched", sides == 0), ("judged", sides == 1)):
        some = errors[there]
        inside = np.ones((len(slices), len(some)))
        for places in slices.T:
            inside *= met[:, there][places]
        values = {"sizes": inside.sum(axis=1), "errors": inside @ some}
        if side == "judged":
            values["error_squares"] = inside @ some**2
            found["judged_squares"] = np.array((some**2).sum())
        found |= {side: np.array(float(len(some))), f"{side}_total": np.array(some.sum())}
        found |= {f"{side}_{name}": np.pad(one, (0, size - len(slices))) for name, one in values.items()}
    return found


Best = tuple[tuple[int, ...], float, int, int]
"""A slice, its score, and where its sums are: the step and the place in it."""


def _best(search: SliceSearch, asked_: Sequence[Places], sums: Sequence[Mapping[str, Array]], count: int) -> list[Best]:
    """The `count` slices that score best of all that were measured, less those that a better one holds or lies in."""
    if not sums:
        return []
    rows, total = float(sums[0]["searched"]), float(sums[0]["searched_total"])
    found: list[Best] = []
    for step, slices in enumerate(asked_):
        sizes, errors = (np.asarray(sums[step][f"searched_{of}"])[: len(slices)] for of in ("sizes", "errors"))
        for place in np.flatnonzero(sizes >= search.least(round(rows))):
            one = slice(place, place + 1)
            worth = float(score(sizes[one], errors[one], round(rows), total, search.alpha)[0])
            if worth > 0:
                found.append((tuple(slices[place].tolist()), worth, step, int(place)))
    kept: list[Best] = []
    for candidate in sorted(found, key=lambda one: -one[1]):
        places = set(candidate[0])
        if not any(places <= set(other[0]) or places >= set(other[0]) for other in kept):
            kept.append(candidate)
    return kept[:count]


def _regions(
    best: Sequence[Best],
    sums: Sequence[Mapping[str, Array]],
    predicates: Sequence[Predicate],
    loss: LossName,
    lineage: Lineage,
    caveats: tuple[str, ...],
    measured: tuple[int, int],
    release: Release,
) -> Regions:
    share = loss == "error_rate"
    inside = [_moments(sums[step], place, release) for _, _, step, place in best]
    whole = [_whole(sums[step], release) for _, _, step, _ in best]
    others = [of.less(one) for of, one in zip(whole, inside, strict=True)]
    ends = np.array([interval_of(one, share=share) for one in inside]).reshape(-1, 2)
    gaps = [difference_interval(one, other, share=share) for one, other in zip(inside, others, strict=True)]
    apart = np.array(gaps).reshape(-1, 2)
    p = np.array([permutation_p(one, of, share=share) for one, of in zip(inside, whole, strict=True)])
    searched = [
        (sums[step]["searched_sizes"][place], sums[step]["searched_errors"][place]) for _, _, step, place in best
    ]
    mean, elsewhere = np.array([one.mean for one in inside]), np.array([one.mean for one in others])
    last = _whole(sums[-1], release) if sums else Moments()
    turned = float((mean <= elsewhere).sum()) / max(1, len(best))
    return Regions(
        lineage=lineage, caveats=caveats,
        checks=(
            Check(
                name="share of regions that are no worse where they are judged", error=turned, limit=0.5,
                says="Most of what was found is chance.",
            ),
        ),
        by="slices", loss=loss,
        says=tuple(sentence(tuple(predicates[place] for place in one[0])) for one in best),
        found_rows=np.array([round(float(size)) for size, _ in searched], np.int64),
        found_mean=np.array([float(errors / size) for size, errors in searched]),
        rows=np.array([max(0, round(one.rows)) for one in inside], np.int64),
        mean=mean, low=ends[:, 0], high=ends[:, 1], elsewhere=elsewhere,
        more_low=apart[:, 0], more_high=apart[:, 1], p=holm(p),
        scores=np.array([one[1] for one in best]), overall=last.mean if last.rows >= 1 else 0.0,
        judging_rows=max(0, round(last.rows)), evaluated=measured[0], possible=measured[1],
        held=np.zeros((len(best), 0)), held_overall=np.zeros(0),
    )  # fmt: skip


def _moments(sums: Mapping[str, Array], place: int, release: Release) -> Moments:
    sizes, errors, squares = (float(sums[f"judged_{of}"][place]) for of in ("sizes", "errors", "error_squares"))
    noises = release.deviation("judged_sizes"), release.deviation("judged_errors")
    return Moments(rows=sizes, total=errors, squares=squares, rows_noise=noises[0], total_noise=noises[1])


def _whole(sums: Mapping[str, Array], release: Release) -> Moments:
    return Moments(
        rows=float(sums["judged"]),
        total=float(sums["judged_total"]),
        squares=float(sums["judged_squares"]),
        rows_noise=release.deviation("judged"),
        total_noise=release.deviation("judged_total"),
    )


def _table(ask: Ask, found: Sequence[Summed]) -> Floats:
    spread = marginals_of(ask.schema, np.asarray(found[0].sums["marginals"]))
    return predicate_table(features_of(ask.schema), spread, _options(ask).cuts)


def _search(ask: Ask, table: Floats) -> SliceSearch:
    options = _options(ask)
    return SliceSearch(
        columns=table[:, 0].astype(np.int64),
        most=largest_loss(ask.schema, _loss(ask)),
        size=options.at_once,
        count=options.slices * _SPARE,
        depth=options.depth,
        alpha=options.alpha,
        least_share=options.least,
        fewest=_FEWEST,
    )


def _loss(ask: Ask) -> LossName:
    return loss_in(ask.schema, _options(ask).loss, "error_rate", "absolute_error")


def _options(ask: Ask) -> SliceOptions:
    return convert(SliceOptions, ask.options, "the options of `slices`")
