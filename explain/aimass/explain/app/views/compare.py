"""Compare: which settings to choose after many runs of a task, and what each costs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, cast

import streamlit as st

from aimass.explain.app.choosing import linked, linked_many
from aimass.explain.app.house import Here
from aimass.explain.app.shell import computed, empty, frame, header
from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import amount, plain
from aimass.explain.runs import ManyRuns, RunsOptions, compare
from aimass.explain.runs.readings import lean, metric_names
from aimass.explain.runs.spending import told_spent
from aimass.explain.work import Work
from aimass.proto.views import RunState, RunSummary, RunView

__all__ = ["render"]

_FIRST: Final = 30
_MOST: Final = 200
_RUN_S: Final = 3_600.0
_TITLES: Final = {
    "tied": "Settings that cannot be told from the best",
    "parallel": "All runs beside one another",
    "pareto": "What quality cost",
    "importance": "Which settings decided",
}
_BETTER: Final = {"usual": "as usual for its name", "higher": "higher", "lower": "lower"}


def render(here: Here) -> None:
    """Runs by task and name, or by the address."""
    header("Compare", "Which settings to choose after many runs of a task, and what they cost.")
    chosen = _chosen(here)
    if not chosen:
        return
    runs = computed(here, _key(here, "read", chosen), "Reading runs", lambda work: _read(here, chosen, work))
    if runs is None or (options := _options(runs)) is None:
        return
    key = _key(here, "compare", chosen, options)
    whole = computed(here, key, "Comparing runs", lambda work: compare(runs, options, work))
    if whole is not None:
        _shown(whole)


# ---------------------------------------------------------------- which runs


def _chosen(here: Here) -> tuple[RunSummary, ...]:
    """Empty where there are fewer than two, or the address names others, which is said."""
    runs = [run for run in here.sources.runs() if run.round > 0]
    if len(runs) < 2:
        empty(
            "There are no two runs yet that trained.",
            "Runs of one task are compared: submit a plan again with another setting, or let a search do it.",
            "aimass tune plan.toml --space space.toml",
        )
        return ()
    left, right = st.columns(2)
    with left:
        task = linked("task", "Task", list(dict.fromkeys(run.task for run in runs)))
    with right:
        names = st.text_input("Name contains", key=bound("names"), bind="query-params")
    if task is None:
        return ()
    fitting = {run.run_id: run for run in runs if run.task == task and names.lower() in run.name.lower()}
    _forget_others({run.run_id for run in runs}, fitting)
    if len(fitting) < 2:
        st.info(f"{amount(len(fitting), 'run')} of {plain(task)} with such a name: two at least are compared.")
        return ()
    ids = list(fitting)
    found = linked_many(
        "runs", "Runs", ids, ids[:_FIRST], one="run", most=_MOST, named=lambda run_id: _label(fitting[run_id])
    )
    if len(found) == 1:
        st.info("One run is chosen: choose another to compare it with.")
    return tuple(fitting[run_id] for run_id in found) if len(found) > 1 else ()


def _forget_others(known: set[str], fitting: dict[str, RunSummary]) -> None:
    """Runs in the address that are not of the task, or the name, that was chosen since, are chosen no more."""
    asked = st.query_params.get_all("runs")
    if asked and set(asked) <= known and not set(asked) <= set(fitting):
        left = [run_id for run_id in asked if run_id in fitting]
        if left:
            st.query_params["runs"] = left
        else:
            del st.query_params["runs"]


def _label(run: RunSummary) -> str:
    return f"{run.name} · {run.run_id[:8]}" + ("" if run.state is RunState.FINISHED else f" · {run.state}")


def _read(here: Here, chosen: Sequence[RunSummary], work: Work) -> tuple[RunView, ...]:
    """Each run without what comparing does not need: of very long ones it is much."""
    found = []
    for place, summary in enumerate(chosen):
        work.check()
        work.tell(place / len(chosen), summary.name)
        key = f"lean {summary.run_id} {summary.state} {summary.round}"
        found.append(cast("RunView", here.sources.remembered(key, _RUN_S, lambda one=summary: _one(here, one))))  # type: ignore[misc]
    return tuple(found)


def _one(here: Here, summary: RunSummary) -> RunView:
    return lean(here.sources.federation().run(summary.run_id).view)


def _key(here: Here, what: str, chosen: Sequence[RunSummary], *more: object) -> str:
    runs = [(run.run_id, str(run.state), run.round) for run in chosen]
    return hashlib.sha256(repr((what, here.person.key, runs, more)).encode()).hexdigest()


# ---------------------------------------------------------------- by what, and what came of it


def _options(runs: Sequence[RunView]) -> RunsOptions | None:
    """None where no run has measured anything, or the address names what is not there, which is said."""
    names = metric_names(runs)
    if not names:
        st.info("None of these runs has measured anything: give their plans an evaluation.")
        return None
    first, second, third = st.columns(3)
    with first:
        metric = linked("metric", "Metric", names)
    with second:
        better = linked("better", "Which way is better", list(_BETTER), named=_BETTER.__getitem__)
    with third:
        target = st.number_input(
            "Target", value=None, key=bound("target"), bind="query-params", format="%g",
            help="With one it is told how long each run took to reach it, and how many bytes it moved until then.",
        )  # fmt: skip
    if metric is None or better is None:
        return None
    return RunsOptions(metric=metric, better=better, target=target)  # type: ignore[arg-type]


def _shown(whole: ManyRuns) -> None:
    st.markdown(f"**{amount(len(whole.pareto.runs), 'run')}** of {plain(whole.lineage.model)}  ·  "
                f"**Data** {plain(whole.lineage.data)}")  # fmt: skip
    if whole.tuning is not None:
        st.markdown(plain(f"Data that were in all of these runs are promised {told_spent(whole.tuning)}."))
    for line in whole.caveats:
        st.info(plain(f"{line[:1].upper()}{line[1:]}"))
    views = whole.views()
    for name, title in _TITLES.items():
        if name in views:
            frame(views[name], f"compare-{name}", title)
