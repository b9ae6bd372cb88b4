"""Tuning: searches for settings while they go and after: what decided, what is tied with the best, what comes next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import streamlit as st

from aimass.explain.app.choosing import linked
from aimass.explain.app.house import Here
from aimass.explain.app.shell import computed, empty, frame, header, looked
from aimass.explain.app.wording import amount, moment, plain, with_code
from aimass.explain.runs.spending import told_spent
from aimass.explain.tune.answer import Answered, answered, next_plan
from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.plan_text import written_plan
from aimass.explain.tune.trials import Search
from aimass.explain.tune.trials_view import trials_view
from aimass.explain.words import joined
from aimass.explain.work import Work

__all__ = ["render"]

_LIVE_S: Final = 2.0
_TITLES: Final = {
    "parallel": "All runs beside one another",
    "pareto": "Quality against cost",
    "tied": "Settings that cannot be told from the best",
    "importance": "Which settings decided",
}


def render(here: Here) -> None:
    """One search by choice or by the address."""
    header("Tuning", "Which settings a search tried, which of them decided, and the plan to run next.")
    folder = here.settings.path(here.settings.studies)
    found = {} if folder is None else _searches(folder)
    if folder is None:
        empty(
            "This app knows no folder of searches.",
            "Start the app with --studies FOLDER: the folder in which searches of `aimass tune` stand.",
            "aimass tune plan.toml --space space.toml --as scientist --out searches/heart",
        )
        return
    if not found:
        empty(
            "There is no search yet.",
            f"Searches of `aimass tune` that stand in {plain(str(folder))} are shown here, live while they go.",
            f"aimass tune plan.toml --space space.toml --as scientist --out {shlex.quote(str(folder / 'first'))}",
        )
        return
    name = linked("search", "Search", list(found))
    if name is None:
        return
    search = found[name].read()
    _told(search)
    if search.state == "open":
        _live(here, found[name], _ended(search))
    else:
        frame(trials_view(search), f"search-{name}", "What was tried")
    _answer(here, found[name], search, name)


def _searches(folder: Path) -> dict[str, SearchFolder]:
    """By name, the folder itself included; newest first."""
    places = [path.parent for path in (*folder.glob("setup.json"), *folder.glob("*/setup.json"))]
    newest = sorted(places, key=lambda place: -(place / "setup.json").stat().st_mtime)
    return {place.name: SearchFolder(place) for place in newest}


def _told(search: Search) -> None:
    setup = search.setup
    kinds = {"federated": "at partners", "offline": "at the training service", "simulation": "simulated"}
    also = f", at little {joined(list(setup.space.also))}" if setup.space.also else ""
    st.markdown(
        f"**Task** {plain(setup.draft.task)}  ·  **Metric** {plain(setup.space.metric)}{also}  ·  "
        f"**Seeds** {len(setup.seeds)}  ·  **Runs** {kinds[setup.where.kind]}  ·  **Begun** {moment(setup.begun_at)}  "
        f"·  **State** {search.state}"
    )
    if search.reason:
        st.caption(with_code(search.reason))
    if setup.where.kind == "federated":
        reserved = "Partners reserved for it before the first run. " if setup.study is not None else ""
        st.markdown(plain(f"{reserved}At most all its runs together spend {told_spent(setup.most)}."))


@looked(_LIVE_S)
def _live(_: Here, folder: SearchFolder, compared: int) -> None:
    """Who reads what came of `compared` runs is not interrupted by the next one: they ask for it."""
    search = folder.read()
    if search.state != "open":
        st.rerun()
    frame(trials_view(search), f"search-{folder.path.name}", "What is tried")
    more = _ended(search) - compared
    if st.button(
        f"Compare {amount(more, 'more run')} below" if more else "All runs that have ended are compared below",
        key="compare-more",
        disabled=not more,
    ):
        st.rerun()


def _ended(search: Search) -> int:
    return sum(run.ended for trial in search.trials for run in trial.runs)


def _answer(here: Here, folder: SearchFolder, search: Search, name: str) -> None:
    """The statistics over all runs that have ended."""
    ended = _ended(search)
    if not ended:
        st.info("No run has ended yet: there is nothing to compare.")
        return

    def find(work: Work) -> Answered | None:
        return answered(search, folder.views(search), work)

    found = computed(here, f"search {folder.path} {ended}", f"Comparing {amount(ended, 'run')}", find)
    if found is None:
        return
    st.subheader("What to run next", anchor=False)
    st.markdown(plain(found.describe()[-1]))
    draft, remarks = next_plan(search, found)
    st.download_button(
        "Download the plan",
        written_plan(draft, remarks),
        file_name=f"{name}-next.toml",
        mime="application/toml",
        key="next-plan",
        on_click="ignore",
        icon=":material/download:",
    )
    st.caption("The best of many is flattered by chance: run it with seeds of its own before you quote its figure.")
    for view, part in found.result.views().items():
        frame(part, f"search-{name}-{view}", _TITLES.get(view, view.capitalize()))
