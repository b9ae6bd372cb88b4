"""`aimass tune` over a data set of a real training service, whose drivers are processes: killed and gone on with, and with
a setting that is cut while its driver works."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from scripts.demos.house import House

from aimass.explain.tune import Search, read_search
from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.pruning import Pruning
from aimass.proto.api import Federation
from aimass.proto.views import RunState, RunSummary
from tests.support import offline_runs
from tests.support.tuning import started

ROUNDS = 40
PLAN = offline_runs.PLAN.replace("rounds = 3", f"rounds = {ROUNDS}").replace(
    "[cohort]", "[evaluate]\nevery = 1\n[cohort]"
)
SPACE = """
metric = "loss"
[settings]
train.learning_rate = { choices = [0.05, 0.000001] }
"""
"""One that learns, and one that stays where it began."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service without partners that may train over heart disease in three shards of a store."""
    with House(tmp_path_factory.mktemp("central")) as house:
        house.found([])
        house.stop("server")
        store = f"file://{house.folder}/store"
        settings = house.folder / "server" / "server.toml"
        settings.write_text(settings.read_text().replace("stores = []", f'stores = ["{store}"]'))
        house.start_server()
        house.run("data", "split", "heart", "heart", "--task", "heart", "--split", "stratified:3", "--store", store)
        (house.folder / "plan.toml").write_text(PLAN)
        (house.folder / "space.toml").write_text(SPACE)
        yield house


def begin(out: str, *more: str) -> list[str]:
    where = ["plan.toml", "--space", "space.toml", "--as", "scientist", "--offline", "heart@1", "--out", out]
    return [*where, "--trials", "2", "--seeds", "1", *more]


def finished(house: House, process: subprocess.Popen[str], out: str) -> Search:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return read_search(house.folder / out)


def settled(search: Search) -> list[Any]:
    return [(trial.settings, trial.state, trial.runs[0].rounds, trial.runs[0].values) for trial in search.trials]


def in_service(house: House, search: Search) -> list[RunSummary]:
    """The search's runs, in the order of its settings."""
    ids = [trial.runs[0].run for trial in search.trials]
    with Federation.open(house.folder / "scientist") as federation:
        return [federation.run(run).view.summary for run in ids]


def count(house: House) -> int:
    with Federation.open(house.folder / "scientist") as federation:
        return len(federation.runs())


@pytest.fixture(scope="module")
def whole(house: House) -> Search:
    """A search that nobody disturbed."""
    return finished(house, started(house.folder, *begin("whole")), "whole")


def test_a_search_over_a_data_set_tells_the_setting_that_learns_and_its_next_plan_comes_to_the_same_figure(
    house: House, whole: Search
) -> None:
    assert [trial.state for trial in whole.trials] == ["finished"] * 2
    assert all(trial.runs[0].rounds == tuple(range(1, ROUNDS + 1)) for trial in whole.trials)
    assert whole.best is not None
    assert whole.best.settings == {"train.learning_rate": 0.05}
    assert all(one.state is RunState.FINISHED for one in in_service(house, whole))
    told = house.run("offline", "submit", "whole/next.toml", "--data", "heart@1", "--as", "scientist", "--watch")
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run(told["run_id"]).view
    losses = [step.metrics["loss"].mean for step in view.steps if "loss" in step.metrics]
    assert losses == list(whole.best.runs[0].values)  # to the last bit what the search saw


def test_a_search_that_is_killed_finds_its_run_at_the_service_and_comes_to_the_same_figures(
    house: House, whole: Search
) -> None:
    before = count(house)
    process = started(house.folder, *begin("killed"))
    assert process.stderr is not None
    while "setting 0 " not in process.stderr.readline():
        assert process.poll() is None
    held = SearchFolder(house.folder / "killed")
    while not held.read().trials[0].runs[0].rounds:  # its driver works
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    stands = held.read()
    assert stands.state == "open"
    search = finished(house, started(house.folder, "resume", "killed"), "killed")
    assert search.trials[0].runs[0].run == stands.trials[0].runs[0].run
    assert settled(search) == settled(whole)
    assert count(house) == before + 2  # none was begun twice


def test_a_setting_that_does_not_learn_is_cut_while_its_driver_works_and_no_round_of_it_comes_any_more(
    house: House, whole: Search
) -> None:
    """One other is enough to be held against here: searches of people wait for four."""
    usual = read_search(house.folder / "whole").setup
    pruning = Pruning(rule="median", after=2, least=1)
    SearchFolder(house.folder / "cut").begin(msgspec.structs.replace(usual, id="c" * 32, pruning=pruning))
    search = finished(house, started(house.folder, "resume", "cut"), "cut")
    states = {trial.settings["train.learning_rate"]: trial for trial in search.trials}
    learns, idle = states[0.05], states[0.000001]
    assert (learns.number, learns.state, idle.state) == (0, "finished", "pruned")
    assert learns.quality == next(one.quality for one in whole.trials if one.settings == learns.settings)
    cut = idle.runs[0]
    assert cut.cut_at is not None
    assert 2 <= cut.cut_at < ROUNDS
    stopped = in_service(house, search)[idle.number]
    assert stopped.state is RunState.STOPPED
    assert stopped.round < ROUNDS


def test_a_search_that_is_ended_stops_the_run_that_its_driver_works_on(house: House) -> None:
    process = started(house.folder, *begin("ended"))
    held = SearchFolder(house.folder / "ended")
    assert process.stderr is not None
    while "setting 0 " not in process.stderr.readline():
        assert process.poll() is None
    while not held.read().trials[0].runs[0].rounds:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "aimass tune resume ended" in errors
    assert in_service(house, held.read())[0].state is RunState.RUNNING
    started(house.folder, "end", "ended").communicate(timeout=120)
    search = read_search(house.folder / "ended")
    assert (search.state, search.trials[0].runs[0].state) == ("ended", "stopped")
    assert in_service(house, search)[0].state is RunState.STOPPED
