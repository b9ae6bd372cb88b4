"""GAP: what a model uses overall."""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec
import streamlit as st

from aimass.explain.app.choosing import (
    Chosen,
    asking_of,
    choose_background,
    choose_model_and_rows,
    let_go,
    linked,
    linked_many,
)
from aimass.explain.app.house import Here
from aimass.explain.app.outputs import choose_output, typed_groups
from aimass.explain.app.shell import answered, frame, header, lineage_line
from aimass.explain.app.unmet import bound
from aimass.explain.gap.importance import Importance
from aimass.explain.gap.options import GapOptions
from aimass.explain.gap.parts import USED
from aimass.explain.gap.pricing import losses_for
from aimass.explain.lpi.groups import groups_of
from aimass.explain.models import Model, lineage_of
from aimass.explain.questions import question
from aimass.explain.results import Result
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["render"]

_TITLES: Final = {
    "importance": "What the model's errors hang on",
    "shapley": "How far features move single predictions",
    "sage": "Each feature's share in what the model knows",
    "ale": "How the prediction moves with a feature",
    "dependence": "The mean prediction at each value, and rows that go their own way",
    "interactions": "Which features act together",
}
_MATTERS, _ACTS, _TOGETHER = "What matters", "How it acts", "What acts together"
_NEED_OUTCOMES: Final = frozenset({"importance", "sage"})
_MOST_CURVES: Final = 12


def render(here: Here) -> None:
    """The views of `gap` over the rows that were chosen, each shown when it is there."""
    header(question("gap").title, "Which columns the predictions hang on, how sure that is, and in which way they act.")
    chosen = choose_model_and_rows(here)
    if chosen is None or not isinstance(chosen.rows, Rows):
        return
    model = chosen.subject.build(chosen.rows)
    lineage_line(lineage_of(model, chosen.rows, Work()))
    output = choose_output(model.outputs, "Label that values and curves are of", "the one predicted most")
    with st.popover("Options", icon=":material/tune:"):
        options = _options(model)
        background = choose_background(here, chosen)
    if output is None:
        return
    options = msgspec.structs.replace(options, output=output)
    groups_of(chosen.rows, options.groups)  # refuses those that cannot be, once for all views
    page = _Page(here, chosen, model, chosen.rows, options, background)
    for tab, show in zip(
        st.tabs([_MATTERS, _ACTS, _TOGETHER], key=bound("view"), bind="query-params"),
        (page.matters, page.acts, page.together),
        strict=True,
    ):
        if tab.open:
            with tab:
                show()


@dataclasses.dataclass(frozen=True)
class _Page:
    """What was chosen; `options` decide what all views are of."""

    here: Here
    chosen: Chosen
    model: Model
    rows: Rows
    options: GapOptions
    background: Rows | None

    def matters(self) -> None:
        """Importance, then what takes longer."""
        if self.rows.labels is None:
            st.info("These rows have no outcomes, so nobody knows what the model's errors hang on.")
        for view in ("importance", "shapley", "sage"):
            if self.rows.labels is not None or view not in _NEED_OUTCOMES:
                self.view(view, self.options)

    def acts(self) -> None:
        """Curves of the features that were chosen."""
        options = self._of_curves("Features that get curves", 6)
        if options is not None:
            self.view("ale", options)
            self.view("dependence", options)

    def together(self) -> None:
        """Pairs of the features that were chosen."""
        options = self._of_curves("Features whose pairs are looked at", 6)
        if options is None:
            return
        if len(options.curves) < 2:
            st.info("Choose two features or more.")
            return
        self.view("interactions", options)

    def view(self, name: str, options: GapOptions) -> None:
        """One of them, when it is there."""
        result = self._answer(name, options)
        if result is not None:
            frame(result, f"gap-{name}", _TITLES[name])

    def _answer(self, name: str, options: GapOptions) -> Result | None:
        asking = asking_of(question("gap").part(name), self.chosen, _used(name, options), self.background)
        return answered(self.here, asking, _TITLES[name], private=self.chosen.private)

    def _of_curves(self, label: str, count: int) -> GapOptions | None:
        """The options with the features that are looked at; None until it is known which matter most."""
        names = [feature.name for feature in self.rows.features]
        first = tuple(names[:count])
        if self.rows.labels is not None and "curves" not in st.query_params:
            found = self._answer("importance", self.options)
            if not isinstance(found, Importance):
                return None
            first = found.top(count)
        curves = linked_many("curves", label, names, first, one="feature", most=_MOST_CURVES)
        if not curves:
            return None
        return msgspec.structs.replace(self.options, curves=curves)


def _used(view: str, options: GapOptions) -> GapOptions:
    """What of the options a view hangs on: the others must not make it be found anew."""
    said = msgspec.structs.asdict(options)
    used = USED[view] - ({"loss", "correlated", "groups"} if options.curves and view != "dependence" else set())
    return GapOptions(**{name: said[name] for name in used})


def _options(model: Model) -> GapOptions:
    """What all views are of, as the address has it."""
    default = GapOptions()
    losses = losses_for(model)
    let_go("loss", losses)
    loss = linked("loss", "Loss", losses, named=lambda one: one.replace("_", " "))
    correlated = st.slider(
        "From which association on features are shuffled together too",
        *(0.1, 1.0, default.correlated, 0.05),
        key=bound("alike"),
        bind="query-params",
    )
    groups = typed_groups()
    with_rows = st.toggle(
        "Show single rows as they are",
        key=bound("single"),
        bind="query-params",
        help="Else dots are rounded, and each thin curve is the mean of at least five rows.",
    )
    return GapOptions(loss=loss or losses[0], correlated=correlated, groups=groups, with_rows=with_rows)
