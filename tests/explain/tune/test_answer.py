from __future__ import annotations

from pathlib import Path

import msgspec

from aimass.explain.tune.answer import answered, next_plan, write_answer
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.search import Searching
from aimass.explain.tune.space import read_space
from aimass.explain.tune.trials import Search
from aimass.explain.work import Work
from tests.explain.tune.made import SPACE, planted
from tests.explain.tune.planted import Planted, begun


def searched(path: Path, **more: object) -> tuple[Search, dict[tuple[int, int], object]]:
    folder, search = begun(path, **more)
    found = Searching(folder, search, Planted(noise=0.001)).go_on()
    return found, dict(folder.views(found))


def test_what_was_cut_is_in_what_was_spent_and_in_no_comparison(tmp_path: Path) -> None:
    search, views = searched(tmp_path / "s", pruning=Pruning(rule="median", after=2, least=2), trials=12)
    cut = sum(trial.state == "pruned" for trial in search.trials)
    assert cut
    found = answered(search, views, Work())  # type: ignore[arg-type]
    assert found is not None
    assert len(views) == len(found.result.pareto.runs) + cut
    assert any("cut" in line for line in found.result.warnings())
    assert found.result.tuning is not None
    assert f"{len(views)} of {len(views)} runs" in found.result.tuning.reason


def test_the_tied_set_holds_the_best_and_the_next_plan_has_its_settings(tmp_path: Path) -> None:
    search, views = searched(tmp_path / "s", trials=8, seeds=(5, 6, 7))
    found = answered(search, views, Work())  # type: ignore[arg-type]
    assert found is not None
    best = max(search.trials, key=lambda trial: planted(trial.settings))
    assert best.number in found.tied
    assert found.next.number == found.tied[0] == best.number
    draft, remarks = next_plan(search, found)
    assert draft.train.momentum == best.settings["train.momentum"]
    assert (draft.name, draft.seed, draft.study) == ("heart", 5, None)
    assert any("flattered by chance" in line for line in remarks)


def test_of_those_that_tie_the_cheapest_by_the_goal_that_was_asked_for_is_next(tmp_path: Path) -> None:
    also = read_space(SPACE.replace('metric = "auc"', 'metric = "auc"\nalso = ["seconds"]'))
    search, views = searched(tmp_path / "s", of=also, trials=5)
    trials = tuple(
        msgspec.structs.replace(
            trial,
            runs=tuple(msgspec.structs.replace(run, seconds=10.0 + 7 * trial.number % 5) for run in trial.runs),
        )
        for trial in search.trials
    )
    found = answered(msgspec.structs.replace(search, trials=trials), views, Work())  # type: ignore[arg-type]
    assert found is not None
    assert len(found.tied) > 1
    cheapest = min(found.tied, key=lambda number: trials[number].cost("seconds") or 0.0)
    assert found.next.number == cheapest
    assert "the one of least seconds" in found.why


def test_of_a_search_that_has_come_to_no_figure_there_is_no_answer(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    assert write_answer(folder, search, Work()) is None
    assert not (tmp_path / "s/next.toml").exists()


def test_a_setting_of_one_seed_is_next_where_no_seeds_say_which_tie(tmp_path: Path) -> None:
    search, views = searched(tmp_path / "s", seeds=(5,))
    found = answered(search, views, Work())  # type: ignore[arg-type]
    assert found is not None
    assert search.best is not None
    assert found.tied == (search.best.number,)
    assert found.result.tied is None
    assert any("two seeds" in line for line in found.result.warnings())
