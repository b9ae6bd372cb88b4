"""The page that compares: runs of a task by default or by the address, what it says of them, and of those it cannot."""

from __future__ import annotations

import numpy as np
from streamlit.testing.v1 import AppTest

from aimass.proto.views import RunView
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs import made


def _id(number: int) -> str:
    """People tell runs apart by the first eight digits."""
    return f"{number:08x}" * 4


def study(rates: dict[float, float], seeds: int = 3, **summary: object) -> list[RunView]:
    random = np.random.default_rng(1)
    runs = list[RunView]()
    for rate, mean in rates.items():
        for seed in range(seeds):
            auc = mean + 0.001 * random.normal()
            steps = [made.step(0, 1), made.evaluated(1, 1, {"auc": auc, "loss": 1 - auc})]
            runs.append(made.run(steps, made.plan(seed, rate), _id(len(runs)), **summary))
    return runs


BEST = study({0.01: 0.7, 0.1: 0.8, 0.5: 0.6})


def shown(opened: Opened, *runs: RunView, **address: str) -> AppTest:
    page = opened("compare", seams=seams(ToldServer(*runs)), **address)
    return waited(page)


def waited(page: AppTest) -> AppTest:
    while page.get("progress"):
        page.run()
    assert not page.exception
    return page


def test_all_runs_of_a_task_are_compared_and_the_best_setting_is_told(opened: Opened) -> None:
    page = shown(opened, *BEST)
    assert "learning_rate 0.1 did best: auc 0.8" in said(page)
    assert "9 runs of heart" in said(page).replace("*", "")
    assert [one.value for one in page.subheader] == [
        "Settings that cannot be told from the best", "All runs beside one another", "What quality cost",
        "Which settings decided",
    ]  # fmt: skip
    assert "Data that were in all of these runs are promised nothing of privacy" in said(page)


def test_a_link_names_runs_metric_and_direction(opened: Opened) -> None:
    ids = [run.summary.run_id for run in BEST[:6]]
    page = opened("compare", seams=seams(ToldServer(*BEST)), metric="loss", better="higher")
    page.query_params["runs"] = ids
    page = waited(page.run())
    assert page.multiselect(key="runs").value == ids
    assert "learning_rate 0.01 did best: loss 0.3 (higher is better)" in said(page)


def test_runs_of_another_task_are_chosen_no_more_and_those_that_are_gone_are_told(opened: Opened) -> None:
    others = [made.run(run.steps, run.plan, _id(n + 100), task="adult") for n, run in enumerate(BEST)]
    page = opened("compare", seams=seams(ToldServer(*BEST, *others)), task="adult")
    page.query_params["runs"] = [BEST[0].summary.run_id]
    page = waited(page.run())
    assert "9 runs of adult" in said(page).replace("*", "")
    gone = shown(opened, *BEST, task="heart", runs="f" * 32)
    assert "app.gone" in said(gone)


def test_names_narrow_what_is_compared(opened: Opened) -> None:
    named = [made.run(run.steps, run.plan, run.summary.run_id, name=f"trial-{n}") for n, run in enumerate(BEST)]
    page = shown(opened, *named, names="TRIAL-1")
    assert "1 run of heart with such a name: two at least are compared." in said(page)
    assert "9 runs of heart" in said(shown(opened, *named, names="trial")).replace("*", "")


def test_what_cannot_be_compared_says_why(opened: Opened) -> None:
    assert "There are no two runs yet that trained." in said(shown(opened, BEST[0]))
    silent = [made.run([made.step(0, 1)], run_id=_id(n)) for n in range(2)]
    assert "None of these runs has measured anything" in said(shown(opened, *silent))


def test_one_seed_a_setting_leaves_out_the_set_and_says_what_would_tell_it(opened: Opened) -> None:
    page = shown(opened, *study({0.01: 0.7, 0.1: 0.8}, seeds=1))
    assert "No setting was run with two seeds" in said(page)
    assert "Settings that cannot be told from the best" not in [one.value for one in page.subheader]


def test_a_target_tells_how_long_runs_took(opened: Opened) -> None:
    page = shown(opened, *BEST)
    assert "seconds to the target" not in said(page)
    page.number_input(key="target").set_value(0.75).run()
    assert "seconds to the target" in said(waited(page))
