from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.explain.tune.folder import SearchFolder, read_search
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.runners import Job
from aimass.explain.tune.search import Searching
from aimass.explain.tune.telling import told_event
from aimass.explain.tune.trials import Began, Cut, Ended, Event, Measured, Search, Waits, Where
from aimass.proto.errors import BadInput, Refused, Unavailable
from aimass.proto.plan import read_plan_draft
from tests.explain.tune.made import SPACE, planted, space
from tests.explain.tune.planted import ROUNDS, Planted, begun, refused


class Killed(BaseException):
    """The process ends here: nothing else is done."""


def killed_after(events: int) -> Callable[[Search, Event], None]:
    left = [events]

    def tell(search: Search, event: Event) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return tell


def settled(search: Search) -> list[tuple[object, ...]]:
    """What a search found, without when."""
    return [
        (
            trial.number,
            trial.settings,
            trial.state,
            [(run.seed, run.state, run.rounds, run.values) for run in trial.runs],
        )
        for trial in search.trials
    ]


def test_every_setting_is_run_with_every_seed_to_its_end(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    runner = Planted()
    found = Searching(folder, search, runner).go_on()
    assert found.state == "ended"
    assert found.reason == "all 6 settings were tried"
    assert [trial.state for trial in found.trials] == ["finished"] * 6
    assert len(runner.begun) == 12
    assert set(runner.begun.values()) == {1}
    best = found.best
    assert best is not None
    assert planted(best.settings) == pytest.approx(max(planted(trial.settings) for trial in found.trials), abs=0.02)
    for trial in found.trials:
        plans = [read_plan_draft(folder.plan(trial.number, place).read_text()) for place in range(2)]
        assert [plan.seed for plan in plans] == [5, 6]
        assert plans[0].train.learning_rate == trial.settings["train.learning_rate"]
    assert read_search(tmp_path / "s") == found


@pytest.mark.parametrize("rule", ["none", "median"])
def test_a_search_that_is_killed_at_any_event_ends_as_one_that_was_not(tmp_path: Path, rule: str) -> None:
    more = {"pruning": Pruning(rule="median" if rule == "median" else "none", after=2, least=2), "trials": 13}
    folder, search = begun(tmp_path / "whole", **more)
    events: list[Event] = []
    whole = Searching(folder, search, Planted(), tell=lambda _, event: events.append(event)).go_on()
    for after in range(3, len(events), 23):
        folder, search = begun(tmp_path / f"cut-{after}", **more)
        runner = Planted()
        with pytest.raises(Killed):
            Searching(folder, search, runner, tell=killed_after(after)).go_on()
        again = Searching(folder, folder.open(), runner).go_on()
        assert settled(again) == settled(whole)
        assert max(runner.begun.values()) <= 2  # begun again once at most: the one that was underway
        assert sum(runner.begun.values()) <= sum(len(trial.runs) for trial in whole.trials) + 1


def test_a_line_that_a_kill_tore_is_cut_off_and_nothing_is_lost(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    with pytest.raises(Killed):
        Searching(folder, search, Planted(), tell=killed_after(20)).go_on()
    path = tmp_path / "s/events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at":1.0,"event":"meas')
    assert read_search(tmp_path / "s") == folder.open()
    assert path.read_bytes() == whole
    assert Searching(folder, folder.open(), Planted()).go_on().state == "ended"


def test_poor_settings_are_cut_at_their_first_run_and_have_no_other(tmp_path: Path) -> None:
    pruning = Pruning(rule="median", after=2, least=2)
    folder, search = begun(tmp_path / "s", pruning=pruning, trials=12)
    runner, cuts = Planted(noise=0.0), []

    def tell(_: Search, event: Event) -> None:
        if isinstance(event, Cut):
            cuts.append(event)

    found = Searching(folder, search, runner, tell=tell).go_on()
    cut = [trial for trial in found.trials if trial.state == "pruned"]
    assert len(cut) == len(cuts) > 2
    for trial in cut:
        assert trial.runs[0].state == "pruned"
        assert trial.runs[0].cut_at == trial.runs[0].rounds[-1] < ROUNDS
        assert [run.state for run in trial.runs[1:]] == ["waiting"]
        assert "the median of" in trial.reason
    assert len(runner.stopped) == len(cut)
    best = max(planted(trial.settings) for trial in found.trials)
    assert found.best is not None
    assert planted(found.best.settings) == best  # whoever is best is never cut


def test_a_run_that_was_to_be_cut_when_the_search_was_killed_is_stopped_and_not_run_on(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s", pruning=Pruning(rule="median", after=2, least=2), trials=12)
    runner = Planted(noise=0.0)

    def die_at_a_cut(_: Search, event: Event) -> None:
        if isinstance(event, Cut):
            raise Killed

    with pytest.raises(Killed):
        Searching(folder, search, runner, tell=die_at_a_cut).go_on()
    stands = folder.open()
    cut = next(trial for trial in stands.trials if trial.runs[0].cut_at is not None)
    assert cut.runs[0].state == "running"
    seen = dict(runner.rounds)
    found = Searching(folder, stands, runner).go_on()
    assert found.trials[cut.number].state == "pruned"
    key = runner.stopped[0]
    assert runner.rounds[key] == seen[key]  # it went no round further
    lines = (tmp_path / "s/events.jsonl").read_text().splitlines()
    assert sum('"event":"cut"' in line and f'"trial":{cut.number}' in line for line in lines) == 1


def test_several_runs_go_at_once_and_no_more_than_were_asked_for(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s", trials=5)
    runner, most, lock = Planted(held=2), [0], threading.Lock()

    def tell(found: Search, event: Event) -> None:
        running = sum(run.state == "running" for trial in found.trials for run in trial.runs)
        with lock:
            most[0] = max(most[0], running)
        if isinstance(event, Began) and running == 3:
            runner.free.set()  # only three at once come past their second round

    found = Searching(folder, search, runner, parallel=3, tell=tell).go_on()
    assert most[0] == 3
    assert [trial.state for trial in found.trials] == ["finished"] * 5


def test_past_its_time_nothing_begins_and_what_runs_is_ended_and_later_it_goes_on(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    now = [0.0]

    def tell(_: Search, event: Event) -> None:
        now[0] += isinstance(event, Ended)

    found = Searching(folder, search, Planted(), tell=tell, now=lambda: now[0]).go_on(until=3.0)
    assert found.state == "open"
    assert sum(run.state == "finished" for trial in found.trials for run in trial.runs) == 3
    assert not any(run.state == "running" for trial in found.trials for run in trial.runs)
    assert Searching(folder, folder.open(), Planted()).go_on().state == "ended"


def test_interrupted_it_leaves_its_runs_and_no_thread(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    runner, began = Planted(held=2), []

    def tell(_: Search, event: Event) -> None:
        if isinstance(event, Began):
            began.append(event)
            if len(began) == 2:
                os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C: it comes to the main thread, which waits

    with pytest.raises(KeyboardInterrupt):
        Searching(folder, search, runner, parallel=2, tell=tell).go_on()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tune-")]
    assert runner.stopped == []
    stands = read_search(tmp_path / "s")
    assert sum(run.state == "running" for trial in stands.trials for run in trial.runs) == 2


def test_a_setting_whose_run_fails_is_failed_and_others_go_on(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    runner = Planted(fault=refused(Refused("no", code="policy.steps"), trials=(1, 2)))
    found = Searching(folder, search, runner).go_on()
    assert [trial.state for trial in found.trials] == ["finished", "failed", "failed", *["finished"] * 3]
    assert found.trials[1].reason == "no. [policy.steps]"
    assert found.state == "ended"


def test_a_search_whose_first_three_settings_fail_is_given_up_with_the_reason(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    runner = Planted(fault=refused(BadInput("the driver has no such option", code="plan.option")))
    found = Searching(folder, search, runner).go_on()
    assert found.state == "failed"
    assert "the driver has no such option" in found.reason
    assert len(found.trials) == 3


def test_what_is_not_the_settings_fault_ends_the_command_and_the_run_is_tried_again(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    with pytest.raises(Unavailable):
        Searching(folder, search, Planted(fault=refused(Unavailable("away"), trials=(2,)))).go_on()
    stands = folder.open()
    assert stands.state == "open"
    assert [run.state for run in stands.trials[2].runs] == ["waiting", "waiting"]
    assert Searching(folder, stands, Planted()).go_on().state == "ended"


def test_values_that_exclude_each_other_are_told_and_cost_no_run(tmp_path: Path) -> None:
    of = space(
        'metric = "auc"\n[settings]\ntrain.batch_size = { choices = [8, 16] }\ntrain.accumulate = { choices = [1, 12] }\n'
    )
    folder, search = begun(tmp_path / "s", of=of, trials=20)
    runner = Planted(quality=lambda _: 0.5)
    found = Searching(folder, search, runner).go_on()
    assert sorted(trial.state for trial in found.trials) == ["finished"] * 3 + ["impossible"]
    (impossible,) = [trial for trial in found.trials if trial.state == "impossible"]
    assert "has no 12 parts" in impossible.reason
    assert len(runner.begun) == 6
    assert found.reason == "no setting was found that was not tried"  # of four there are in all


def test_a_run_that_is_paused_is_told_with_how_it_goes_on_and_the_search_waits_for_it(tmp_path: Path) -> None:
    stands, said = list[str](), list[str]()

    def tell(search: Search, event: Event) -> None:
        said.append(told_event(search, event))
        if isinstance(event, Waits):
            stands.append(search.trials[0].stands)

    runner = Planted(paused=("it died three times", "it died three times"))
    folder, search = begun(tmp_path / "s", trials=1, seeds=(5,), where=Where(kind="offline", data_set="heart"))
    search = Searching(folder, search, runner, tell=tell).go_on()
    assert search.trials[0].state == "finished"
    assert stands == ["paused", "running"]  # said once
    run = search.trials[0].runs[0].run[:8]
    (waits,) = [line for line in said if "paused" in line]
    assert waits.startswith(
        f"setting 0 waits: run {run} is paused: it died three times; to go on aimass offline resume"
    )
    assert f"setting 0: run {run} goes on" in said
    assert search == folder.read()


def test_a_metric_that_is_no_number_is_no_quality_and_the_search_goes_on(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    found = Searching(
        folder, search, Planted(quality=lambda one: float("nan") if float(one["train.momentum"]) > 0.5 else 0.7)
    ).go_on()
    assert found.state == "ended"
    assert {trial.quality is None for trial in found.trials} == {True, False}
    assert all((trial.quality is None) == (float(trial.settings["train.momentum"]) > 0.5) for trial in found.trials)


def test_a_metric_that_runs_do_not_measure_is_said_with_those_that_they_do(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s", of=space(SPACE.replace('"auc"', '"accuracy"')))
    found = Searching(folder, search, Planted()).go_on()
    assert found.state == "failed"
    assert "the run measured no accuracy: it has auc" in found.reason


def test_a_folder_with_something_in_it_is_not_begun_in(tmp_path: Path) -> None:
    from aimass.proto.errors import Conflict, IntegrityError, NotFound

    begun(tmp_path / "s")
    with pytest.raises(Conflict, match="resume"):
        begun(tmp_path / "s")
    with pytest.raises(NotFound):
        read_search(tmp_path / "none")
    (tmp_path / "s/events.jsonl").write_text('{"event":"never"}\n')
    with pytest.raises(IntegrityError, match="line 1"):
        SearchFolder(tmp_path / "s").open()


def test_a_round_that_was_measured_when_the_search_was_killed_is_judged_before_the_run_goes_on(tmp_path: Path) -> None:
    more = {"pruning": Pruning(rule="median", after=2, least=2), "trials": 12}
    folder, search = begun(tmp_path / "whole", **more)
    whole = Searching(folder, search, Planted(noise=0.0)).go_on()
    first = next(trial for trial in whole.trials if trial.state == "pruned")

    def die_before_the_cut(_: Search, event: Event) -> None:
        if isinstance(event, Measured) and (event.trial, event.round) == (first.number, first.runs[0].cut_at):
            raise Killed

    folder, search = begun(tmp_path / "s", **more)
    runner = Planted(noise=0.0)
    with pytest.raises(Killed):
        Searching(folder, search, runner, tell=die_before_the_cut).go_on()
    found = Searching(folder, folder.open(), runner).go_on()
    assert found.trials[first.number].runs[0].rounds == first.runs[0].rounds


def test_a_run_that_begins_while_the_search_is_interrupted_is_left_too(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    runner, first = Planted(held=2), threading.Event()
    late: list[str] = []

    def interrupted_while_it_begins(job: Job) -> None:
        if job.key.endswith("-0-1"):
            late.append(job.key)
            assert first.wait(60)
            os.kill(os.getpid(), signal.SIGINT)
            assert runner.free.wait(60)  # the other run was left

    runner.fault = interrupted_while_it_begins

    def tell(_: Search, event: Event) -> None:
        if isinstance(event, Began):
            first.set()

    with pytest.raises(KeyboardInterrupt):
        Searching(folder, search, runner, parallel=2, tell=tell).go_on()
    assert not runner.rounds[late[0]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tune-")]
