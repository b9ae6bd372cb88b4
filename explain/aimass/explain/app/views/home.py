"""Home: what runs, what is new since the last visit, and what needs somebody."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import streamlit as st

from aimass.explain.app.choosing import linked
from aimass.explain.app.house import Here
from aimass.explain.app.links import link_to
from aimass.explain.app.noticing import Item, Overview, ServiceState, changes, concerns, run_name, running
from aimass.explain.app.overview import overview
from aimass.explain.app.shell import empty, header, looked
from aimass.explain.app.wording import ago, amount, moment, plain, with_code

__all__ = ["render"]

_LIVE_S: Final = 5.0
_MOST: Final = 8
"""Of each list; the rest is counted."""
_DAY_S: Final = 86_400.0
_VISIT: Final = "visit"
_SINCE: Final = {"day": 1.0, "week": 7.0, "month": 30.0}
_TOLD: Final = {_VISIT: "your last visit", "day": "a day ago", "week": "a week ago", "month": "30 days ago"}
_REMEMBERED: Final = (
    "This app remembers visits in its memory alone, until it is ended; half an hour without a look ends a visit. Your "
    "browser keeps nothing of it."
)


def render(here: Here) -> None:
    """All of it, asked again every few seconds."""
    header("Home", "What runs, what is new, and what needs somebody.")
    before = here.house.looks.before(f"{here.person.role}/{here.person.name}")
    if not here.sources.has_server and not here.sources.registry_url and not here.settings.serving:
        _nothing()
        return
    _concerns(here)
    left, right = st.columns(2)
    with left:
        _now(here)
    with right:
        st.subheader("New", anchor=False)
        since = _since(before)
        if since is not None:
            _changes(here, since)


def _nothing() -> None:
    empty("This app knows no service yet.", "End it, and start all services on this machine; an app is among them:",
          "aimass up")  # fmt: skip
    empty("Or watch four hospitals train a model first.",
          "The demo takes some minutes; an app that is started in the same folder opens on its run:",
          "./scripts/demo\naimass explain app")  # fmt: skip
    empty("Or name what there is.", "A person's folder at a training server, a registry, rows to ask about:",
          "aimass explain app --as FOLDER --registry URL --rows NAME=FILE")  # fmt: skip


def _since(before: float | None) -> float | None:
    """From when on things are new; None where the address names no such time, which is said."""
    options = ([_VISIT] if before is not None else []) + list(_SINCE)
    if st.query_params.get("since") == _VISIT and before is None:
        del st.query_params["since"]
    chosen = linked("since", "New since", options, named=_TOLD.__getitem__, help=_REMEMBERED)
    if chosen is None:
        return None
    if chosen == _VISIT and before is not None:
        st.caption(f"It ended {moment(before)}.")
        return before
    return time.time() - _SINCE[chosen] * _DAY_S


# ---------------------------------------------------------------- each is asked again by itself


@looked(_LIVE_S)
def _concerns(here: Here) -> None:
    st.subheader("Needs somebody", anchor=False)
    seen = overview(here)
    items = concerns(seen, time.time())
    if not items:
        st.markdown(":material/check_circle: Nothing does. Looked at: runs that failed or wait, models, services.")
        return
    with st.container(border=True):
        for item in items[:_MOST]:
            _item(here, item)
        _rest(len(items))


@looked(_LIVE_S)
def _now(here: Here) -> None:
    seen = overview(here)
    st.subheader("Runs now", anchor=False)
    runs, now = running(seen.runs), time.time()
    if not runs:
        st.markdown("No run is underway.")
    for run in runs[:_MOST]:
        with st.container(border=True):
            link_to(here, "runs", run_name(run), run=run.run_id)
            done = run.round / run.rounds if run.rounds else 0.0
            st.progress(min(1.0, done), text=f"{run.state}, round {run.round} of {run.rounds}")
            st.caption(f"{plain(run.task)}, {amount(run.partners, 'partner')}, began {ago(now - run.created_at)} ago")
    _rest(len(runs))
    _services(seen.services)
    _first_steps(seen)


@looked(_LIVE_S)
def _changes(here: Here, since: float) -> None:
    items, now = changes(overview(here), since), time.time()
    if not items:
        st.markdown("Nothing happened since then.")
    for item in items[:_MOST]:
        _item(here, item, when="" if item.at is None else f", {ago(now - item.at)} ago")
    _rest(len(items))


def _services(services: Sequence[ServiceState]) -> None:
    if not services:
        return
    st.subheader("Services", anchor=False)
    for service in services:
        mark = ":material/error: away" if service.away else f":material/check_circle: {plain(service.says)}"
        st.markdown(f"**{service.title}** {mark}  \n{plain(service.address)}")


def _first_steps(seen: Overview) -> None:
    """What to do first where services answer and hold nothing."""
    if seen.runs or seen.models or not seen.services or any(service.away for service in seen.services):
        return
    empty("There is no run and no model yet.", "Submit a plan; its run is shown here while it trains.",
          "aimass run submit plan.toml --as scientist")  # fmt: skip


def _item(here: Here, item: Item, when: str = "") -> None:
    """Whom it is of, as a link where a page says more, then what is said."""
    with st.container(gap="xxsmall"):
        link_to(here, item.page, item.of, **dict(item.address))
        st.markdown(with_code(f"{item.says}{when}"))


def _rest(count: int) -> None:
    if count > _MOST:
        st.caption(f"and {count - _MOST:,} more")
