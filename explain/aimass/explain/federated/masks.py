"""How well masks are predicted over a federation: pixels of each class that two masks share, summed over images.

Counts of pixels add up over images and partners to those of all (`segviz.overlap`), and so do their squares by image,
which an interval needs: pixels of one image are alike, so images are what is drawn. Outlines are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np

from aimass.explain.federated.background import nothing_shared
from aimass.explain.federated.mask_scores import FederatedMasks, masks_of
from aimass.explain.federated.seam import image_model_at, images_at
from aimass.explain.federated.sums import Release, Sums
from aimass.explain.images import UNLABELLED, ImageModel, Images, image_column
from aimass.explain.lineage import Lineage
from aimass.explain.segviz.assessed import STEPS, predicted_of
from aimass.explain.segviz.overlap import confusion, overlap_of
from aimass.proto.analysis import AtPartner, Summed
from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.tensors import Array
from aimass.proto.values import Value, convert

__all__ = ["FederatedMaskOptions", "analysis", "partial"]


class FederatedMaskOptions(Value, frozen=True):
    """The options of a stage."""

    output: Annotated[str, msgspec.Meta(description="the class whose threshold is looked at; the last where empty")] = (
        ""
    )
    threshold: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="chance from which a pixel counts, of two classes")
    ] = 0.5


class FederatedMaskView:
    """One step."""

    name = "masks"
    asks = "how well masks are predicted, by class and by threshold"
    options = FederatedMaskOptions

    def check(self, ask: Ask) -> None:
        """Images with masks, and a class that there is."""
        nothing_shared(ask)
        image_column(ask.schema)
        if not ask.schema.segments:
            raise BadInput(
                "the labels are no masks", code="explain.segments", value=ask.schema.name, cure="Ask for `confusion`."
            )
        _output(ask)

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """Sums in shares of an image's pixels, so that an image adds 1 at most, wherever its pixels fall.

        `agreement` has of each class the squares and the product of both parts of Dice, 2 TP and 2 TP + FP + FN.
        """
        classes = len(ask.schema.classes)
        root = math.sqrt(classes)
        cells = (
            Cells(name="rows", counts=True),
            Cells(name="pixels", shape=(classes, classes), of="rows", row_norm=1.0),
            Cells(name="chances", shape=(2, STEPS + 1), of="rows", row_norm=1.0),
            Cells(name="agreement", shape=(classes, 3), of="rows", row_norm=4 * math.sqrt(3) * root),
        )
        return (Phase(cells=cells),)

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """A partner's part."""
        return partial(image_model_at(at), images_at(ask, at), _output(ask), _options(ask).threshold)

    def next(self, ask: Ask, found: Sequence[Summed]) -> None:
        """There is no further step."""

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> FederatedMasks:
        """The figures of each class."""
        sums = {name: np.asarray(one) for name, one in found[-1].sums.items()}
        size = math.prod(image_column(ask.schema).shape[:2])
        options = _options(ask)
        return masks_of(sums, ask.schema.classes, _output(ask), options.threshold, size, lineage, release)


analysis = FederatedMaskView()


def partial(model: ImageModel, images: Images, output: int, threshold: float) -> Sums:
    """Of images [n] with masks: how many, and sums of shares of their pixels, see `phases`."""
    classes, masks, size = len(model.classes), images.need_masks(), images.height * images.width
    pixels, chances = np.zeros((classes, classes)), np.zeros((2, STEPS + 1))
    agreement = np.zeros((classes, 3))
    for start in range(0, len(images), _TOGETHER):
        said = _said(model, images.take(slice(start, start + _TOGETHER)))
        for one, mask in zip(said, masks[start : start + _TOGETHER], strict=True):
            counts, known = confusion(predicted_of(one, threshold, output), mask, classes), mask != UNLABELLED
            parts = overlap_of(counts)
            twice, whole = 2 * parts.both / size, (2 * parts.both + parts.predicted_alone + parts.true_alone) / size
            pixels += counts / size
            agreement += np.stack([twice**2, twice * whole, whole**2], axis=1)
            steps = np.clip((one[output][known] * STEPS + 1e-9).astype(np.int64), 0, STEPS)
            cells = (mask[known] == output) * (STEPS + 1) + steps
            chances += np.bincount(cells, minlength=2 * (STEPS + 1)).reshape(2, -1) / size
    return {"rows": np.array(float(len(images))), "pixels": pixels, "chances": chances, "agreement": agreement}


_TOGETHER = 8
"""Images that are asked about at once, always as many: of fewer a network may add in another order."""


def _said(model: ImageModel, images: Images) -> Array:
    missing = _TOGETHER - len(images)
    padded = np.concatenate([images.pixels, np.repeat(images.pixels[:1], missing, axis=0)])
    return model.predict(padded)[: len(images)]


def _output(ask: Ask) -> int:
    output, classes = _options(ask).output, ask.schema.classes
    if output and output not in classes:
        raise NotFound("no such class", code="explain.output", value=output, limit=", ".join(classes))
    return classes.index(output) if output else len(classes) - 1


def _options(ask: Ask) -> FederatedMaskOptions:
    return convert(FederatedMaskOptions, ask.options, "the options of `masks`")
