"""Why the model says what it does of one image, and of one text."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import streamlit as st

from aimass.explain.app.choosing import Chosen, asking_of, let_go, linked
from aimass.explain.app.house import Here
from aimass.explain.app.lpi.whose import Things, choose_one, find, outcome, said_line
from aimass.explain.app.option_fields import chosen_options
from aimass.explain.app.outputs import choose_output
from aimass.explain.app.shell import answered, computed, frame, lineage_line
from aimass.explain.app.wording import plain
from aimass.explain.images import ImageModel, Images, asked_images, lineage_of_images
from aimass.explain.lpi import ImageLpiOptions, ImageLpiResult, TextLpiOptions
from aimass.explain.questions import question
from aimass.explain.texts import TextModel, Texts, lineage_of_texts
from aimass.explain.work import Work

__all__ = ["image_page", "text_page"]

_LONGEST: Final = 1_500
"""Letters of a text that are shown."""
_SIDE: Final = 160
_MODEL_SAYS: Final = "the one that the model says"


def image_page(here: Here, chosen: Chosen, model: ImageModel, images: Images) -> None:
    """Maps of one image, all beside it or one by its method."""
    lineage_line(lineage_of_images(model, images, Work()))
    things = _things(here, chosen, model, images)
    left, middle, right = st.columns(3)
    with left:
        place = choose_one(things, "image")
    with middle:
        output = choose_output(model.classes, "Class that is explained", _MODEL_SAYS)
    if place is None or output is None:
        return
    if not model.segments:
        find(things, "image", place)
    _seen(things, model, images, place)
    with st.expander("Options", icon=":material/tune:"):
        names = ["baseline", "steps", "samples", "window", "deeplift"]
        said = chosen_options(ImageLpiOptions, names, prefix="pixels")
    options = msgspec.structs.replace(said, image=place, output=output)
    result = answered(here, asking_of(question("pixels"), chosen, options), "Maps", private=chosen.private, slot="maps")
    if not isinstance(result, ImageLpiResult):
        return
    methods = result.views()
    let_go("method", ("", *methods))
    with right:
        method = linked("method", "Method", ("", *methods), named=lambda one: _method(result, one))
    if method is not None:
        frame(
            methods[method] if method else result, f"lpi-{method or 'maps'}", f"Where {result.maps[0].output} is seen"
        )


def _method(result: ImageLpiResult, name: str) -> str:
    return {view: one.method for view, one in zip(result.views(), result.maps, strict=True)}.get(name, "all of them")


def _seen(things: Things, model: ImageModel, images: Images, place: int) -> None:
    """A look at the image, and what the model says of it."""
    seen, words = st.columns([1, 2])
    high, wide = images.pixels.shape[1:3]
    told = f"Image {place} as it is, {wide} by {high} pixels"
    seen.image(_bright(images.pixels[place]), width=_SIDE, caption=f"image {place}", alt=told)
    if not model.segments:
        with words:
            said_line(things, asked_images(model, Work())(images.pixels[place : place + 1])[0], place)


def _things(here: Here, chosen: Chosen, model: ImageModel, images: Images) -> Things:
    key = f"said {model.digest or here.viewer} {lineage_of_images(model, images, Work()).data_digest}"

    def said() -> npt.NDArray[np.float64] | None:
        return computed(
            here,
            key,
            "What the model says of all images",
            lambda work: asked_images(model, work)(images.pixels),
            private=chosen.private,
        )

    def told(_: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
        return {}

    known = None if images.labels is None or images.classes != model.classes else images.labels
    return Things("image", len(images), model.classes, True, known, said, None, told, first=0)


def _bright(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """As bright as can be: masks and scans may use few of the levels."""
    shown: npt.NDArray[np.uint8] = (pixels * (255.0 / max(1, int(pixels.max())))).round().astype(np.uint8)
    return shown


def text_page(here: Here, chosen: Chosen, model: TextModel, texts: Texts) -> None:
    """Which pieces of one text speak for what the model says."""
    lineage_line(lineage_of_texts(model, texts, Work()))
    known = None if texts.labels is None or texts.classes != model.classes else texts.labels
    things = Things("text", len(texts), model.classes, True, known, lambda: None, None, lambda _: {})
    left, right = st.columns(2)
    with left:
        place = choose_one(things, "text")
    with right:
        output = choose_output(model.classes, "Class that is explained", _MODEL_SAYS)
    if place is None or output is None:
        return
    text = texts.texts[place]
    cut = " …" if len(text) > _LONGEST else ""
    with st.container(border=True):
        st.markdown(plain(text[:_LONGEST]) + cut)
    st.markdown(f"**Outcome** {plain(outcome(things, place))}")
    with st.expander("Options", icon=":material/tune:"):
        said = chosen_options(TextLpiOptions, ["steps", "orders"], prefix="pieces")
    options = msgspec.structs.replace(said, text=place, output=output)
    asking = asking_of(question("pieces"), chosen, options)
    result = answered(here, asking, "Pieces", private=chosen.private, slot="pieces")
    if result is not None:
        frame(result, "lpi-pieces", "Which pieces speak for it")
