"""Where the predictions fall: bands between thresholds, and boxes in which predictions, errors or labels are high."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.labels import checked_labels
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.prim.band_view import Bands
from aimass.explain.prim.induction import induce
from aimass.explain.prim.map_view import BandMap
from aimass.explain.prim.options import PrimOptions, SpaceOptions
from aimass.explain.prim.regions import Regions
from aimass.explain.prim.space import explain_images
from aimass.explain.prim.space_view import SpaceBands
from aimass.explain.prim.threshold_map import band_map, bands
from aimass.explain.results import Result, Whole
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = [
    "BandMap",
    "Bands",
    "PrimBands",
    "PrimBoxes",
    "PrimOptions",
    "PrimResult",
    "Regions",
    "SpaceBands",
    "SpaceOptions",
    "explain",
    "explain_bands",
    "explain_boxes",
    "explain_images",
]


class PrimResult(Whole, frozen=True, kw_only=True, eq=False, tag="prim"):
    """Bands, their map, and boxes; `errors` are boxes where the model is most wrong, None where nobody knows."""

    bands: Bands
    map: BandMap
    boxes: Regions
    errors: Regions | None = None

    def views(self) -> Mapping[str, Result]:
        """By name, in the order that a reader wants them."""
        found = {"bands": self.bands, "map": self.map, "boxes": self.boxes, "errors": self.errors}
        return {name: view for name, view in found.items() if view is not None}

    def headlines(self) -> tuple[str, ...]:
        """Whether predictions come true, the first box that holds on other rows, and the same of errors."""
        wrong = () if self.errors is None else self.errors.headlines()
        return (*self.bands.headlines(), *self.boxes.headlines(), *wrong)


class PrimBands(Whole, frozen=True, kw_only=True, eq=False, tag="prim.bands_and_map"):
    """What is found in a moment: bands and their map."""

    bands: Bands
    map: BandMap

    def views(self) -> Mapping[str, Result]:
        """Bands, then the map."""
        return {"bands": self.bands, "map": self.map}


class PrimBoxes(Whole, frozen=True, kw_only=True, eq=False, tag="prim.both_boxes"):
    """What is searched for: boxes, and where it is known `errors`, those in which the model is most wrong."""

    boxes: Regions
    errors: Regions | None = None

    def views(self) -> Mapping[str, Result]:
        """Boxes, then those of errors."""
        found = {"boxes": self.boxes, "errors": self.errors}
        return {name: view for name, view in found.items() if view is not None}


def explain(model: Model, rows: Rows, options: PrimOptions = PrimOptions(), work: Work = Work()) -> PrimResult:
    """Where the model's predictions of these rows fall; `BadInput` for none, no feature, or odd labels."""
    first = explain_bands(model, rows, options, work.part(0.0, 0.4))
    boxes = explain_boxes(model, rows, options, work.part(0.4, 1.0))
    return PrimResult(
        lineage=lineage_of(model, rows, work), bands=first.bands, map=first.map, boxes=boxes.boxes, errors=boxes.errors
    )


def explain_bands(model: Model, rows: Rows, options: PrimOptions = PrimOptions(), work: Work = Work()) -> PrimBands:
    """The part of `explain` that is there in a moment."""
    lineage = lineage_of(model, rows, work)
    said = _said(model, rows, work.part(0.0, 0.5, "predictions"))
    return PrimBands(
        lineage=lineage,
        bands=bands(model, rows, said, options, work),
        map=band_map(model, rows, said, options, work.part(0.5, 1.0, "map")),
    )


def explain_boxes(model: Model, rows: Rows, options: PrimOptions = PrimOptions(), work: Work = Work()) -> PrimBoxes:
    """The part of `explain` that is searched for."""
    lineage = lineage_of(model, rows, work)
    said = _said(model, rows, work.part(0.0, 0.1, "predictions"))
    judged = rows.labels is not None and options.target == "prediction"
    wrong = msgspec.structs.replace(options, target="error", direction="high")
    return PrimBoxes(
        lineage=lineage,
        boxes=induce(model, rows, said, options, work.part(0.1, 0.55, "boxes")),
        errors=induce(model, rows, said, wrong, work.part(0.55, 1.0, "boxes of errors")) if judged else None,
    )


def _said(model: Model, rows: Rows, work: Work) -> npt.NDArray[np.float64]:
    """Predictions [n, outputs] of rows that can be explained."""
    if not len(rows) or not rows.features:
        raise BadInput("there is nothing to explain", code="explain.empty", value=f"{len(rows)} rows")
    if rows.labels is not None:
        checked_labels(model, rows)  # before the model is asked
    return asked(model, work, "predictions")(rows.values)
