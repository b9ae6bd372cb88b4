from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.explain.tune.answer import _next, answered, next_plan, write_answer
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


def costing(search: Search, seconds: Sequence[float]) -> Search:
    """The same, its settings having taken so long."""
    trials = tuple(
        msgspec.structs.replace(
            trial, runs=tuple(msgspec.structs.replace(run, seconds=seconds[trial.number]) for run in trial.runs)
        )
        for trial in search.trials
    )
    return msgspec.structs.replace(search, trials=trials)


ALSO = read_space(SPACE.replace('metric = "auc"', 'metric = "auc"\nalso = ["seconds"]'))


@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_of_settings_that_no_other_beats_and_of_it_the_cheapest_that_ties_is_next(
    tmp_path: Path, seed: int
) -> None:
    search, views = searched(tmp_path / "s", of=ALSO, trials=9, seed=seed, seeds=(5, 6, 7))
    search = costing(search, np.random.default_rng(seed).uniform(10, 20, 9).tolist())
    found = answered(search, views, Work())  # type: ignore[arg-type]
    assert found is not None
    goals = {trial.number: (-(trial.quality or 0.0), trial.cost("seconds") or 0.0) for trial in search.trials}
    beaten = {
        one
        for one, mine in goals.items()
        for other in goals.values()
        if other != mine and all(o <= m for o, m in zip(other, mine, strict=True))
    }
    assert set(found.front) == goals.keys() - beaten
    assert [goals[one][0] for one in found.front] == sorted(goals[one][0] for one in found.front)
    tied = [one for one in found.front if one in found.tied]
    assert found.next.number == min(tied, key=lambda one: goals[one][1])
    assert found.result.pareto.names == ("auc", "seconds")
    assert found.result.pareto.what == "settings"
    draft, remarks = next_plan(search, found)
    assert draft.train.momentum == found.next.settings["train.momentum"]
    listed = [line for line in remarks if line.startswith("  setting ")]
    assert len(listed) == len(found.front)
    assert [line for line in listed if line.endswith("; this plan")] == [
        line for line in listed if line.startswith(f"  setting {found.next.number}: ")
    ]
    assert "on the front of auc and seconds" in remarks[0] or "of the front of auc and seconds" in remarks[0]
    assert (f": {len(tied)} of its {len(found.front)} cannot be told from" in remarks[0]) == (len(tied) > 1)


def test_a_setting_that_another_beats_in_all_goals_is_not_next_though_it_ties(tmp_path: Path) -> None:
    """One that spreads much ties with the best where a better and cheaper one, which spreads little, does not."""
    search, _ = searched(tmp_path / "s", of=ALSO, trials=5, seeds=(5, 6, 7))
    search = costing(search, [5.0, 1.0, 9.0, 2.0, 3.0])
    found = _next(search, (0, 2), (0, 3))
    assert found[0].number == 0
    assert found[1] == "of 2 on the front of auc and seconds the only one that cannot be told from the best auc"
    assert _next(search, (3, 0), (3, 0))[1].startswith(
        "of the front of auc and seconds the one of least seconds (2): 2 of"
    )
    assert _next(search, (3, 0), (3,))[1] == "which alone is on the front of auc and seconds"


def test_a_setting_as_good_as_the_best_that_costs_less_is_next_where_no_seeds_say_which_tie(tmp_path: Path) -> None:
    search, _ = searched(tmp_path / "s", of=ALSO, trials=5, seeds=(5,))
    search = costing(search, [5.0, 1.0, 9.0, 2.0, 3.0])
    assert _next(search, (0,), (1, 3))[0].number == 1


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
