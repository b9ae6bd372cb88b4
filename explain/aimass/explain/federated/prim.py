"""Boxes over a federation where predictions, errors or labels are high: a peel a step, from counts by bin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.federated.asking import bounded_model_at, span, targets_of
from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.boxes import (
    SIDES,
    Search,
    Trail,
    boxes_of,
    columns_of,
    conditions_of,
    peeled,
    replayed,
    sides_of,
    summed,
)
from aimass.explain.federated.groups import grouped, told_in_groups
from aimass.explain.federated.inputs import input_of, odd_input
from aimass.explain.federated.seam import outputs_of, rows_at
from aimass.explain.federated.sums import Floats, Release, Sums
from aimass.explain.federated.tested import Moments, difference_interval, interval_of, permutation_p
from aimass.explain.lineage import Lineage
from aimass.explain.losses import losses
from aimass.explain.models import Model, asked
from aimass.explain.prim.regions import Density, Path, Region, Regions, checks_of, corrected
from aimass.explain.rows import Rows, features_of
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.manifest import Number
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["FederatedPrimOptions", "analysis", "search_of", "target_values"]

_CAVEATS: Final = (
    "A box is where the target is high, not why; other boxes may hold nearly the same rows.",
    "Bounds are edges of bins of the schema's bounds, and no peel was pasted back.",
)


class FederatedPrimOptions(Value, frozen=True):
    """The options of a stage."""

    target: Annotated[
        Literal["prediction", "error", "label"], msgspec.Meta(description="what is to be high in a box")
    ] = "prediction"
    output: Annotated[str, msgspec.Meta(description="the class that is looked at; the last where empty")] = ""
    direction: Annotated[Literal["high", "low"], msgspec.Meta(description="what boxes are to hold")] = "high"
    bins: Annotated[int, msgspec.Meta(ge=2, le=256, description="equal parts of a number's bounds")] = 64
    peel: Annotated[float, msgspec.Meta(ge=0.01, le=0.5, description="share of the rows that a peel takes off")] = 0.1
    support: Annotated[float, msgspec.Meta(ge=0.01, le=0.5, description="smallest share of the rows in a box")] = 0.05
    conditions: Annotated[int, msgspec.Meta(ge=1, le=20, description="features at most that bound a box")] = 4
    boxes: Annotated[int, msgspec.Meta(ge=1, le=10, description="boxes at most, each of what others left")] = 2
    steps: Annotated[int, msgspec.Meta(ge=2, le=500, description="peels at most, of all boxes together")] = 120


class FederatedPrim:
    """As many steps as there are peels."""

    name = "prim"
    asks = "where predictions, errors or labels are high, as boxes"
    options = FederatedPrimOptions

    def check(self, ask: Ask) -> None:
        """Columns of numbers and categories, and an output that there is."""
        nothing_shared(ask)
        features_of(ask.schema)
        _output(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """By feature and bin the rows in the box and their target's sum; by side the same of all rows in it."""
        search = search_of(ask)
        shape, most = (len(search.columns), search.width), _most(ask)
        cells = []
        for side in SIDES:
            cells += [
                Cells(name=side, counts=True),
                Cells(name=f"{side}_sum", of=side, row_norm=most),
                Cells(name=f"{side}_squares", of=side, row_norm=most**2),
            ]
        cells += [
            Cells(name="levels", shape=shape, counts=True, tables=1, within="searched"),
            Cells(name="sums", shape=shape, of="levels", row_norm=most * math.sqrt(shape[0])),
        ]
        return (Phase(cells=tuple(cells), times=_options(ask).steps),)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part of one step."""
        search, rows = search_of(ask), rows_at(ask, at)
        shape = (len(search.columns), search.width)
        boxes = input_of(at, "boxes", (None, *shape)) if number else np.ones((1, *shape))
        if not 1 <= len(boxes) <= _options(ask).boxes or not np.isin(boxes, (0.0, 1.0)).all():
            raise odd_input("keeps bins by other numbers than 0 and 1, or has too many boxes", "boxes")
        target = target_values(ask, bounded_model_at(ask, at), rows)
        # Groups are the same whatever seed is asked with: two runs too differ by whole ones.
        rows, sides = grouped(rows, sides_of(at.keys, ask.seed if at.least == 1 else 0), at.least)
        return summed(search.columns, rows, target, sides, peeled(search, boxes))

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """The next box to ask about."""
        if len(found) == _options(ask).steps:
            return None
        search = search_of(ask)
        so_far = replayed(search, _sums(found))
        return None if so_far.now is None else {"boxes": boxes_of(search, so_far.done, so_far.now)}

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Regions:
        """Each box with what it held on rows that did not choose it."""
        search, options = search_of(ask), _options(ask)
        so_far = replayed(search, _sums(found))
        trails = so_far.done if so_far.open is None else (*so_far.done, so_far.open)
        binary = options.target == "label" and bool(ask.schema.classes)
        binary |= options.target == "error" and bool(ask.schema.classes)
        cut = () if so_far.now is None else (f"The search ended after {options.steps} peels, before it was done.",)
        regions = corrected([_region(search, trail, release, binary=binary) for trail in trails if trail.last])
        whole = found[0].sums
        return Regions(
            lineage=lineage,
            caveats=(*_CAVEATS, *cut, *told_in_groups(release.group), *release.caveats()),
            checks=checks_of(regions),
            target=_title(ask),
            share=bool(ask.schema.classes),
            direction=options.direction,
            searched=_density(whole, whole, "searched", release, binary=binary),
            judged=_density(whole, whole, "judged", release, binary=binary),
            regions=regions,
        )


analysis = FederatedPrim()


def search_of(ask: Ask) -> Search:
    """What the options ask for."""
    options = _options(ask)
    columns = columns_of(features_of(ask.schema), options.bins)
    sign = 1.0 if options.direction == "high" else -1.0
    return Search(columns, options.peel, options.support, options.conditions, options.boxes, sign)


def target_values(ask: Ask, model: Model, rows: Rows) -> Floats:
    """float64 [n]: what is to be high or low, of rows whose labels are known where they are asked for."""
    if not len(rows):
        return np.empty(0)
    options, place = _options(ask), _output(ask)
    labels: npt.NDArray[Any] = rows.need_labels()
    if options.target == "label":
        return (labels == place).astype(np.float64) if ask.schema.classes else labels.astype(np.float64)
    said = asked(model, Work())(rows.values)
    if options.target == "prediction":
        return said[:, place]
    return losses(said, labels, "error_rate" if ask.schema.classes else "absolute_error")


def _region(search: Search, trail: Trail, release: Release, *, binary: bool) -> Region:
    whole, box = trail.sums[0], trail.sums[trail.last]
    judged = [_density(one, whole, "judged", release, binary=binary) for one in trail.sums]
    searched = [_density(one, whole, "searched", release, binary=binary) for one in trail.sums]
    inside, of = (_moments(one, "judged", release) for one in (box, whole))
    low, high = difference_interval(inside, of.less(inside), share=binary)
    return Region(
        conditions=conditions_of(search.columns, trail.keeps[trail.last]),
        searched=_density(box, whole, "searched", release, binary=binary),
        judged=_density(box, whole, "judged", release, binary=binary),
        fraction=search.fraction,
        path=Path(
            rows=np.array([one.rows for one in searched], np.int64),
            mean=_known([one.mean for one in searched]),
            judged=np.array([one.rows for one in judged], np.int64),
            judged_mean=_known([one.mean for one in judged]),
            low=_known([one.low for one in judged]),
            high=_known([one.high for one in judged]),
            coverage=_known([one.coverage for one in searched]),
        ),
        p=permutation_p(_turned(inside, search.sign, binary), _turned(of, search.sign, binary), share=binary),
        more_low=None if math.isnan(low) else low,
        more_high=None if math.isnan(high) else high,
    )


def _turned(one: Moments, sign: float, binary: bool) -> Moments:
    """Of the opposite, where boxes are to hold what is low."""
    if sign > 0:
        return one
    if not binary:
        return msgspec.structs.replace(one, total=-one.total)
    noise = math.hypot(one.total_noise, one.rows_noise)
    return Moments(one.rows, one.rows - one.total, one.rows - one.total, one.rows_noise, noise)


def _density(box: Sums, whole: Sums, side: str, release: Release, *, binary: bool) -> Density:
    """The target's mean in the box, over rows of one side, with its 95 % interval."""
    inside, of = _moments(box, side, release), _moments(whole, side, release)
    if inside.rows < 1:
        return Density(rows=0, of=max(0, round(of.rows)))
    low, high = interval_of(inside, share=binary)
    rest = of.less(inside)
    return Density(
        rows=round(inside.rows),
        of=max(0, round(of.rows)),
        mean=inside.mean,
        low=None if math.isnan(low) else low,
        high=None if math.isnan(high) else high,
        outside=rest.mean if rest.rows >= 1 else None,
        coverage=inside.total / of.total if of.total > 0 else None,
    )


def _moments(sums: Sums, side: str, release: Release) -> Moments:
    return Moments(
        rows=float(sums[side]),
        total=float(sums[f"{side}_sum"]),
        squares=float(sums[f"{side}_squares"]),
        rows_noise=release.deviation(side),
        total_noise=release.deviation(f"{side}_sum"),
    )


def _known(values: list[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values])


def _sums(found: Sequence[Summed]) -> list[Sums]:
    return [{name: np.asarray(sums) for name, sums in one.sums.items()} for one in found]


def _title(ask: Ask) -> str:
    options, output = _options(ask), outputs_of(ask)[_output(ask)]
    if options.target == "error":
        return "error rate" if ask.schema.classes else "absolute error"
    if options.target == "label":
        return f"rate of {output}" if ask.schema.classes else output
    return f"predicted probability of {output}" if ask.schema.classes else f"predicted {output}"


def _most(ask: Ask) -> float:
    """The largest size of a row's target."""
    label = ask.schema.label
    if not isinstance(label, Number):
        return 1.0
    return span(ask.schema) if _options(ask).target == "error" else max(abs(label.minimum), abs(label.maximum))


def _output(ask: Ask) -> int:
    return targets_of(ask, _options(ask).output)[-1]


def _options(ask: Ask) -> FederatedPrimOptions:
    return convert(FederatedPrimOptions, ask.options, "the options of `prim`")
