"""What a model says of images whose masks are known: a few figures an image, so that nothing large is kept."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.images import UNLABELLED, ImageModel, Images, asked_images, memory_of_image
from aimass.explain.segviz.boundaries import BOUNDARY, boundary_figures
from aimass.explain.segviz.instances import matched, parts_of
from aimass.explain.segviz.mask_options import MaskOptions
from aimass.explain.segviz.overlap import OVERLAP, Overlap, confusion, overlap_of
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound

__all__ = ["FIGURES", "STEPS", "Assessed", "Thing", "assess", "assess_images", "output_of", "predicted_of"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
FIGURES: Final = (*OVERLAP, *BOUNDARY)
"""Of a mask against another, in the order of every table."""
STEPS: Final = 100
"""A chance is counted in hundredths, so that a threshold can be moved without asking again."""


@dataclasses.dataclass(frozen=True)
class Thing:
    """A true thing: where its middle is, its pixels, and `figures` [7] of the predicted thing that covers it best."""

    image: int
    row: float
    column: float
    pixels: int
    figures: Floats


@dataclasses.dataclass(frozen=True)
class Assessed:
    """One image: `counts` [classes, classes] of its confusion, `figures` [classes, 7].

    `histogram` [2, STEPS + 1] counts pixels by whether they are of the output's class and by its chance in hundredths,
    rounded down. `found` of the `predicted` things match a true one.
    """

    counts: Counts
    figures: Floats
    histogram: Counts
    things: tuple[Thing, ...]
    predicted: int
    found: int


def output_of(model: ImageModel, output: str) -> int:
    """The class that is looked at: the one that is named, else the last, since the first is what is around."""
    if not model.segments:
        raise BadInput(
            "this model labels images, not pixels",
            code="explain.segments",
            value=model.name,
            cure="Give a model that segments, or ask for its views of rows.",
        )
    if output and output not in model.classes:
        known = ", ".join(model.classes)
        raise NotFound("the model tells no such class", code="explain.output", value=output, limit=known)
    return model.classes.index(output) if output else len(model.classes) - 1


def predicted_of(said: Floats, threshold: float, place: int) -> npt.NDArray[np.int64]:
    """int64 [h, w] classes of chances [classes, h, w]: of two by the threshold, of more the likeliest."""
    if len(said) == 2:
        return np.where(said[place] >= threshold, place, 1 - place)
    found: npt.NDArray[np.int64] = said.argmax(axis=0)
    return found


def assess_images(model: ImageModel, images: Images, options: MaskOptions, work: Work) -> list[Assessed]:
    """Every image, a few at a time."""
    place, masks, predict = output_of(model, options.output), images.need_masks(), asked_images(model, work)
    spacing = images.spacing[-2:] if images.spacing else (1.0, 1.0)
    if not len(images):
        raise BadInput("there are no images", code="explain.images", value=0, cure="Give at least one.")

    def one(part: slice) -> list[Assessed]:
        said = predict(images.pixels[part])
        return [
            assess(
                said[k], masks[at], options, place=place, image=at, spacing=(spacing[0], spacing[1]),
                things=None if images.instances is None else images.instances[at],
            )
            for k, at in enumerate(range(part.start, part.stop))
        ]  # fmt: skip

    parts = work.chunks(len(images), memory_of_image(model, images.height, images.width))
    return [found for part in work.each(one, parts, "comparing masks") for found in part]


def assess(
    said: Floats,
    mask: npt.NDArray[Any],
    options: MaskOptions,
    *,
    place: int,
    image: int = 0,
    spacing: tuple[float, float] = (1.0, 1.0),
    things: npt.NDArray[Any] | None = None,
) -> Assessed:
    """Chances float64 [classes, h, w] against a mask [h, w] of places; `things` [h, w] number single ones, if known."""
    classes, known = len(said), mask != UNLABELLED
    predicted = predicted_of(said, options.threshold, place)
    counts = confusion(predicted, mask, classes)
    outlines = [
        boundary_figures((predicted == k) & known, (mask == k) & known, spacing, options.tolerance)
        for k in range(classes)
    ]
    figures = np.concatenate([overlap_of(counts).figures(), np.array(outlines)], axis=1)
    steps = np.clip((said[place][known] * STEPS + 1e-9).astype(np.int64), 0, STEPS)
    histogram = np.bincount((mask[known] == place) * (STEPS + 1) + steps, minlength=2 * (STEPS + 1)).reshape(2, -1)
    if not options.things:
        return Assessed(counts, figures, histogram, (), 0, 0)
    true = parts_of(mask == place) if things is None else np.where((mask == place) & known, things, 0)
    true = _numbered(true)
    parts = _without_specks(parts_of((predicted == place) & known), true, options.least_pixels)
    compared, found = _things(parts, true, image, spacing, options.tolerance)
    return Assessed(counts, figures, histogram, compared, int(parts.max(initial=0)), found)


def _things(
    predicted: npt.NDArray[Any], true: npt.NDArray[Any], image: int, spacing: tuple[float, float], tolerance: float
) -> tuple[tuple[Thing, ...], int]:
    best, ious = matched(predicted, true)
    places, others, found = _boxes(true), _boxes(predicted), []
    for number, which in enumerate(best.tolist(), start=1):
        box = _around(places[number], others[which]) if which else _around(places[number], places[number])
        inside, said = true[box] == number, (predicted[box] == which) & (which > 0)
        both = int((inside & said).sum())
        overlap = Overlap(*(np.array(n) for n in (both, int(said.sum()) - both, int(inside.sum()) - both)))
        outline = boundary_figures(said, inside, spacing, tolerance)
        rows, columns = np.nonzero(inside)
        middle = float(rows.mean()) + box[0].start, float(columns.mean()) + box[1].start
        found.append(Thing(image, *middle, len(rows), np.concatenate([overlap.figures(), outline])))
    return tuple(found), int((ious > 0.5).sum())


def _boxes(things: npt.NDArray[Any]) -> Counts:
    """int64 [things + 1, 4]: first and last row, first and last column of each."""
    rows, columns = np.nonzero(things)
    which, most = things[rows, columns], int(things.max(initial=0)) + 1
    found = np.tile(np.array([things.shape[0], -1, things.shape[1], -1]), (most, 1))
    for place, (least, at) in enumerate(((True, rows), (False, rows), (True, columns), (False, columns))):
        (np.minimum if least else np.maximum).at(found[:, place], which, at)
    return found


def _around(one: Counts, other: Counts) -> tuple[slice, slice]:
    """The least rectangle that holds both boxes."""
    (top, left), (bottom, right) = np.minimum(one, other)[[0, 2]].tolist(), np.maximum(one, other)[[1, 3]].tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


def _numbered(things: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The same things numbered from 1 without gaps."""
    return np.unique(np.append(things.ravel(), 0), return_inverse=True)[1][:-1].reshape(things.shape)


def _without_specks(parts: npt.NDArray[np.int32], true: npt.NDArray[np.int64], least: int) -> npt.NDArray[np.int64]:
    """Parts without those of fewer pixels that are no true thing: of an IoU of 1/2 or less with each."""
    keep = np.bincount(parts.ravel()) >= least
    both = (parts > 0) & (true > 0)
    pairs, shared = np.unique(np.stack([parts[both], true[both]]), axis=1, return_counts=True)
    sizes, others = np.bincount(parts.ravel()), np.bincount(true.ravel())
    union = sizes[pairs[0]] + others[pairs[1]] - shared
    keep[pairs[0][2 * shared > union]] = True
    return _numbered(np.where(keep[parts], parts, 0))
