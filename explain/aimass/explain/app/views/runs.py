"""Runs: what happened in one, live while it trains."""

from __future__ import annotations

import streamlit as st

from aimass.explain.app.choosing import choose_run
from aimass.explain.app.house import Here
from aimass.explain.app.shell import frame, header, lineage_line
from aimass.explain.app.wording import ago, plain, size
from aimass.explain.runs import explain
from aimass.proto.views import RunState, RunView

__all__ = ["render"]

_LIVE_S = 1.0


def render(here: Here) -> None:
    """A run by choice, or by the address."""
    header("Runs", "What happened in a run, and what happens now.")
    run_id = choose_run(here)
    if run_id is None:
        return
    view = here.feed.latest(run_id)
    if view.summary.state.final:
        _shown(view)
    else:
        _live(here, run_id)


@st.fragment(run_every=_LIVE_S)
def _live(here: Here, run_id: str) -> None:
    view = here.feed.latest(run_id)
    if view.summary.state.final:
        st.rerun()
    _shown(view)


def _shown(view: RunView) -> None:
    summary = view.summary
    columns = st.columns(5)
    ended = summary.ended_at or max((step.committed_at or 0.0 for step in view.steps), default=summary.created_at)
    for column, (name, value) in zip(
        columns,
        (
            ("State", str(summary.state)),
            ("Round", f"{summary.round} of {summary.rounds}"),
            ("Partners", str(summary.partners)),
            ("Moved", size(view.moved.down + view.moved.up)),
            ("Took", ago(ended - summary.created_at)),
        ),
        strict=True,
    ):
        column.metric(name, value)
    if summary.reason and summary.state is not RunState.FINISHED:
        st.warning(plain(summary.reason))
    whole = explain(view)
    lineage_line(whole.lineage)
    for name, part in whole.views().items():
        frame(part, f"{summary.run_id[:8]}-{name}", name.capitalize())
