"""The page of a run: what it says of runs of all kinds, live ones and extreme ones among them, and of gone ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import Here, house
from aimass.explain.app.watched import held, version
from aimass.proto.errors import Unavailable
from aimass.proto.step import StepKind
from aimass.proto.views import ParticipantState, ParticipantView, RunState, RunView, SlotState
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs import made

RUN = "a" * 32
COUNTED, LATE = SlotState.COUNTED, SlotState.LATE


def measured(rounds: int, **summary: Any) -> RunView:
    steps = [
        step
        for n in range(rounds)
        for step in (made.step(2 * n, n + 1), made.evaluated(2 * n + 1, n + 1, {"auc": 0.5 + n / 100, "loss": 1.0}))
    ]
    return made.run(steps, run_id=RUN, **({"round": rounds, "rounds": rounds} | summary))


def shown(opened: Opened, *runs: RunView, **address: str) -> AppTest:
    return opened("runs", seams=seams(ToldServer(*runs)), **address)


def figures(page: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in page.metric}


def test_a_run_by_the_address_with_its_figures_partners_and_privacy(opened: Opened) -> None:
    page = shown(opened, measured(3), run=RUN, metric="auc")
    assert not page.exception
    assert figures(page) == {
        "State": "finished", "Round": "3 of 3", "Counted in the last step": "2 of 2", "A step takes": "2 s",
        "Moved": "1.5 kB", "Took": "1.7 min",
    }  # fmt: skip
    assert "auc went from 0.5 (round 1) to 0.52 (round 3)" in said(page)
    assert "loss went" not in said(page)
    assert "The run promises nothing of privacy" in said(page)
    assert page.dataframe[0].value["partner"].tolist() == ["a", "b"]
    assert page.dataframe[0].value["counted"].tolist() == [6, 6]


def test_an_offline_run_has_no_partners_and_nothing_that_moved(opened: Opened) -> None:
    steps = [made.step(0, 1, slots={}), made.evaluated(1, 1, {"auc": 0.6})]
    alone = [msgspec.structs.replace(step, slots={}) for step in steps]
    page = shown(opened, made.run(alone, run_id=RUN, kind="offline"), run=RUN)
    assert not page.exception
    assert set(figures(page)) == {"State", "Round", "A step takes", "Took"}
    assert [one.value for one in page.subheader] == ["Course", "How long steps took", "Privacy"]
    assert "**Numbers** held out" in said(page)


def test_all_metrics_at_once_are_a_choice_and_one_that_is_gone_is_told(opened: Opened) -> None:
    page = shown(opened, measured(3), run=RUN)
    page.selectbox(key="metric").select("every metric").run()
    assert "loss went" in said(page)
    assert "auc went" in said(page)
    assert "app.gone" in said(shown(opened, measured(3), run=RUN, metric="f1"))


def test_a_link_to_a_run_that_is_gone_says_so(opened: Opened) -> None:
    page = shown(opened, measured(1), run="f" * 32)
    assert "names a run that is not here" in said(page)
    page.button(key="clear-run").click().run()
    assert page.selectbox(key="run").value == RUN


def test_a_run_without_evaluations_says_that_it_measured_nothing_and_shows_the_rest(opened: Opened) -> None:
    page = shown(opened, made.run([made.step(0, 1)], run_id=RUN), run=RUN)
    assert not page.exception
    assert "This run measured nothing" in said(page)
    assert len(page.get("vega_lite_chart")) == 2  # who took part, and seconds


def test_a_run_that_has_just_begun_is_no_fault(opened: Opened) -> None:
    page = shown(opened, made.run([], run_id=RUN, state=RunState.WAITING, round=0, partners=0), run=RUN)
    assert not page.exception
    assert "No partner has been invited yet." in said(page)


def test_why_a_run_failed_is_said_and_is_no_markup(opened: Opened) -> None:
    failed = measured(1, state=RunState.FAILED, reason="quorum **missed** <b>")
    page = shown(opened, failed, run=RUN)
    assert page.warning[0].value == r"quorum \*\*missed\*\* \<b\>"


def test_a_live_run_tells_what_its_partners_do_now(opened: Opened) -> None:
    open_step = made.step(
        2, 2, StepKind.TRAIN, committed_at=None, state="open", slots={"a": SlotState.STORED, "b": SlotState.ASKED}
    )
    running = measured(1, state=RunState.RUNNING, ended_at=None)
    running = msgspec.structs.replace(running, steps=(*running.steps, open_step))
    page = shown(opened, running, run=RUN)
    assert "Step 2 (train, round 2): 1 stored, 1 asked; past its deadline." in said(page)
    assert figures(page)["State"] == "running"


def test_what_was_drawn_is_made_once_until_a_step_ends(opened: Opened) -> None:
    first = measured(2, state=RunState.RUNNING)
    shown(opened, first, run=RUN)
    made_for: list[RunView] = []
    here = _here()

    def make(view: RunView) -> int:
        made_for.append(view)
        return len(view.steps)

    again = msgspec.structs.replace(first, disk_bytes=5)
    longer = msgspec.structs.replace(first, steps=(*first.steps, made.step(9, 3)))
    assert [held(here, view, "x", make) for view in (first, again, longer, longer)] == [4, 4, 5, 5]
    assert made_for == [first, longer]
    joined = ParticipantView(partner="c", state=ParticipantState.JOINED, connected=True)
    assert version(first) != version(msgspec.structs.replace(first, participants=(joined,)))


def _here() -> Here:
    from aimass.explain.app.people import ALONE

    return house().visit(ALONE, "viewer")


def test_a_server_that_goes_away_is_told_and_the_run_comes_back(opened: Opened) -> None:
    server = ToldServer(measured(2, state=RunState.RUNNING))
    page = opened("runs", seams=seams(server), run=RUN)
    server.away = Unavailable("the server does not answer", code="server.away")
    _here().sources.forget()
    assert "server.away" in said(page.run())
    server.away = None
    page.run()
    assert "server.away" not in said(page)
    assert figures(page)["State"] == "running"


def test_a_run_that_is_watched_says_that_its_server_is_away_before_it_stands_still(opened: Opened) -> None:
    server = ToldServer(measured(2, state=RunState.RUNNING))
    opened("runs", seams=seams(server), run=RUN)
    watching = AppTest.from_function(_watching)
    _here().sources.forget()
    assert said(watching.run()) == ""
    server.away = Unavailable("the server does not answer", code="server.away")
    _here().sources.forget()
    assert "What is shown is what was heard of the run last." in said(watching.run())


def _watching() -> None:
    from aimass.explain.app.house import house
    from aimass.explain.app.people import ALONE
    from aimass.explain.app.watched import check_server

    check_server(house().visit(ALONE, "viewer"))


@pytest.mark.parametrize(("partners", "rounds"), [(1_000, 30), (4, 5_000)])
def test_very_many_partners_or_rounds_stay_small_and_readable(opened: Opened, partners: int, rounds: int) -> None:
    slots = {f"p{n:04}": LATE if n % 7 == 0 else COUNTED for n in range(partners)}
    steps = [
        made.step(n, n + 1, StepKind.EVALUATE, slots=slots, metrics=made.evaluated(0, 1, {"auc": 0.5}, **_each(slots)).metrics)
        for n in range(rounds)
    ]  # fmt: skip
    page = shown(opened, made.run(steps, run_id=RUN, rounds=rounds, round=rounds, partners=partners), run=RUN)
    assert not page.exception
    sent = sum(len(chart.proto.spec) for chart in page.get("vega_lite_chart"))
    assert sent < 500_000
    assert len(page.dataframe[0].value) == partners


def _each(names: Sequence[str] | dict[str, SlotState]) -> dict[str, float]:
    return dict(zip(names, np.linspace(0.4, 0.6, len(names)).tolist(), strict=True))


def test_what_a_private_run_cost_is_drawn(opened: Opened) -> None:
    page = shown(opened, made.run([made.step(0, 1)], made.PRIVATE, run_id=RUN), run=RUN)
    assert "The run promises epsilon" in said(page)
    assert "epsilon" in page.dataframe[0].value
