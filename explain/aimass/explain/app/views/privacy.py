"""Privacy: what a run spent, what its server could learn, and what all runs over the same data cost together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import streamlit as st

from aimass.explain.app.choosing import choose_run
from aimass.explain.app.house import Here
from aimass.explain.app.people import RUNS
from aimass.explain.app.shell import computed, empty, frame, header, lineage_line
from aimass.explain.app.wording import amount, moment, plain
from aimass.explain.runs.exposure import exposure
from aimass.explain.runs.spending import Spending, planned_and_spent, spending, told_spent
from aimass.explain.work import Work
from aimass.privacy.dp.spending import spent_together
from aimass.proto.registry.entries import Spent
from aimass.proto.views import RunSummary, RunView

__all__ = ["render"]

_BADGES: Final = {
    "yes": ":green-badge[guarded]",
    "partly": ":orange-badge[partly guarded]",
    "no": ":red-badge[open]",
}
_MOST_RUNS: Final = 50


def render(here: Here) -> None:
    """One run by choice or by the address, then all runs over the same data."""
    header("Privacy", "What a run spent of a single row's privacy, and what its server could learn of its partners.")
    if not here.sources.has_server:
        empty("This app knows no training server.", "Start it with --as FOLDER.", "aimass explain app --as scientist")
        return
    run_id = choose_run(here)
    if run_id is None:
        return
    view = here.feed.latest(run_id)
    st.subheader("What the server could learn", anchor=False)
    for one in exposure(view):
        st.markdown(f"{_BADGES[one.guarded]} **{one.what}**: {plain(one.says)}")
    if view.summary.kind == "federated":
        st.caption(
            "From the plan, and from what the server was shown. Partners' own policies may be stricter; their daemons "
            "refuse what is laxer. What partners learn from one another is not said here."
        )
    _spent(here, view)
    _history(here, view)
    _together(here, view)


def _spent(here: Here, view: RunView) -> None:
    key = f"spending {view.summary.run_id} {view.summary.state} {len(view.steps)}"

    def figures(_: Work) -> tuple[Spending, str]:
        return spending(view), planned_and_spent(view)

    found = computed(here, key, "What the run spent", figures)
    if found is None:
        return
    result, apart = found
    lineage_line(result.lineage)
    if result.whole.epsilon is None:
        st.subheader("What the run spent", anchor=False)
        st.markdown(plain(f"The run promises {told_spent(result.whole)}."))
        return
    frame(result, f"{view.summary.run_id[:8]}-spent", "What the run spent")
    if apart:
        st.info(plain(f"Why the plan's figure above is another one. {apart}"))


def _history(here: Here, view: RunView) -> None:
    """The transcript's head, and for those who may see them the receipts."""
    st.subheader("One history for all", anchor=False)
    st.markdown(
        f"The server's transcript of this run has {amount(view.transcript_entries, 'entry', 'entries')}; its head is "
        f"`{view.transcript_head[:16] or '–'}`."
    )
    if view.summary.kind == "offline":
        return
    st.markdown("Partners hold signed heads and leave a run whose history does not extend theirs.")
    if not here.person.is_any(RUNS):
        return
    with st.expander("Receipts: what was counted of whom, signed by the server"):
        found = here.sources.remembered(
            f"receipts {view.summary.run_id} {len(view.steps)}",
            60.0,
            lambda: here.sources.federation().run(view.summary.run_id).receipts().receipts,
        )
        receipts = found if isinstance(found, tuple) else ()
        if not receipts:
            st.markdown("No step has been committed yet.")
            return
        st.dataframe(
            {
                "step": [one.step for one in receipts],
                "partner": [one.partner for one in receipts],
                "outcome": [one.outcome for one in receipts],
                "contribution": [one.contribution[:16] for one in receipts],
                "signature": [one.signature[:16] for one in receipts],
            },
            hide_index=True,
            key="receipts",
        )
        st.caption("`aimass server audit` checks signatures and the chain from a copy of the store.")


def _together(here: Here, view: RunView) -> None:
    """Runs over data of the same schema, composed as one history: what a search costs, for instance."""
    st.subheader("All runs over the same data", anchor=False)
    alike = [run for run in here.sources.runs() if run.task == view.summary.task and run.round][:_MOST_RUNS]
    if len(alike) < 2:
        st.markdown("No other run of this task has a model.")
        return

    def total(work: Work) -> tuple[Spent, tuple[RunView, ...]]:
        views = []
        for place, run in enumerate(alike):
            work.check()
            work.tell(place / len(alike), run.name)
            views.append(here.sources.run(run.run_id))
        return spent_together(views), tuple(views)

    key = "together " + " ".join(f"{run.run_id} {run.round}" for run in alike) + here.viewer
    found = computed(here, key, "What all runs cost together", total)
    if found is None:
        return
    spent, views = found
    st.markdown(plain(f"A row that was in all of these {len(alike)} runs has {told_spent(spent)}."))
    _table(alike, views)
    if len(alike) == _MOST_RUNS:
        st.caption(f"The newest {_MOST_RUNS} runs of the task; what partners spent in all, their ledgers alone say.")
    else:
        st.caption("What partners spent in all, in other federations too, their ledgers alone say.")


def _table(alike: Sequence[RunSummary], views: Sequence[RunView]) -> None:
    st.dataframe(
        {
            "run": [run.run_id[:8] for run in alike],
            "name": [run.name for run in alike],
            "begun": [moment(run.created_at) for run in alike],
            "sum": ["secure" if one.plan.secure is not None else "plain" for one in views],
            "noise": ["yes" if _noised(one) else "no" for one in views],
        },
        hide_index=True,
        key="together",
    )


def _noised(view: RunView) -> bool:
    secure = view.plan.secure
    return view.plan.privacy is not None or (secure is not None and secure.noise is not None)
