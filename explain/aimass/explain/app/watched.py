"""A run that pages show while it goes on: what of it was drawn is drawn anew once it has changed, and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

import streamlit as st

from aimass.explain.app.house import Here
from aimass.explain.app.shell import told_error
from aimass.proto.errors import Unavailable
from aimass.proto.views import RunView

__all__ = ["check_server", "held", "redraw_when_changed", "version"]

T = TypeVar("T")
_AT_MOST_S: Final = 2.0
"""Charts of a run whose rounds are quick are drawn no more often."""
_ASK_S: Final = 5.0
_DRAWN: Final = "_run_drawn_at"


def version(view: RunView) -> Hashable:
    """Equal for views of which charts and tables are the same."""
    summary = view.summary
    return summary.run_id, summary.state, summary.round, view.transcript_head, len(view.steps), hash(view.participants)


def held(here: Here, view: RunView, what: str, make: Callable[[RunView], T]) -> T:
    """What `make` comes to, made once for a version of a run however often the page is run."""
    key = ("run", what, here.person.key, version(view))
    return here.house.drawn.get(key, math.inf, lambda: make(view))


def redraw_when_changed(view: RunView, drawn: Hashable) -> None:
    """From a fragment: run the whole page once the run has changed since, but not all the time."""
    since = time.monotonic() - float(st.session_state.get(_DRAWN, 0.0))
    if version(view) != drawn and (since > _AT_MOST_S or view.summary.state.final):
        st.session_state[_DRAWN] = time.monotonic()
        st.rerun()


def check_server(here: Here) -> None:
    """Say where the server is away: a run that is watched would else stand still without a word."""
    try:
        here.sources.remembered("answers", _ASK_S, lambda: here.sources.federation().runs(limit=1))
    except Unavailable as error:
        told_error(error)
        st.caption("What is shown is what was heard of the run last. It goes on by itself once the server answers.")
