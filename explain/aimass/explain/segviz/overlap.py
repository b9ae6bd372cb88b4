"""How far a predicted mask and a true one cover each other: counts of pixels, and what is made of them.

Counts are sums over pixels: those of several images, added up, are those of all. Where neither mask has a pixel of a
class they agree, and every figure says so (1, an area error of 0); where one of them is empty, what would divide by
nothing is NaN: the precision of no prediction, the recall and the area error of no label.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.images import UNLABELLED
from aimass.proto.errors import BadInput

__all__ = ["OVERLAP", "Overlap", "confusion", "overlap_of"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
OVERLAP: Final = ("iou", "dice", "precision", "recall", "area_error")


@dataclasses.dataclass(frozen=True)
class Overlap:
    """int64 [...]: pixels of a class in both masks (`both`), in the prediction alone, in the label alone."""

    both: Counts
    predicted_alone: Counts
    true_alone: Counts

    @property
    def iou(self) -> Floats:
        """Intersection over union (Jaccard)."""
        return _share(self.both, self.both + self.predicted_alone + self.true_alone, empty=1.0)

    @property
    def dice(self) -> Floats:
        """Twice the intersection over the sum of both areas; the F1 score of pixels."""
        return _share(2 * self.both, 2 * self.both + self.predicted_alone + self.true_alone, empty=1.0)

    @property
    def precision(self) -> Floats:
        """The share of predicted pixels that are true."""
        return self._of(self.both + self.predicted_alone)

    @property
    def recall(self) -> Floats:
        """The share of true pixels that are predicted."""
        return self._of(self.both + self.true_alone)

    @property
    def area_error(self) -> Floats:
        """(predicted area - true area) / true area: above 0 too large, below too small."""
        true, predicted = self.both + self.true_alone, self.both + self.predicted_alone
        found = _share(predicted - true, true, empty=np.nan)
        return np.where((true == 0) & (predicted == 0), 0.0, found)

    def _of(self, whole: Counts) -> Floats:
        neither = (self.both + self.predicted_alone + self.true_alone) == 0
        return np.where(neither, 1.0, _share(self.both, whole, empty=np.nan))

    def figures(self) -> Floats:
        """float64 [..., 5] in the order of `OVERLAP`."""
        return np.stack([getattr(self, name) for name in OVERLAP], axis=-1)


def confusion(predicted: npt.NDArray[Any], labels: npt.NDArray[Any], classes: int) -> Counts:
    """int64 [classes, classes] pixels by true class (row) and predicted class, of masks of one shape.

    Pixels whose label is `UNLABELLED` are left out. Raises `BadInput` for masks of other shapes or other classes.
    """
    if predicted.shape != labels.shape:
        raise BadInput("masks of other sizes", code="explain.masks", value=predicted.shape, limit=labels.shape)
    known = labels != UNLABELLED
    said, true = predicted[known].astype(np.int64), labels[known].astype(np.int64)
    for places in (said, true):
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < classes:
            raise BadInput(
                "a pixel's class is none that is known",
                code="explain.classes",
                value=int(places.max()),
                limit=f"0 to {classes - 1}",
            )
    return np.bincount(true * classes + said, minlength=classes * classes).reshape(classes, classes)


def overlap_of(counts: Counts) -> Overlap:
    """Of each class, of confusion counts int64 [..., classes, classes]."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    return Overlap(both, counts.sum(axis=-2) - both, counts.sum(axis=-1) - both)


def _share(part: Counts, whole: Counts, *, empty: float) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole == 0, empty, part / whole)
