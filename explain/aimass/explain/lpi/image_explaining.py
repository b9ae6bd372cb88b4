"""The question for images: where in one image does the model see what it says?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Picture
from aimass.explain.images import ImageModel, Images, asked_images, lineage_of_images, memory_of_image
from aimass.explain.lineage import Lineage
from aimass.explain.lpi.deeplift import deeplift
from aimass.explain.lpi.gradients import incompleteness
from aimass.explain.lpi.image_map import SHOWS_NOT, ImageMap, check_of_order, faster_orders, image_panel
from aimass.explain.lpi.image_options import ImageLpiOptions
from aimass.explain.lpi.maps import LogOdds, baseline_of, gradcam, integrated, occlusion, smoothed
from aimass.explain.lpi.scale import on_scale
from aimass.explain.results import Check, Columns, Result, Whole
from aimass.explain.words import percent
from aimass.explain.work import Work, quiet
from aimass.proto.errors import BadInput, NotFound

__all__ = ["ImageLpiResult", "explain_image"]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
_MOST_AT_ONCE: Final = 64
_WITH_GRADIENTS: Final = 4
"""Times the memory of a prediction, as a network keeps for its way back."""
_NO_NETWORK: Final = "The model is a bare function: it has no gradients to look into."


class ImageLpiResult(Whole, frozen=True, kw_only=True, eq=False, tag="lpi.image"):
    """The maps of one image, those first that look into the network."""

    maps: tuple[ImageMap, ...]

    def views(self) -> Mapping[str, Result]:
        """The maps by method."""
        return {one.method.lower().replace(" ", "_"): one for one in self.maps}

    def picture(self) -> Picture:
        """The image, and all maps."""
        first = self.maps[0]
        title = f"image {first.image}: {first.output}, {percent(first.said)}"
        panels = (image_panel(first.pixels, title), *(one.panel() for one in self.maps))
        how = "Orange pixels speak for it, blue ones against it; each method asks in its own way."
        return Picture(f"Where {first.output} is seen", panels, how, SHOWS_NOT, columns=3)

    def to_columns(self) -> Columns:
        """A line a pixel, a column a map."""
        place = self.maps[0].to_columns()
        values = {one.method: one.values.ravel().tolist() for one in self.maps}
        return {"row": place["row"], "column": place["column"], **values}


def explain_image(
    model: ImageModel,
    images: Images,
    options: ImageLpiOptions = ImageLpiOptions(),
    work: Work = Work(),
) -> ImageLpiResult:
    """Where `model` sees a class in one of `images`; of a bare function by occlusion alone, which the result says.

    Where the model answers for each pixel, the class is explained over the pixels that it calls so. Raises `BadInput`
    for an image that is none, of another size, or in which no pixel is called so; `NotFound` for a class that is none.
    """
    if not 0 <= options.image < len(images):
        raise BadInput("there is no such image", code="explain.image", value=options.image, limit=len(images) - 1)
    pixels = images.pixels[options.image]
    ask = asked_images(model, dataclasses.replace(work, tell=quiet))
    said = ask(pixels[None])[0]
    place = _class(model, said, options.output)
    region = said.argmax(axis=0) == place if model.segments else None
    if region is not None and not region.any():
        raise BadInput("no pixel of the image is called so", code="explain.no_pixel", value=model.classes[place])

    def chance(some: Pixels) -> Floats:
        found = ask(some)[:, place]
        return found if region is None else found[:, region].mean(axis=1)

    baseline = baseline_of(pixels, options.baseline)
    room = work.memory_bytes // (_WITH_GRADIENTS * memory_of_image(model, *pixels.shape[:2]))
    told = _Told(
        lineage_of_images(model, images, work),
        options,
        model.classes[place],
        pixels,
        baseline,
        chance,
        work,
        max(1, min(_MOST_AT_ONCE, room)),
    )
    network = getattr(model, "network", None)
    maps, caveats = ((), (_NO_NETWORK,)) if network is None else _by_gradients(told, LogOdds(network, place, region))
    work.tell(0.7, "occlusion")
    return ImageLpiResult(lineage=told.lineage, maps=(*maps, _by_occlusion(told)), caveats=caveats)


@dataclasses.dataclass(frozen=True)
class _Told:
    """What all maps of one image share: `chance` maps images to the probability [n], `batch` of them fit the memory."""

    lineage: Lineage
    options: ImageLpiOptions
    output: str
    pixels: Pixels
    baseline: npt.NDArray[np.float32]
    chance: Callable[[Pixels], Floats]
    work: Work
    batch: int

    def map(self, method: str, unit: str, values: Floats, says: str, *checks: Check) -> ImageMap:
        """One map with its own check."""
        rng = self.work.rng("lpi", "pixels", method)
        beaten = faster_orders(self.chance, self.pixels, self.baseline, values, self.options.orders, rng)
        return ImageMap(
            lineage=self.lineage,
            image=self.options.image,
            output=self.output,
            said=float(self.chance(self.pixels[None])[0]),
            pixels=self.pixels,
            values=values,
            method=method,
            unit=unit,
            says=says,
            beaten=beaten,
            checks=(*checks, check_of_order(beaten, "pixels")),
        )


def _by_occlusion(told: _Told) -> ImageMap:
    window = told.options.window or max(2, min(told.pixels.shape[:2]) // 8)

    def odds(some: Pixels) -> Floats:
        return on_scale(told.chance(some), "log_odds")  # a probability near 1 hardly falls

    covered = occlusion(odds, told.pixels, told.baseline, window, told.batch)
    says = f"squares of {window} pixels covered by the baseline ({told.options.baseline})."
    return told.map("Occlusion", "fall of the log-odds", covered, says)


def _by_gradients(told: _Told, score: LogOdds) -> tuple[tuple[ImageMap, ...], tuple[str, ...]]:
    """The maps that need a network, and what of them cannot be had."""
    options, work, unit = told.options, told.work, "log-odds"
    work.tell(0.1, "integrated gradients")
    plain, missed, steps = integrated(score, told.pixels, told.baseline, options.steps, told.batch)
    says = f"{steps} steps from the baseline ({options.baseline}); the sum misses {percent(missed)} of the change."
    found = [told.map("Integrated gradients", unit, plain, says, incompleteness(missed))]
    work.check()
    work.tell(0.3, "noise tunnel")
    smooth = smoothed(
        score, told.pixels, told.baseline, options.steps, options.samples, told.batch, work.rng("lpi", "noise")
    )
    says = f"the mean over {options.samples} images with noise of a tenth of the image's range."
    found.append(told.map("With noise", unit, smooth, says))
    work.check()
    work.tell(0.6, "GradCAM")
    caveats: list[str] = []
    try:
        seen, layer = gradcam(score, told.pixels)
        says = f"at the convolution {layer}; it shows what speaks for the class alone."
        found.append(told.map("GradCAM", "weighted activation", seen, says))
    except BadInput as error:
        caveats.append(error.sentence())
    try:
        if options.deeplift:
            lifted = deeplift(score, told.pixels, told.baseline)
            says = f"against the baseline ({options.baseline}), of the logit less the mean of all."
            found.append(told.map("DeepLift", "logit", lifted, says))
    except BadInput as error:
        caveats.append(error.sentence())
    return tuple(found), tuple(caveats)


def _class(model: ImageModel, said: Floats, name: str) -> int:
    if name:
        if name not in model.classes:
            known = ", ".join(model.classes[:20])
            raise NotFound("the model has no such class", code="explain.output", value=name, limit=known)
        return model.classes.index(name)
    if not model.segments:
        return int(said.argmax())
    counts = np.bincount(said.argmax(axis=0).ravel(), minlength=len(model.classes))
    return int(counts[1:].argmax()) + 1 if counts[1:].any() else int(counts.argmax())
