"""The tour: a first look at a model over its hospitals, question by question, each with its answer found now."""

from __future__ import annotations

import streamlit as st

from aimass.explain.app.choosing import Chosen, choose_model_and_rows
from aimass.explain.app.house import Here
from aimass.explain.app.links import link_to
from aimass.explain.app.shell import answered, header
from aimass.explain.app.tour_steps import Step, steps_of
from aimass.explain.app.wording import plain
from aimass.explain.runs import explain
from aimass.explain.runs.exposure import exposure
from aimass.proto.errors import NotFound, Refused

__all__ = ["render"]


def render(here: Here) -> None:
    """Questions about the model and the rows that are chosen above them."""
    header(
        "A first look",
        "Questions that people ask of a model, in an order that makes sense. Each leads to the page that answers it "
        "and says where to look there; the answer is found anew for the model and the rows that you choose here.",
    )
    chosen = choose_model_and_rows(here)
    if chosen is None:
        return
    if chosen.rows.held_out is False:
        st.info("The model was trained on these rows: what is said of its errors here flatters it.")
    number = _training(here, chosen)
    for place, step in enumerate(steps_of(chosen), number):
        _step(here, chosen, step, place)
    st.subheader("Where to go on", anchor=False)
    st.markdown(
        "Change a value under *What if* on the page of single predictions and watch the answer move. Slide the "
        "thresholds on the page of predictions. Choose another hospital's rows above and see what changes. Every "
        "page's address holds what you see: send it to a colleague."
    )


def _training(here: Here, chosen: Chosen) -> int:
    """What the run that made the model says, where it may be seen; the number of the next question."""
    run_id = _run_of(chosen)
    if not run_id or not here.sources.has_server:
        return 1
    try:
        view = here.sources.run(run_id)
    except (NotFound, Refused):
        return 1
    whole = explain(view)
    _heading(1, "Did the training go well, and did everybody take part?")
    st.markdown("One line a metric by round; below it who was counted in which step, and how long each step took.")
    link_to(here, "runs", "Open the run", run=view.summary.run_id)
    if st.toggle("Show the answer", key="tour-training"):
        _said((*whole.course.describe()[:1], *whole.participation.describe()[:1]))
    _heading(2, "What could the server learn about the hospitals?")
    st.markdown("Each thing that leaves a hospital, and how far it is guarded.")
    link_to(here, "privacy", "Open its privacy", run=view.summary.run_id)
    if st.toggle("Show the answer", key="tour-privacy"):
        _said(tuple(one.says for one in exposure(view)[:2]))
    return 3


def _run_of(chosen: Chosen) -> str:
    version = chosen.subject.version
    if version is not None:
        return "" if version.run is None else version.run.run_id
    kind, _, run_id = chosen.reference.partition(":")
    return run_id if kind == "run" else ""


def _step(here: Here, chosen: Chosen, step: Step, place: int) -> None:
    _heading(place, step.question)
    st.markdown(step.look)
    link_to(here, step.page, "Open the page", **_address(step))
    if not st.toggle("Show the answer", key=f"tour-{step.name}"):
        return
    result = answered(here, step.asking(chosen), step.question, private=chosen.private)
    if result is not None:
        _said(step.says(result))
        st.caption(step.warning)


def _address(step: Step) -> dict[str, str]:
    """The same model and rows as here, and what the step wants besides."""
    chosen = {name: st.query_params[name] for name in ("model", "rows") if name in st.query_params}
    return chosen | dict(step.address)


def _heading(place: int, question: str) -> None:
    st.subheader(f"{place}. {question}", anchor=False)


def _said(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        st.markdown(f"> {plain(sentence)}")
