from __future__ import annotations

import numpy as np

from aimass.explain.tune.sampler import Seen, spread, suggested
from aimass.explain.tune.space import Space, read_space
from tests.explain.tune.made import planted, space


def searched(of: Space, trials: int, seed: int, upto: int | None = None) -> list[Seen]:
    seen: list[Seen] = []
    for _ in range(trials if upto is None else upto):
        settings = suggested(of, seen, trials, seed)
        seen.append(Seen(settings=settings, values=(planted(settings),)))
    return seen


def test_the_same_history_and_seed_suggest_the_same_and_another_seed_does_not() -> None:
    seen = searched(space(), 14, seed=3)
    assert suggested(space(), seen, 20, 3) == suggested(space(), seen, 20, 3)
    assert suggested(space(), seen, 20, 3) != suggested(space(), seen, 20, 4)
    assert suggested(space(), [], 20, 3) != suggested(space(), [], 20, 4)


def test_half_is_spread_evenly_and_ten_at_least() -> None:
    assert [spread(trials) for trials in (1, 9, 15, 31, 90)] == [1, 9, 10, 16, 45]
    rates = sorted(np.log10([float(one.settings["train.learning_rate"]) for one in searched(space(), 48, 0, upto=16)]))
    assert np.diff([-3, *rates, 0]).max() < 0.6  # no gap of more than a fifth of the range


def test_choices_and_whole_steps_are_all_tried() -> None:
    of = read_space(
        'metric = "auc"\n[settings]\ntrain.optimizer = { choices = ["sgd", "adam"] }\n'
        "stages.0.options.rounds = { low = 2, high = 9, step = 3 }\ntrain.batch_size = { low = 1, high = 3 }\n"
    )
    seen = [Seen(settings=suggested(of, [Seen(settings={})] * place, 200, 0), values=(0.0,)) for place in range(60)]
    for name, values in {
        "train.optimizer": {"sgd", "adam"},
        "stages.0.options.rounds": {2, 5, 8},
        "train.batch_size": {1, 2, 3},
    }.items():
        assert {one.settings[name] for one in seen} == values


def test_a_planted_optimum_is_come_near_to_and_better_than_by_spreading_alone() -> None:
    def best(method: str, seed: int) -> float:
        seen: list[Seen] = []
        for _ in range(30):
            settings = suggested(space(), seen, 30, seed, "tpe" if method == "tpe" else "spread")
            seen.append(Seen(settings=settings, values=(planted(settings),)))
        return max(planted(one.settings) for one in seen)

    found = [(best("tpe", seed), best("spread", seed)) for seed in range(4)]
    assert np.mean([tpe for tpe, _ in found]) > np.mean([other for _, other in found])
    assert min(tpe for tpe, _ in found) > 0.90  # of 0.92


def test_what_was_cut_and_what_is_running_keep_the_search_away() -> None:
    seen = searched(space(), 12, seed=1)
    good = sorted(range(12), key=lambda at: seen[at].values)[6:]
    cut = [
        Seen(settings=one.settings, cut=True, values=(0.1,), cut_after=2) if at in good else one
        for at, one in enumerate(seen)
    ]
    assert suggested(space(), cut, 20, 1) != suggested(space(), seen, 20, 1)
    best = max(range(12), key=lambda at: seen[at].values)
    running = [Seen(settings=one.settings) if at == best else one for at, one in enumerate(seen)]
    assert suggested(space(), running, 20, 1) != suggested(space(), seen, 20, 1)


def test_goals_beside_the_metric_are_searched_for_together() -> None:
    of = read_space(
        'metric = "auc"\nalso = ["seconds"]\n[settings]\ntrain.momentum = { low = 0.0, high = 0.9 }\n'
        "stages.0.options.rounds = { low = 1, high = 100 }\n"
    )
    seen: list[Seen] = []
    for _ in range(24):
        settings = suggested(of, seen, 24, 0)
        rounds = float(settings["stages.0.options.rounds"])
        seen.append(Seen(settings=settings, values=(1 - 1 / rounds, rounds)))
    tried = sorted(float(one.settings["stages.0.options.rounds"]) for one in seen[10:])
    assert tried[0] < 20  # both ends of the front are tried
    assert tried[-1] > 50
