"""The sections about one row: why, what if, another prediction, and whether the values can be trusted."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import streamlit as st

from aimass.explain.app.choosing import Chosen, asking_of, let_go, linked, linked_many
from aimass.explain.app.house import Here
from aimass.explain.app.lpi.what_if import change_cells, set_changes
from aimass.explain.app.shell import answered, frame
from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import plain
from aimass.explain.lpi.cells import changes_of, with_changes
from aimass.explain.lpi.counterfactual import Counterfactual
from aimass.explain.lpi.gradients import network_of_table
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.lpi.scale import Scale, change, level
from aimass.explain.models import Model, asked
from aimass.explain.questions import question
from aimass.explain.results import Result
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["VIEWS", "WHAT_IF", "RowPage"]

WHY, WHAT_IF, OTHER, TRUST = "Why", "What if", "Another prediction", "Can it be trusted"
VIEWS: Final = (WHY, WHAT_IF, OTHER, TRUST)
_TITLES: Final = {
    "attribution": "What moved the prediction of this row",
    "what_if": "How prediction and values move",
    "counterfactual": "The nearest row that is decided otherwise",
    "faithfulness": "Do the values tell what moves the prediction?",
    "gradients": "Do gradients say the same?",
}


@dataclasses.dataclass(frozen=True)
class RowPage:
    """What was chosen; `options` say which row and how, `said` [outputs] is what the model says of it.

    `scope` tells models and rows apart.
    """

    here: Here
    chosen: Chosen
    model: Model
    rows: Rows
    background: Rows | None
    options: LpiOptions
    said: npt.NDArray[np.float64]
    scope: str

    def show(self, view: str) -> None:
        """One of the sections."""
        {WHY: self._why, WHAT_IF: self._what_if, OTHER: self._other, TRUST: self._trust}[view]()

    def _why(self) -> None:
        self._view("attribution", self.options)

    def _what_if(self) -> None:
        private = self.chosen.private
        kept = "It stays in this session, and not in the address." if private else "The address keeps it."
        st.markdown(f"Change what stands in the row: the model is asked again at once. {kept}")
        changes = change_cells(self.rows, self.options.row, self.scope, private=private)
        if changes is None:
            return
        if not changes:
            st.info("Nothing is changed yet.")
            return
        self._moved(changes)
        self._view("what_if", msgspec.structs.replace(self.options, what_if=changes), slot="what-if")

    def _moved(self, changes: tuple[str, ...]) -> None:
        """The prediction before and after, at once."""
        cells = with_changes(self.rows.values[self.options.row], changes_of(self.rows, changes))
        after = asked(self.model, Work())(cells[None])[0]
        place = self._output()
        scale: Scale = "probability" if self.model.classifies else "number"
        move = float(after[place] - self.said[place])
        named = plain(self.model.outputs[place])
        columns = st.columns(3)
        columns[0].metric(f"{named}, as it is", level(float(self.said[place]), scale))
        columns[1].metric(
            f"{named}, with the changes", level(float(after[place]), scale), change(move, scale), delta_color="off"
        )
        if self.model.classifies and len(self.model.outputs) > 1:
            columns[2].metric("The model would say", plain(self.model.outputs[int(after.argmax())]))

    def _output(self) -> int:
        """The label that is explained."""
        if self.options.output:
            return self.model.outputs.index(self.options.output)
        return len(self.model.outputs) - 1 if len(self.model.outputs) <= 2 else int(self.said.argmax())

    def _other(self) -> None:
        options = self._goal()
        if options is None:
            return
        found = self._view("counterfactual", options, slot="counterfactual")
        if isinstance(found, Counterfactual) and found.ways:
            _tries(found, self.chosen.private)

    def _goal(self) -> LpiOptions | None:
        """What the row is to become, which features must stay, and how many may change."""
        names = [feature.name for feature in self.rows.features]
        left, right = st.columns(2)
        with left:
            target = self._target()
        with right:
            most = st.number_input(
                "Features that may change at most",
                1,
                6,
                LpiOptions().most_changes,
                key=bound("changes"),
                bind="query-params",
            )
        kept = linked_many("keep", "Features that must stay", names, (), one="feature", most=len(names))
        if target is None or any(name not in names for name in st.query_params.get_all("keep")):
            return None
        return msgspec.structs.replace(self.options, target=target, immutable=kept, most_changes=int(most))

    def _target(self) -> str | None:
        """A label; or a level, of what is a number; None where none is said yet."""
        if self.model.classifies and len(self.model.outputs) > 1:
            others = tuple(name for place, name in enumerate(self.model.outputs) if place != int(self.said.argmax()))
            choices = others if len(others) == 1 else ("", *others)
            let_go("target", choices)
            return linked("target", "The model is to say", choices, named=lambda one: one or "the next likely label")
        said = st.text_input(
            "The prediction is to be",
            key=bound("level"),
            bind="query-params",
            placeholder=f">= {float(self.said[0]):.3g}",
        ).replace(" ", "")
        if not said:
            st.info("Write a level that the prediction is to reach, like >= 10 or <= 2.5.")
        return said or None

    def _trust(self) -> None:
        self._view("faithfulness", self.options)
        if network_of_table(self.model) is not None:
            self._view("gradients", self.options)

    def _view(self, name: str, options: LpiOptions, slot: str = "") -> Result | None:
        """One of them, when it is there."""
        asking = asking_of(question("lpi").part(name), self.chosen, options, self.background)
        result = answered(self.here, asking, _TITLES[name], private=self.chosen.private, slot=slot)
        if result is not None:
            frame(result, f"lpi-{name}", _TITLES[name])
        return result


def _tries(found: Counterfactual, private: bool) -> None:
    """A button for each way, that shows it in What if."""
    with st.container(horizontal=True):
        for place, way in enumerate(found.ways):
            st.button(
                f"Try {'the nearest' if place == 0 else f'way {place + 1}'} in {WHAT_IF}",
                key=f"try-{place}",
                icon=":material/edit:",
                help=plain(way.told()),
                on_click=set_changes,
                args=(way.changes, private, WHAT_IF),
            )
