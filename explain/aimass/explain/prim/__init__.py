"""Where the predictions fall: bands between thresholds, and boxes in which predictions, errors or labels are high."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

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
    "PrimOptions",
    "PrimResult",
    "Regions",
    "SpaceBands",
    "SpaceOptions",
    "explain",
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


def explain(model: Model, rows: Rows, options: PrimOptions = PrimOptions(), work: Work = Work()) -> PrimResult:
    """Where the model's predictions of these rows fall; `BadInput` for none, no feature, or odd labels."""
    lineage = lineage_of(model, rows, work)
    if not len(rows) or not rows.features:
        raise BadInput("there is nothing to explain", code="explain.empty", value=f"{len(rows)} rows")
    if rows.labels is not None:
        checked_labels(model, rows)  # before the model is asked
    predict = asked(model, work.part(0.0, 0.2, "predictions"), "predictions")
    said = predict(rows.values)
    judged = rows.labels is not None and options.target == "prediction"
    wrong = msgspec.structs.replace(options, target="error", direction="high")
    return PrimResult(
        lineage=lineage,
        bands=bands(model, rows, said, options, work),
        map=band_map(model, rows, said, options, work.part(0.2, 0.4, "map")),
        boxes=induce(model, rows, said, options, work.part(0.4, 0.7, "boxes")),
        errors=induce(model, rows, said, wrong, work.part(0.7, 1.0, "boxes of errors")) if judged else None,
    )
