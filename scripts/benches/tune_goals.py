"""Two goals at once: how much of the plane the front of a search rules, by TPE, evenly spread, and by NSGA-II."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import optuna

from aimass.explain.tune.sampler import Seen, distributions, suggested
from aimass.explain.tune.space import Space
from aimass.proto.values import Scalar

__all__ = ["areas"]

_WORST: Final = (0.3, 3.5)
"""The corner that areas are measured from: poor quality, high cost."""
_POPULATION: Final = 8
_NOISE: Final = 0.006
Quality = Callable[[Mapping[str, Scalar]], float]


def _cost(settings: Mapping[str, Scalar]) -> float:
    """What a setting costs: the best by quality is neither the dearest nor the cheapest."""
    return 0.2 + float(settings["train.momentum"]) + 16 / float(settings["train.batch_size"])


def _area(points: list[tuple[float, float]]) -> float:
    """Hypervolume of quality (higher is better) and cost (Zitzler and Thiele 1998), in two dimensions."""
    area, best = 0.0, _WORST[0]
    for quality, cost in sorted(points, key=lambda one: one[1]):
        if quality > best and cost < _WORST[1]:
            area, best = area + (quality - best) * (_WORST[1] - cost), quality
    return area


def areas(space: Space, quality: Quality, trials: int, seed: int) -> dict[str, float]:
    """The area of each way's front of so many settings, by what they are truly worth; all see the same noise."""
    return {
        "TPE": _area(_searched(space, quality, trials, seed, spread=False)),
        "spread": _area(_searched(space, quality, trials, seed, spread=True)),
        "NSGA-II": _area(_evolved(space, quality, trials, seed)),
    }


def _searched(space: Space, quality: Quality, trials: int, seed: int, *, spread: bool) -> list[tuple[float, float]]:
    random, seen = np.random.default_rng(seed), list[Seen]()
    for _ in range(trials):
        settings = suggested(space, seen, trials, seed, "spread" if spread else "tpe")
        told = quality(settings) + _NOISE * float(random.standard_normal())
        seen.append(Seen(settings=settings, values=(told, _cost(settings))))
    return [(quality(one.settings), _cost(one.settings)) for one in seen]


def _evolved(space: Space, quality: Quality, trials: int, seed: int) -> list[tuple[float, float]]:
    """Deb et al. 2002 by Optuna, its first population evenly spread."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    random, found = np.random.default_rng(seed), list[tuple[float, float]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its experimental warnings
        kinds = distributions(optuna, space)
        sampler = optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
        study: Any = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for place in range(_POPULATION):
            study.enqueue_trial(suggested(space, [Seen(settings={})] * place, trials, seed, "spread"))
        for _ in range(trials):
            trial = study.ask(kinds)
            true, cost = quality(trial.params), _cost(trial.params)
            study.tell(trial, [true + _NOISE * float(random.standard_normal()), cost])
            found.append((true, cost))
    return found
