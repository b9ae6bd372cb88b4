"""Epsilon over time, as it is drawn: every debit a step, figures of all that counted by then, never more than fits."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree as ET

import pytest

from aimass.client.budget_picture import History, Point, chart, history, svg
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Budget, Event, Gaussian, Relation, Terms, Unit
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_state import LOST, Entry, Ledger
from aimass.privacy.dp.ledger_studies import Study
from aimass.proto.commands import main

BUDGET = Budget(terms=Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=1e-5), epsilon=3.0)
ONE = (Event(mechanism=Gaussian(sigma=30.0), unit=Unit.EXAMPLE),)
DAY = 86_400.0


def entry(number: int, at: float, state: EntryState = EntryState.COMMITTED, study: int | None = None) -> Entry:
    return Entry(number, f"{number % 3}" * 32, 1, "train", ONE, ONE, state, at, at, study)


def ledger(*entries: Entry, studies: tuple[Study, ...] = ()) -> Ledger:
    return dataclasses.replace(
        Ledger(), entries=MappingProxyType({each.number: each for each in entries}),
        studies=MappingProxyType({each.number: each for each in studies}),
    )  # fmt: skip


def figure(times: int) -> float:
    return (
        Accountant().figure(BUDGET.terms, [Event(mechanism=ONE[0].mechanism, unit=Unit.EXAMPLE, times=times)]).epsilon
    )


def drawn(found: Ledger) -> History:
    return history("heart", found, BUDGET, Accountant())


def test_each_debit_is_a_point_at_its_time_with_the_figure_of_all_before_it() -> None:
    found = drawn(ledger(entry(2, 2 * DAY), entry(1, DAY), entry(3, 3 * DAY, EntryState.RELEASED), entry(4, 4 * DAY)))
    assert [point.at for point in found.points] == [DAY, 2 * DAY, 4 * DAY]
    assert [point.epsilon for point in found.points] == pytest.approx([figure(1), figure(2), figure(3)])


@pytest.mark.parametrize("state", [EntryState.RESERVED, EntryState.TRAINING, EntryState.SPENT])
def test_what_is_open_or_was_left_open_counts_too(state: EntryState) -> None:
    assert len(drawn(ledger(entry(1, DAY, state))).points) == 1


def test_an_open_study_counts_as_a_whole_and_a_closed_one_by_its_trials() -> None:
    whole = Study(1, "tuning", ONE * 4, True, DAY)
    trial = entry(2, 2 * DAY, study=1)
    assert [point.epsilon for point in drawn(ledger(trial, studies=(whole,))).points] == pytest.approx([figure(4)])
    closed = dataclasses.replace(whole, open=False)
    assert [point.epsilon for point in drawn(ledger(trial, studies=(closed,))).points] == pytest.approx([figure(1)])


def test_of_very_many_debits_the_first_and_the_last_are_among_those_that_are_drawn() -> None:
    many = ledger(*(entry(number, number * DAY) for number in range(1, 1_001)))
    found = history("heart", many, BUDGET, Accountant(), most=7)
    assert len(found.points) == 7
    assert (found.points[0].at, found.points[-1].at) == (DAY, 1_000 * DAY)
    assert found.points[-1].epsilon == pytest.approx(figure(1_000))


def test_the_drawing_is_whole_and_holds_the_budget_the_runs_and_a_step_for_each_debit() -> None:
    found = drawn(ledger(*(entry(number, number * DAY) for number in range(1, 6))))
    text = svg([found, dataclasses.replace(found, data_set="<ward>", points=())], 9 * DAY)
    root = ET.fromstring(text)
    assert root.attrib["viewBox"] == "0 0 760 520"
    paths = re.findall(r'<path d="M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)"', text)
    assert len(paths) == 5
    assert all(float(down) > float(up) for _, down, up, _ in paths)  # epsilon only grows
    assert all(before[3] == after[0] and before[2] == after[1] for before, after in pairwise(paths))
    assert "budget 3" in text
    assert "run 11111111" in text
    assert "&lt;ward&gt;: epsilon 0 of 3 spent" in text


def test_times_of_a_few_minutes_are_told_apart() -> None:
    points = (Point(0.0, 1.0, "a"), Point(60.0, 2.0, LOST))
    text = svg([dataclasses.replace(drawn(ledger()), points=points)], 120.0)
    assert re.findall(r"[\d:]+ UTC", text) == [f"00:0{at} UTC" for at in ("0:00", "0:30", "1:00", "1:30", "2:00")]
    assert ">run a<" in text
    assert f">{LOST}<" in text


def test_the_chart_rises_with_what_was_spent_under_the_line_of_the_budget() -> None:
    points = (Point(0.0, 1.0, "a"), Point(5 * DAY, 2.9, "b"))
    lines = list(chart(dataclasses.replace(drawn(ledger()), points=points), 10 * DAY, width=10, height=6))
    cells = [line.partition("|")[2] for line in lines[1:7]]
    assert lines[0].startswith("heart: epsilon 2.9 of 3 spent, for one example at delta 1e-05, add or remove one")
    assert cells[-1] == "█" * 10
    assert cells[2] == "    ██████"  # below, half of the time; above, the rest
    assert cells[0].startswith("----")
    assert "3 budget" in lines[1]


@pytest.mark.parametrize("asked", ["--over-time", "--picture"])
def test_the_command_draws_a_partners_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main(["client", "init", "north", "--name", "north", "--server", "localhost:1", "--enrol", "localhost:2"]) == 0
    )
    policy = tmp_path / "north" / "policy.toml"
    policy.write_text(policy.read_text() + '\n[[budgets]]\ndata_set = "heart"\nepsilon = 3.0\ndelta = 1e-5\n')
    capsys.readouterr()
    command = ["client", "budget", "--dir", "north", asked]
    if asked == "--picture":
        assert main([*command, "b.png"]) == 2
        assert ".svg" in capsys.readouterr().err
        assert main([*command, "b.svg"]) == 0
        assert "heart: epsilon 0 of 3 spent" in (tmp_path / "b.svg").read_text()
    else:
        assert main(command) == 0
        assert "heart: epsilon 0 of 3 spent" in capsys.readouterr().out
