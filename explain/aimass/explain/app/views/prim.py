"""PRIM: where predictions fall, in bands between thresholds and in boxes of features; over space for images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
import streamlit as st

from aimass.explain.app.choosing import Chosen, asking_of, choose_model_and_rows
from aimass.explain.app.house import Here
from aimass.explain.app.option_fields import chosen_options
from aimass.explain.app.shell import answered, frame, header, lineage_line
from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import plain
from aimass.explain.prim import Bands, PrimBands, PrimBoxes, PrimOptions, SpaceBands, SpaceOptions
from aimass.explain.questions import Question, question
from aimass.explain.rows import Rows

__all__ = ["render", "started"]

_ASKS: Final = (
    "In which bands the predictions lie, whether they mean what they say there, and for whom they are highest."
)
_BANDS: Final = Question("prim-bands", "Bands", "where predictions fall", "aimass.explain.prim", "explain_bands")
_BOXES: Final = Question("prim-boxes", "Boxes", "where they are highest", "aimass.explain.prim", "explain_boxes")
"""The parts of `prim`: the quick one is shown while the other is searched for."""
_MOST: Final = 5
_STEPS: Final = 1_000
"""Places of a slider: the bins of the views."""


B = TypeVar("B", Bands, SpaceBands)


def render(here: Here) -> None:
    """Bands, map and boxes of a table's predictions; of images their bands over space."""
    header("Where the predictions fall", _ASKS)
    chosen = choose_model_and_rows(here, ("rows", "pixels"))
    if chosen is None:
        return
    if chosen.subject.kind == "images":
        _space(here, chosen)
    else:
        _table(here, chosen)


def _table(here: Here, chosen: Chosen) -> None:
    options = _options(chosen)
    first = answered(here, asking_of(_BANDS, chosen, options), _BANDS.title, private=chosen.private)
    if not isinstance(first, PrimBands):
        return
    lineage_line(first.lineage)
    frame(moved(first.bands), "prim-bands", "Bands")
    frame(first.map, "prim-map", "Over two features")
    found = answered(here, asking_of(_BOXES, chosen, options), _BOXES.title, private=chosen.private)
    if not isinstance(found, PrimBoxes):
        return
    frame(found.boxes, "prim-boxes", f"Boxes of {plain(found.boxes.target)}")
    if found.errors is not None:
        frame(found.errors, "prim-errors", "Boxes where the model is most wrong")


def _options(chosen: Chosen) -> PrimOptions:
    rows = chosen.rows
    if not isinstance(rows, Rows):
        return PrimOptions()
    features = [feature.name for feature in rows.features]
    beside = [name for name, column in rows.beside.items() if len(set(map(str, column))) > 1]
    names = ["x", "y", "beside", "target", "direction", "support", "boxes", "conditions", "features"]
    choices = {"x": features, "y": features, "beside": beside, "features": features}
    with st.expander("Options", icon=":material/tune:"):
        return chosen_options(PrimOptions, names, prefix="prim", choices=choices)


def _space(here: Here, chosen: Chosen) -> None:
    asked = question("space")
    classes = list(getattr(chosen.subject.images, "classes", ()))
    with st.expander("Options", icon=":material/tune:"):
        options = chosen_options(SpaceOptions, ["output"], prefix="space", choices={"output": classes[1:] or classes})
    result = answered(here, asking_of(asked, chosen, options), asked.title, private=chosen.private)
    if not isinstance(result, SpaceBands):
        return
    lineage_line(result.lineage)
    frame(moved(result), "prim-space")


def moved(view: B) -> B:
    """The view cut where the viewer slides its thresholds, which stand in the address."""
    low, high = float(view.edges[0]), float(view.edges[-1])
    left, right = st.columns([1, 3])
    with left:
        count = int(
            st.number_input(
                "Thresholds",
                1,
                _MOST,
                len(view.thresholds),
                key=bound("cuts"),
                bind="query-params",
                help="One less than bands.",
            )
        )
    step = (high - low) / _STEPS
    begins = started(view.thresholds.tolist(), count, low, high)
    with right:
        cuts = [
            st.slider(
                f"Threshold {place + 1}",
                low + step,
                high - step,
                begin,
                step,
                format="%.3g",
                key=bound(f"cut-{count}-{place + 1}"),
                bind="query-params",
            )
            for place, begin in enumerate(begins)
        ]
    return view.at(sorted(float(cut) for cut in cuts))


def started(thresholds: Sequence[float], count: int, low: float, high: float) -> tuple[float, ...]:
    """Where so many sliders begin: at the view's own thresholds, or evenly spread where there are other many."""
    found = thresholds if len(thresholds) == count else np.linspace(low, high, count + 2)[1:-1].tolist()
    step = (high - low) / _STEPS
    return tuple(float(min(max(low + round((cut - low) / step) * step, low + step), high - step)) for cut in found)
