"""What a model of masks is trained by and measured by: the loss of each pixel, and sums that add up over partners.

Masks are bytes [n, h, w], each the place of a class or `UNLABELLED`, which counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.contribution import Metric
from aimass.proto.manifest import UNLABELLED

if TYPE_CHECKING:
    import torch

__all__ = ["mask_loss", "mask_measures"]

_LEAST: Final = 1e-12


def mask_loss(outputs: torch.Tensor, masks: torch.Tensor, reduction: str) -> torch.Tensor:
    """Of logits [n, classes, h, w]: the cross-entropy of an image's labelled pixels plus the share that its soft Dice
    lacks of 1, in the mean over all classes but the first (Milletari 2016, Isensee 2021).

    Cross-entropy alone is content with ground everywhere where little else is. One is added to both sides of Dice, so
    that a class that is not there asks only not to be said. The mean over images, or each image's own with "none": an
    image is a row, so that batches may be cut and gradients clipped by rows.
    """
    import torch  # noqa: PLC0415  (only who computes loads torch)
    from torch.nn.functional import cross_entropy, one_hot  # noqa: PLC0415

    known = masks != UNLABELLED
    places = torch.where(known, masks, 0).long()
    pixels = (cross_entropy(outputs, places, reduction="none") * known).sum(dim=(1, 2))
    said = torch.softmax(outputs, dim=1)[:, 1:] * known[:, None]
    true = one_hot(places, outputs.shape[1]).movedim(3, 1)[:, 1:] * known[:, None]
    dice = (2 * (said * true).sum(dim=(2, 3)) + 1) / ((said + true).sum(dim=(2, 3)) + 1)
    images = pixels / known.sum(dim=(1, 2)).clamp(min=1) + 1 - dice.mean(dim=1)
    return images if reduction == "none" else images.mean()


def mask_measures(
    probabilities: npt.NDArray[np.float64], masks: npt.NDArray[Any], classes: Sequence[str]
) -> dict[str, Metric]:
    """Measures of all labelled pixels together: `loss` (their cross-entropy in nats), `accuracy` and `dice`.

    Dice (1945) of a class is 2 TP / (2 TP + FP + FN). `dice` adds up all classes but the first, the ground; of more
    than two, each has its own as `dice_NAME`. Totals and weights count pixels in whole images, so that the weight of
    so many images is no more than their number. The quotient of sums over partners is that of their pixels together,
    no mean of means; a class that neither is there nor is said to be has none.
    """
    found: dict[str, Metric] = {}
    area = float(np.prod(masks.shape[1:]))
    labelled = masks != UNLABELLED
    if not (count := int(labelled.sum())):
        return found
    places = np.where(labelled, masks, 0).astype(np.int64)
    chosen = np.take_along_axis(probabilities, places[:, None], axis=1)[:, 0][labelled]
    said, true = probabilities.argmax(axis=1)[labelled], masks[labelled]
    found["loss"] = Metric(float(-np.log(np.clip(chosen, _LEAST, 1.0)).sum()) / area, count / area)
    found["accuracy"] = Metric(float((said == true).sum()) / area, count / area)
    kinds = range(1, len(classes))
    both = np.array([((said == kind) & (true == kind)).sum() for kind in kinds]) / area
    either = np.array([((said == kind).sum() + (true == kind).sum()) / 2 for kind in kinds]) / area
    dice = {"dice": (both.sum(), either.sum())}
    if len(classes) > 2:
        dice |= {f"dice_{classes[kind].replace(' ', '_')}": (both[kind - 1], either[kind - 1]) for kind in kinds}
    return found | {name: Metric(float(total), float(weight)) for name, (total, weight) in dice.items() if weight}
