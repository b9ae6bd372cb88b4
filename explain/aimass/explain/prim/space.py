"""Bands over space: the pixels of images, or the voxels of a volume, cut at thresholds of what is predicted of them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.images import Floats, ImageModel, Images, Pixels, asked_images, lineage_of_images, memory_of_image
from aimass.explain.prim.bands import histogram
from aimass.explain.prim.options import SpaceOptions, thresholds_of
from aimass.explain.prim.space_view import SpaceBands
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import UNLABELLED

__all__ = ["explain_images"]

Ints = npt.NDArray[np.int64]
_FINE: Final = 100
_SHOWN: Final = 6
_SIDE: Final = 128
"""Pixels of a side of what is shown, at most: larger images are shown in blocks."""


def explain_images(
    model: ImageModel, images: Images, options: SpaceOptions = SpaceOptions(), work: Work = Work()
) -> SpaceBands:
    """Where in the images a segmenting model is how sure of one class; raises `BadInput` for a model that labels them.

    Which images are shown follows from the predictions: of a volume slices at equal steps among those with any pixel
    in the highest band that is not empty, else the images with most of them.
    """
    place, cuts = _asked(model, images, options)
    edges = np.union1d(np.arange(_FINE + 1) / _FINE, cuts)
    predict = asked_images(model, work)
    counts = np.zeros((len(images), len(edges) - 1), np.int64)
    hits = np.full(counts.shape, 0 if images.masks is not None else -1, np.int64)
    maps: list[Pixels] = []
    for part in work.chunks(len(images), 2 * memory_of_image(model, images.height, images.width)):
        said = predict(images.pixels[part])[:, place].clip(0, 1)
        for step, one in enumerate(said, part.start):
            counts[step], hits[step] = _pixels(one, None if images.masks is None else images.masks[step], place, edges)
            maps.append(_block_means(one))
        work.tell(part.stop / len(images), "images")
    shown = _shown(_highest(counts, edges, cuts), volume=images.volume)
    return SpaceBands(
        lineage=lineage_of_images(model, images, work),
        caveats=_caveats(model, images, options, place),
        output=model.classes[place],
        thresholds=cuts,
        volume=images.volume,
        edges=edges,
        counts=counts,
        hits=hits,
        shown=shown,
        maps=np.stack([maps[one] for one in shown]),
    )


def _asked(model: ImageModel, images: Images, options: SpaceOptions) -> tuple[int, Floats]:
    """The place of the class that is looked at, and the thresholds."""
    if not model.segments:
        raise BadInput(
            "this model says nothing of single pixels",
            code="explain.segments",
            value=model.name,
            cure="Ask for bands over space of a model that segments.",
        )
    if not len(images) or not images.height * images.width:
        raise BadInput("there is nothing to explain", code="explain.empty", value=f"{len(images)} images")
    if options.output and options.output not in model.classes:
        known = ", ".join(model.classes[:20])
        raise NotFound("the model has no such output", code="explain.output", value=options.output, limit=known)
    place = model.classes.index(options.output) if options.output else min(1, len(model.classes) - 1)
    return place, thresholds_of(options.thresholds, np.zeros(1), classifies=True)


def _pixels(said: Floats, mask: Pixels | None, place: int, edges: Floats) -> tuple[Ints, Ints]:
    """Of one image: pixels by score, of those that have a label where there are any, and how many are of the class."""
    if mask is None:
        return histogram(said.ravel(), edges).counts[0], np.full(len(edges) - 1, -1, np.int64)
    known = mask != UNLABELLED
    found = histogram(said[known], edges, (mask[known] == place).astype(np.float64))
    return found.counts[0], found.outcomes[0].astype(np.int64)


def _block_means(said: Floats) -> Pixels:
    """The probabilities in 255 steps, uint8 [height, width] of at most 128 a side: blocks are their mean."""
    size = -(-max(said.shape) // _SIDE)
    starts = [np.arange(0, length, size) for length in said.shape]
    sums = np.add.reduceat(np.add.reduceat(said, starts[0], axis=0), starts[1], axis=1)
    rows, columns = (np.diff(np.append(start, length)) for start, length in zip(starts, said.shape, strict=True))
    found: Pixels = np.rint(255 * sums / np.outer(rows, columns)).astype(np.uint8)
    return found


def _highest(counts: Ints, edges: Floats, cuts: Floats) -> Ints:
    """How many pixels of each image lie in the highest band that has any, int64 [images]."""
    bands = np.add.reduceat(counts, np.concatenate([[0], np.searchsorted(edges, cuts)]), axis=1)
    found: Ints = bands[:, np.flatnonzero(bands.sum(axis=0))[-1]] if bands.any() else bands[:, 0]
    return found


def _shown(top: Ints, *, volume: bool) -> Ints:
    """Which images are shown, int64 [at most 6]: see `explain_images`."""
    if not volume:
        return np.sort(np.argsort(-top, kind="stable")[:_SHOWN]).astype(np.int64)
    some = np.flatnonzero(top > 0) if top.any() else np.arange(len(top))
    return some[np.unique(np.linspace(0, len(some) - 1, _SHOWN).round().astype(np.int64))].astype(np.int64)


def _caveats(model: ImageModel, images: Images, options: SpaceOptions, place: int) -> tuple[str, ...]:
    said = list(images.limits)
    if not options.output and len(model.classes) > 2:
        said.append(
            f"Of {len(model.classes)} classes this is {model.classes[place]}, the first that is not background."
        )
    if images.masks is None:
        said.append("The images have no masks, so nothing is said of what was true.")
    if max(images.height, images.width) > _SIDE:
        said.append("Images are shown in blocks of pixels, each its mean; figures are of the pixels.")
    if images.held_out is False:
        said.append("The model was trained on these images: on others its bands mean less.")
    return tuple(said)
