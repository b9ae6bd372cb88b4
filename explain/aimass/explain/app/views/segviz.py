"""SegViz: where a model is wrong. Of tables in bands, slices and a tree; of images and volumes pixel by pixel."""

from __future__ import annotations

from typing import Final

import streamlit as st

from aimass.explain.app.choosing import Chosen, asking_of, choose_model_and_rows
from aimass.explain.app.house import Here
from aimass.explain.app.option_fields import chosen_options
from aimass.explain.app.shell import answered, empty, frame, header, lineage_line
from aimass.explain.app.unmet import bound
from aimass.explain.images import Images
from aimass.explain.questions import Question, question
from aimass.explain.rows import Rows
from aimass.explain.segviz import Gallery, LookOptions, MaskOptions, MasksResult, SegvizOptions, SegvizResult, around

__all__ = ["render"]

_ASKS: Final = "For whom, where and how far the model is wrong, the worst first."
_LOOK: Final = Question(
    "look", "One image", "where one image is segmented wrongly", "aimass.explain.segviz", "explain_image", "images"
)
_TITLES: Final = {
    "slices": "Kinds of rows with more error",
    "bands": "By band of the prediction",
    "holders": "By who holds the rows",
    "tree": "A tree of errors",
    "gallery": "The worst images",
    "masks": "By class",
    "things": "Single things",
    "thresholds": "What the threshold does",
    "along": "Along the volume",
}


def render(here: Here) -> None:
    """The views of `segviz` over rows, or over images and their masks."""
    header("Where the model is wrong", _ASKS)
    chosen = choose_model_and_rows(here, ("rows", "pixels"))
    if chosen is None:
        return
    if isinstance(chosen.rows, Images):
        _images(here, chosen, chosen.rows)
    elif isinstance(chosen.rows, Rows):
        _table(here, chosen, chosen.rows)


# ---------------------------------------------------------------- tables


def _table(here: Here, chosen: Chosen, rows: Rows) -> None:
    if rows.labels is None:
        empty(
            "These rows have no outcomes.", "Where a model is wrong is known of rows whose outcome is: choose others."
        )
        return
    beside = [name for name, column in rows.beside.items() if len(set(map(str, column))) > 1]
    names = ["threshold", "bands", "beside", "slices", "depth", "least", "tree_depth"]
    with st.expander("Options", icon=":material/tune:"):
        options = chosen_options(SegvizOptions, names, prefix="segviz", choices={"beside": beside})
    asked = question("segviz")
    result = answered(here, asking_of(asked, chosen, options), asked.title, private=chosen.private)
    if not isinstance(result, SegvizResult):
        return
    lineage_line(result.lineage)
    for name in ("slices", "bands", "holders", "tree"):
        part = result.views().get(name)
        if part is not None:
            frame(part, f"segviz-{name}", _TITLES[name])


# ---------------------------------------------------------------- images


def _images(here: Here, chosen: Chosen, images: Images) -> None:
    model = chosen.subject.images
    classes = list(getattr(model, "classes", ()))[1:]
    beside = [name for name, column in images.beside.items() if len(set(map(str, column))) > 1]
    with st.container():
        options = chosen_options(
            MaskOptions,
            ["output", "threshold", "beside"],
            prefix="masks",
            choices={"output": classes, "beside": beside},
        )
    _one(here, chosen, images, options)
    asked = question("masks")
    result = answered(here, asking_of(asked, chosen, options), asked.title, private=chosen.private)
    if not isinstance(result, MasksResult):
        return
    lineage_line(result.lineage)
    for name, part in result.views().items():
        frame(part, f"masks-{name}", _TITLES[name])


def _one(here: Here, chosen: Chosen, images: Images, options: MaskOptions) -> None:
    """Any image by its number, and the chance of any of its pixels."""
    what = "slice" if images.volume else "image"
    st.subheader(f"One {what}", anchor=False)
    number = 0
    if len(images) > 1:
        number = int(st.slider(what.capitalize(), 0, len(images) - 1, key=bound("masks-image"), bind="query-params"))
    look = LookOptions(output=options.output, threshold=options.threshold, image=number)
    shown = answered(here, asking_of(_LOOK, chosen, look), f"{_LOOK.title} {number}", private=chosen.private)
    if not isinstance(shown, Gallery):
        return
    frame(shown, f"{what}-{number}")
    _pixel(shown, what)


def _pixel(shown: Gallery, what: str) -> None:
    height, width = shown.cells.shape[1:]
    st.markdown(f"**One pixel of this {what}**, and those around it")
    left, right = st.columns(2)
    with left:
        row = int(st.number_input("Row", 0, height - 1, height // 2, key=bound("pixel-row"), bind="query-params"))
    with right:
        column = int(
            st.number_input("Column", 0, width - 1, width // 2, key=bound("pixel-column"), bind="query-params")
        )
    frame(around(shown, 0, row, column), f"pixel-{int(shown.places[0])}-{row}-{column}")
