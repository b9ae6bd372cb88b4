"""Where a segmentation is wrong: all views together, over images or the slices of a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Picture
from aimass.explain.images import ImageModel, Images, lineage_of_images
from aimass.explain.results import Result, Whole
from aimass.explain.segviz.assessed import FIGURES, assess_images, output_of
from aimass.explain.segviz.gallery import Gallery, gallery
from aimass.explain.segviz.mask_holders import MaskHolders, mask_holders
from aimass.explain.segviz.mask_options import MaskOptions
from aimass.explain.segviz.mask_scores import Along, MaskScores, along, mask_scores
from aimass.explain.segviz.things import Things, things
from aimass.explain.segviz.thresholds import Thresholds, thresholds
from aimass.explain.work import Work

__all__ = ["MasksResult", "explain_images"]

_TRAINED: Final = "The model was trained on these images: on new ones it is wrong more often."


class MasksResult(Whole, frozen=True, kw_only=True, eq=False, tag="segviz.images"):
    """`masks` by class, the `gallery`, `holders` where several are known, `things` where they were asked for,
    `thresholds`, and `along` a volume.
    """

    masks: MaskScores
    gallery: Gallery
    holders: MaskHolders | None
    things: Things | None
    thresholds: Thresholds
    along: Along | None

    def views(self) -> Mapping[str, Result]:
        """The parts that there are."""
        parts: dict[str, Result | None] = {
            "masks": self.masks,
            "gallery": self.gallery,
            "holders": self.holders,
            "things": self.things,
            "thresholds": self.thresholds,
            "along": self.along,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def headlines(self) -> tuple[str, ...]:
        """The class that is segmented worst, but for the ground, and whose images are worst."""
        return (*self.masks.headlines(), *(() if self.holders is None else self.holders.describe()))

    def picture(self) -> Picture:
        """The gallery's, which shows where."""
        return self.gallery.picture()


def explain_images(
    model: ImageModel,
    images: Images,
    options: MaskOptions = MaskOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
) -> MasksResult:
    """Where the model is wrong over these images, whose masks are known."""
    lineage = lineage_of_images(model, images, work, seeded=False)
    place = output_of(model, options.output)
    output = model.classes[place]
    caveats = _caveats(images)
    assessed = assess_images(model, images, options, work.part(0.0, 0.9))
    dice = np.array([one.figures[place, FIGURES.index("dice")] for one in assessed])
    there = np.array([one.counts[place].sum() + one.counts[:, place].sum() > 0 for one in assessed])
    shown = gallery(
        model, images, dice, place, lineage, work.part(0.9, 1.0),
        count=options.gallery, threshold=options.threshold, caveats=caveats,
    )  # fmt: skip
    found = things(assessed, output, lineage, numbered=images.instances is not None, caveats=caveats)
    return MasksResult(
        lineage=lineage, caveats=caveats, gallery=shown, things=found if options.things else None,
        masks=mask_scores(
            assessed, model.classes, lineage, unit=images.unit, tolerance=options.tolerance, caveats=caveats
        ),
        holders=mask_holders(
            dice[there], output, _of(images, there), options.beside, lineage, work, caveats=caveats
        ),
        thresholds=thresholds(assessed, output, options.threshold, lineage, caveats),
        along=along(assessed, model.classes, lineage, images) if images.volume else None,
    )  # fmt: skip


def _of(images: Images, which: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
    """What stands beside these images."""
    return {name: np.asarray(column)[which] for name, column in images.beside.items()}


def _caveats(images: Images) -> tuple[str, ...]:
    """What is known of the images that no figure can make up for."""
    return ((_TRAINED,) if images.held_out is False else ()) + images.limits
