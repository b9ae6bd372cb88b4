"""Parameters: how a run changed its model, layer by layer and round by round."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

import streamlit as st

from aimass.explain.app.choosing import choose_run, linked
from aimass.explain.app.house import Here
from aimass.explain.app.links import link_to
from aimass.explain.app.shell import computed, frame, header, lineage_line, looked
from aimass.explain.app.watched import held, redraw_when_changed, version
from aimass.explain.app.wording import amount, with_code
from aimass.explain.opening.fetched import fetched_model
from aimass.explain.runs.layers import Layers, layers, relations
from aimass.explain.runs.trajectory import trajectory
from aimass.explain.runs.weights import Histograms, histograms, read_weights, spread
from aimass.explain.work import Work
from aimass.proto.errors import WrongState
from aimass.proto.views import ModelView, RunView

__all__ = ["render"]

T = TypeVar("T")
_LIVE_S: Final = 10.0
_MOST_MODELS: Final = 6
_EVERY_MODEL: Final = 1_000_000


def render(here: Here) -> None:
    """A run by choice, or by the address."""
    header("Parameters", "How a run changed its model: which layers moved, which moved together, and where to.")
    run_id = choose_run(here)
    if run_id is None:
        return
    view = here.feed.latest(run_id)
    if not view.summary.state.final:
        _live(here, run_id, version(view))
    try:
        found = held(here, view, "layers", layers)
    except WrongState as error:
        st.info(with_code(error.sentence()))
        return
    lineage_line(found.lineage)
    link_to(here, "runs", "Its course and its partners", run=run_id)
    key = run_id[:8]
    frame(found, f"{key}-layers", "Layers over the rounds")
    _layer(here, view, found, key)
    if (related := _part(here, view, "relations", "Relations between parameters", relations)) is not None:
        frame(related, f"{key}-relations", "Relations between parameters")
    if len(found.rounds) < 2:
        st.info("A way through the parameters needs two rounds that changed the model.")
    elif (way := _part(here, view, "trajectory", "Way of the model", trajectory)) is not None:
        frame(way, f"{key}-trajectory", "Way of the model")


@looked(_LIVE_S)
def _live(here: Here, run_id: str, drawn: Hashable) -> None:
    """The page is drawn anew once the run has gone on."""
    view = here.feed.latest(run_id)
    redraw_when_changed(view, drawn)
    st.caption(f"The run is {view.summary.state}: this is round {view.summary.round} of {view.summary.rounds}.")


def _part(here: Here, view: RunView, what: str, title: str, make: Callable[[RunView], T]) -> T | None:
    """In the background: of a long run it takes some seconds."""
    return computed(here, _key(here, view, what), title, lambda _: make(view))


def _key(here: Here, view: RunView, *what: object) -> str:
    return hashlib.sha256(repr((what, here.person.key, version(view))).encode()).hexdigest()


# ---------------------------------------------------------------- one layer


def _layer(here: Here, view: RunView, found: Layers, key: str) -> None:
    """Its weights by their quantiles after each round, and by histograms of the models that are kept."""
    st.subheader("One layer", anchor=False)
    layer = linked("layer", "Layer", found.names)
    if layer is None:
        return
    left, right = st.columns(2)
    with left:
        frame(spread(found, layer), f"{key}-spread")
    with right:
        title = f"Histograms of {layer}"
        counts = computed(
            here, _key(here, view, "histograms", layer), title, lambda work: _counts(here, found, layer, work)
        )
        if counts is not None:
            frame(counts, f"{key}-histograms")


def _counts(here: Here, found: Layers, layer: str, work: Work) -> Histograms:
    """Of the models that the server keeps, a few that are evenly apart: each is fetched once."""
    federation = here.sources.federation()
    models = _some([one for one in federation.models(found.lineage.run, _EVERY_MODEL) if one.kept])
    weights = {}
    of = amount(len(models), "kept model")
    parts = work.parts(tuple(f"{of}, round {model.round}" for model in models))
    for model, (_, part) in zip(models, parts, strict=True):
        weights[model.round] = read_weights(fetched_model(federation, model.digest, part), layer)
    return histograms(layer, weights, found.lineage)


def _some(models: list[ModelView]) -> list[ModelView]:
    """The first, the last, and others evenly between them; of a round that has several models the last."""
    by_round = {model.round: model for model in sorted(models, key=lambda one: one.committed_at)}
    rounds = sorted(by_round)
    count = min(len(rounds), _MOST_MODELS)
    places = {round(step * (len(rounds) - 1) / max(1, count - 1)) for step in range(count)}
    return [by_round[rounds[place]] for place in sorted(places)]
