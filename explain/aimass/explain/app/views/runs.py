"""Runs: what happened in one, live while it trains."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any, Final

import numpy as np
import streamlit as st

from aimass.explain.app.choosing import choose_run, linked
from aimass.explain.app.house import Here
from aimass.explain.app.links import link_to
from aimass.explain.app.shell import frame, header, lineage_line, looked, shown_table
from aimass.explain.app.watched import check_server, held, redraw_when_changed, version
from aimass.explain.app.wording import ago, amount, plain, size, with_code
from aimass.explain.runs.course import Course, course
from aimass.explain.runs.participation import participation
from aimass.explain.runs.partners import Partners, partners
from aimass.explain.runs.readings import committed
from aimass.explain.runs.spending import Spending, spending, told_spent
from aimass.proto.views import RunState, RunView, SlotState, StepView

__all__ = ["render"]

_LIVE_S: Final = 1.0
_EVERY: Final = "every metric"
_HOW_TO_READ: Final = (
    "A row is a partner: in how many steps it was asked, and what came of them. The bar is the share that was counted."
)
_LATEST: Final = 20
"""Steps at the end among which open ones are looked for."""


def render(here: Here) -> None:
    """A run by choice, or by the address."""
    header("Runs", "What happened in a run, and what happens now.")
    left, right = st.columns([2, 1])
    with left:
        run_id = choose_run(here)
    if run_id is None:
        return
    view = here.feed.latest(run_id)
    whole = held(here, view, "course", course)
    with right:
        metric = _metric(whole)
    if view.summary.state.final:
        _figures(view)
    else:
        _live(here, run_id, version(view))
    lineage_line(whole.lineage)
    _links(here, view)
    key = run_id[:8]
    if metric is not None:
        _course(whole, metric, key)
    offline = view.summary.kind == "offline"
    if not offline:
        members = held(here, view, "partners", partners)
        shown_table(members, f"{key}-partners", "Partners", _HOW_TO_READ, _columns(members))
    frame(
        held(here, view, "participation", participation),
        f"{key}-participation",
        "How long steps took" if offline else "Who took part",
    )
    _privacy(held(here, view, "privacy", spending), key)


def _metric(whole: Course) -> str | None:
    """One metric, or all; None where there is none, or the address names another, which is said."""
    names = [curve.name for curve in whole.curves]
    if not names:
        st.info(plain(whole.describe()[0]))
        return None
    options = [*names, _EVERY] if len(names) > 1 else names
    return linked("metric", "Metric", options)


def _course(whole: Course, metric: str, key: str) -> None:
    frame(whole if metric == _EVERY else whole.only(metric), f"{key}-course", "Course")


def _privacy(cost: Spending, key: str) -> None:
    if cost.whole.epsilon is None and np.isnan(cost.epsilon).all():
        st.subheader("Privacy", anchor=False)
        st.markdown(plain(f"The run promises {told_spent(cost.whole)}."))
    else:
        frame(cost, f"{key}-privacy", "Privacy")


def _links(here: Here, view: RunView) -> None:
    with st.container(horizontal=True):
        run_id = view.summary.run_id
        link_to(here, "parameters", "Its parameters", run=run_id)
        link_to(here, "compare", "Compare with others", task=view.summary.task)
        if view.summary.model:
            link_to(here, "gap", "What its model uses", model=f"run:{run_id}")


# ---------------------------------------------------------------- figures of now


@looked(_LIVE_S)
def _live(here: Here, run_id: str, drawn: Hashable) -> None:
    """Looks each second; the page around it is drawn anew when a step has ended."""
    check_server(here)
    view = here.feed.latest(run_id)
    redraw_when_changed(view, drawn)
    _figures(view)
    steps = [step for step in view.steps[-_LATEST:] if step.committed_at is None]
    if view.summary.state is RunState.RUNNING:  # always a line, so that nothing below it moves
        st.caption("  \n".join(_open(step, time.time()) for step in steps) or "Between two steps.")


def _figures(view: RunView) -> None:
    summary, steps = view.summary, committed(view)
    seconds = [(step.committed_at or step.opened_at) - step.opened_at for step in steps]
    ended = summary.ended_at or max((step.committed_at or 0.0 for step in steps), default=summary.created_at)
    slots = steps[-1].slots if steps else {}
    counted = sum(state is SlotState.COUNTED for state in slots.values())
    figures = {
        "State": str(summary.state),
        "Round": f"{summary.round} of {summary.rounds}",
        "Counted in the last step": f"{counted} of {len(slots)}" if slots else "–",
        "A step takes": ago(float(np.median(seconds))) if seconds else "–",
        "Moved": size(view.moved.down + view.moved.up),
        "Took so far" if not summary.state.final else "Took": ago(max(0.0, ended - summary.created_at)),
    }
    moved = f"{size(view.moved.down)} to partners and {size(view.moved.up)} from them"
    spared = f"; {size(view.moved.spared)} were spared" if view.moved.spared else ""
    told = {"Moved": f"{moved}{spared}.", "A step takes": "The median, from its opening to its commit."}
    if summary.kind == "offline":  # no partner, and nothing crosses the wire
        del figures["Counted in the last step"], figures["Moved"]
    with st.container(horizontal=True, gap="small"):
        for name, value in figures.items():
            st.metric(name, value, width="content", help=told.get(name))
    if summary.reason and summary.state is not RunState.FINISHED:
        st.warning(with_code(summary.reason))
    if view.outcome is not None:
        st.info(plain(f"Its model is {view.outcome.state}: {view.outcome.said}"))


def _open(step: StepView, now: float) -> str:
    """What partners do in a step that is underway."""
    states = [str(state) for state in step.slots.values()]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    left = step.deadline_at - now
    until = f"{ago(left)} left" if left > 0 else "past its deadline"
    return plain(f"Step {step.index} ({step.kind}, round {step.round}): {told or amount(0, 'partner')}; {until}.")


def _columns(members: Partners) -> dict[str, Any]:
    """Without what says nothing of this run."""
    hidden = {
        "connected": members.over,
        "epsilon": bool(np.isnan(members.epsilon).all()),
        "device": not any(members.devices),
        "reason": not any(members.reasons),
    }
    return _COLUMNS | {name: None for name, hide in hidden.items() if hide}


_COLUMNS: Final[dict[str, Any]] = {
    "partner": st.column_config.TextColumn("Partner", pinned=True),
    "state": "State",
    "connected": st.column_config.CheckboxColumn("Connected", help="whether its daemon is connected now"),
    "asked": st.column_config.NumberColumn("Asked", help="steps that it was asked in"),
    "counted": "Counted",
    "late": "Late",
    "failed": "Failed",
    "refused": "Refused",
    "share_counted": st.column_config.ProgressColumn("Share counted", min_value=0, max_value=1, format="percent"),
    "epsilon": st.column_config.NumberColumn("Epsilon", format="%.3g", help="of this run alone; none is no promise"),
    "device": "Device",
    "reason": "Reason",
}
