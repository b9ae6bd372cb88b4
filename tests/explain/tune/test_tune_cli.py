"""`aimass tune`: begun, gone on with, shown; over runs whose metric is planted."""

from __future__ import annotations

import contextlib
import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from aimass.explain.runs import ManyRuns
from aimass.explain.tune.folder import SearchFolder, read_search
from aimass.explain.tune.search import Searching
from aimass.explain.tune.trials import Event, Measured, Search, Where
from aimass.proto.commands import main
from aimass.proto.plan import read_plan_draft
from tests.explain.tune.made import PLAN, PRIVATE, SPACE, planted
from tests.explain.tune.planted import Planted


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """What computes runs, wherever they are said to compute."""
    found = Planted()

    @contextlib.contextmanager
    def opened(_: Where) -> Iterator[Planted]:
        yield found

    monkeypatch.setattr("aimass.explain.tune.going._runner", opened)
    monkeypatch.setattr("aimass.explain.tune.beginning.load_home", lambda _: None)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with plans, a space and shards, in which commands are typed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIMASS_HOME", raising=False)
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "private.toml").write_text(PLAN + PRIVATE)
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "shards").mkdir()
    return tmp_path


def tune(*more: str, plan: str = "plan.toml") -> int:
    return main(["tune", plan, "--space", "space.toml", "--out", "s", "--formats", "json,html", *more])


@pytest.mark.usefixtures("runner")
def test_a_search_ends_with_its_answer_the_next_plan_and_what_others_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--shards", "shards", "--trials", "9", "--seeds", "3", "--prune", "none") == 0
    said = capsys.readouterr()
    assert "9 settings with 3 seeds each, 27 runs" in said.err
    assert "setting 8, seed 3 of 3: auc" in said.err
    search = read_search(folder / "s")
    assert json.loads((folder / "s/study.json").read_text())["state"] == search.state == "ended"
    answer = ManyRuns.from_json((folder / "s/answer/search.json").read_bytes())
    assert answer.importance is not None
    assert answer.tied is not None
    assert answer.importance.runs == 27
    assert all(line in said.out for line in answer.describe())
    chosen = read_plan_draft((folder / "s/next.toml").read_text())
    assert search.best is not None
    assert chosen.train.learning_rate == search.best.settings["train.learning_rate"]
    assert chosen.name == "heart"
    assert f"Next: setting {search.best.number} (" in said.out
    best = max(planted(trial.settings) for trial in search.trials)
    assert planted(search.best.settings) > best - 0.03


@pytest.mark.usefixtures("runner")
def test_the_next_of_a_search_that_was_asked_for_costs_too_is_on_the_front_of_both(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "space.toml").write_text(SPACE.replace('metric = "auc"', 'metric = "auc"\nalso = ["seconds"]'))
    assert tune("--shards", "shards", "--trials", "5", "--seeds", "2") == 0
    told = capsys.readouterr().out
    assert "beaten by none in all of auc and seconds" in told
    assert "which alone is on the front of auc and seconds" in told  # all runs took as long: the best is the front


def test_a_search_whose_time_is_up_is_told_how_it_goes_on_and_does(
    folder: Path, runner: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--shards", "shards", "--trials", "9", "--time-limit", "0") == 1
    said = capsys.readouterr()
    assert "to go on: aimass tune resume s" in said.err
    assert not runner.let_go
    assert "no setting has come to a figure yet" in said.out
    assert not runner.begun
    assert main(["tune", "resume", "s", "--formats", "json", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["search"]["state"] == "ended"
    assert told["next"] == next(
        trial["number"] for trial in told["search"]["trials"] if trial["number"] == told["next"]
    )
    assert main(["tune", "resume", "s", "--formats", "json"]) == 0  # of what has ended it is the answer again
    assert sum(runner.begun.values()) == len(runner.begun)


def test_a_search_that_nobody_goes_on_with_is_ended_with_its_runs(
    folder: Path, runner: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with a run underway, it is ended: the run is stopped, and what had come to a figure is told."""
    assert tune("--shards", "shards", "--trials", "9", "--seeds", "1", "--time-limit", "0") == 1
    search_folder = SearchFolder(folder / "s")
    search, left = search_folder.open(), [30]

    def die(found: Search, event: Event) -> None:
        left[0] -= 1
        if left[0] < 0 and isinstance(event, Measured):
            raise SystemExit

    with pytest.raises(SystemExit):
        Searching(search_folder, search, runner, tell=die).go_on()
    (underway,) = [trial for trial in read_search(folder / "s").trials if trial.state == "running"]
    assert main(["tune", "end", "s", "--formats", "json"]) == 0
    assert "somebody ended it" in capsys.readouterr().err
    ended = read_search(folder / "s")
    assert ended.state == "ended"
    assert ended.trials[underway.number].runs[0].state == "stopped"
    assert len(runner.stopped) == 1
    begun = sum(runner.begun.values())
    assert main(["tune", "resume", "s", "--formats", "json"]) == 0
    assert sum(runner.begun.values()) == begun  # nothing is tried any more


@pytest.mark.usefixtures("runner")
def test_where_a_search_stands_is_shown_best_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune("--shards", "shards", "--trials", "3", "--seeds", "1") == 0
    capsys.readouterr()
    assert main(["tune", "show", "s"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3" in said
    rows = [line.split() for line in said.splitlines() if "finished" in line]
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)
    assert main(["tune", "show", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["setup"]["trials"] == 3


def test_budgets_of_partners_are_spent_only_when_somebody_agrees(
    folder: Path, runner: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--as", "home", "--trials", "2", plan="private.toml") == 3
    said = capsys.readouterr().err
    assert "Data that are in all of them spend at most epsilon" in said
    assert "[tune.not_agreed]" in said
    assert not (folder / "s").exists()
    assert tune("--as", "home", "--trials", "2", "--most-epsilon", "0.1", "--yes", plan="private.toml") == 7
    assert not runner.begun
    assert tune("--as", "home", "--trials", "2", "--seeds", "2", "--yes", plan="private.toml") == 0
    study = read_search(folder / "s").setup.study
    assert study is not None
    assert study.trials == 4
    assert runner.let_go == [study.id]
    assert "partners free what they reserved" in capsys.readouterr().err
    for plan in (folder / "s/plans").iterdir():
        assert read_plan_draft(plan.read_text()).study == study


@pytest.mark.usefixtures("runner", "folder")
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 3), ("\n", 3)])
def test_a_person_at_a_terminal_is_asked(answer: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = pty.openpty()
    os.write(controller, answer.encode())
    with os.fdopen(controller, "rb", buffering=0), os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert tune("--as", "home", "--trials", "1", "--seeds", "1", plan="private.toml") == code


@pytest.mark.usefixtures("runner", "folder")
def test_a_private_plan_that_is_simulated_spends_no_budget_and_asks_nobody() -> None:
    assert tune("--shards", "shards", "--trials", "1", "--seeds", "1", plan="private.toml") == 0
    assert read_search(Path("s")).setup.study is None


@pytest.mark.usefixtures("folder")
def test_a_private_plan_over_a_data_set_of_the_service_begins_only_when_somebody_agrees(
    runner: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    offline = ("--as", "home", "--offline", "adult@3", "--trials", "1", "--seeds", "1")
    assert tune(*offline, plan="private.toml") == 3
    said = capsys.readouterr().err
    assert "spend at most epsilon" in said
    assert "[tune.not_agreed]" in said
    assert not runner.begun
    assert not Path("s").exists()
    assert tune(*offline, "--yes", plan="private.toml") == 0
    assert read_search(Path("s")).setup.study is None  # no partner reserves for it


@pytest.mark.usefixtures("runner", "folder")
def test_a_plan_without_privacy_over_a_data_set_of_the_service_asks_nobody() -> None:
    assert tune("--as", "home", "--offline", "adult@3", "--trials", "1", "--seeds", "1") == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("more", "code", "name"),
    [
        ([], 2, "tune.where"),
        (["--shards", "none"], 2, "tune.shards"),
        (["--shards", "shards", "--offline", "adult"], 2, "tune.where"),
        (["--as", "home", "--workers", "2"], 2, "tune.where"),
        (["--as", "home", "--schedule", "averaging"], 2, "tune.where"),
        (["--shards", "shards", "--formats", "pdf"], 2, "explain.format"),
        (["--as", "nowhere"], 4, "nowhere"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_name(
    more: list[str], code: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(*more) == code
    assert name in capsys.readouterr().err
    assert not Path("s").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("space", "name"),
    [
        ('metric = "auc"\nalso = ["bytes"]\n', "tune.goal"),
        ('metric = "auc"\nalso = ["seconds"]\n', "tune.prune"),
        ('metric = "auc"\nextra = 1\n', "value.invalid"),
        ("metric = auc\n", "value.toml"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.toml").write_text(space + "[settings]\ntrain.momentum = { low = 0.0, high = 0.9 }\n")
    assert tune("--shards", "shards", "--prune", "median") == 2
    assert f"[{name}]" in capsys.readouterr().err
    assert not Path("s").exists()


@pytest.mark.usefixtures("folder")
def test_what_is_no_search_cannot_be_gone_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "resume", "none"]) == 4
    assert main(["tune", "show", "shards"]) == 4
    assert "[tune.absent]" in capsys.readouterr().err
    assert not Path("none").exists()


@pytest.mark.usefixtures("folder")
def test_a_second_search_in_one_folder_is_told_of_the_first(
    runner: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    from aimass.proto.durable import only_one

    assert tune("--shards", "shards", "--trials", "2", "--time-limit", "0") == 1
    with only_one(Path("s"), "search"):
        assert main(["tune", "resume", "s"]) == 6
    assert "another search works in this folder" in capsys.readouterr().err
    assert tune("--shards", "shards", "--trials", "2") == 6
    assert "aimass tune resume" in capsys.readouterr().err
