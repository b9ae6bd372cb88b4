"""LPI: why a model predicts what it does for one row, one image or one text."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import streamlit as st

from aimass.explain.app.choosing import Chosen, choose_background, choose_model_and_rows
from aimass.explain.app.house import Here
from aimass.explain.app.lpi.pictures import image_page, text_page
from aimass.explain.app.lpi.sections import VIEWS, RowPage
from aimass.explain.app.lpi.whose import Things, choose_one, find, said_line
from aimass.explain.app.option_fields import chosen_options
from aimass.explain.app.outputs import choose_output, typed_groups
from aimass.explain.app.shell import computed, header, lineage_line
from aimass.explain.app.unmet import bound
from aimass.explain.conditions import rows_where
from aimass.explain.images import Images
from aimass.explain.lpi.groups import groups_of
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.questions import question
from aimass.explain.rows import Rows
from aimass.explain.texts import Texts
from aimass.explain.work import Work

__all__ = ["render"]

_ASKS: Final = "What moved the prediction of one row, image or text, what would change it, and how far to trust that."
_MOST_COLUMNS: Final = 30
"""Features that stand in the table of what was found."""


def render(here: Here) -> None:
    """Of a table a row and four sections about it; of images and texts one of them and its maps, or its pieces."""
    header(question("lpi").title, _ASKS)
    chosen = choose_model_and_rows(here, ("rows", "images", "texts"))
    if chosen is None:
        return
    match chosen.rows:
        case Images() if chosen.subject.images is not None:
            image_page(here, chosen, chosen.subject.images, chosen.rows)
        case Texts() if chosen.subject.texts is not None:
            text_page(here, chosen, chosen.subject.texts, chosen.rows)
        case Rows():
            _row_page(here, chosen, chosen.rows)


def _row_page(here: Here, chosen: Chosen, rows: Rows) -> None:
    model = chosen.subject.build(rows)
    lineage = lineage_of(model, rows, Work())
    lineage_line(lineage)
    scope = f"{model.digest[:12] or here.viewer}-{lineage.data_digest[:12]}"
    things = _things(here, chosen, model, rows, f"said {scope}")
    left, right = st.columns(2)
    with left:
        row = choose_one(things, "row")
    with right:
        output = choose_output(model.outputs, "Label that is explained", "the one that the model says")
    if row is None or output is None:
        return
    find(things, "row", row)
    said = asked(model, Work())(rows.values[row : row + 1])[0]
    said_line(things, said, row)
    with st.popover("Options", icon=":material/tune:"):
        options = msgspec.structs.replace(_options(model), row=row, output=output if model.classifies else "")
        background = choose_background(here, chosen)
    groups_of(rows, options.groups)  # refuses those that cannot be, once for all views
    page = RowPage(here, chosen, model, rows, background, options, said, scope)
    for name, tab in zip(VIEWS, st.tabs(VIEWS, key=bound("view"), bind="query-params"), strict=True):
        if tab.open:
            with tab:
                page.show(name)


def _options(model: Model) -> LpiOptions:
    """What all sections are of, as the address has it."""
    names = [*(["scale"] if model.classifies else []), "references", "background_by", "correlated", "method", "pairs"]
    found = chosen_options(LpiOptions, names, prefix="lpi", across=2)
    return msgspec.structs.replace(found, groups=typed_groups())


def _things(here: Here, chosen: Chosen, model: Model, rows: Rows, key: str) -> Things:
    """The rows as what one is chosen of."""
    classes = bool(rows.classes) and len(model.outputs) > 1
    labels = (rows.labelled(model.outputs) if classes else rows).labels

    def said() -> npt.NDArray[np.float64] | None:
        return computed(
            here,
            key,
            "What the model says of all rows",
            lambda work: asked(model, work)(rows.values),
            private=chosen.private,
        )

    def told(places: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
        return {
            feature.title: [feature.told(float(cell)) for cell in rows.values[places, place]]
            for place, feature in enumerate(rows.features[:_MOST_COLUMNS])
        }

    return Things(
        one="row",
        count=len(rows),
        outputs=model.outputs,
        classifies=model.classifies,
        labels=labels,
        said=said,
        among=lambda text: rows_where(rows, text),
        told=told,
        private=chosen.private,
    )
