from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.lineage import Lineage, software
from aimass.explain.runs.outcomes import Objective, Outcome, Outcomes, varied
from aimass.explain.tune.sampler import Seen, suggested
from aimass.explain.tune.space import Space, read_space
from aimass.explain.tune.surface import surface_importance
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.values import Scalar
from tests.explain.tune.made import planted, space

LINEAGE = Lineage(model="heart", data="heart/1", software=software())


def outcomes_of(settings: list[dict[str, Scalar]], quality: list[float], better: str = "higher") -> Outcomes:
    runs = tuple(
        Outcome(run=str(at), name="x", seed=0, settings=one, quality=value, epsilon=None, bytes=0, seconds=1.0)
        for at, (one, value) in enumerate(zip(settings, quality, strict=True))
    )
    return Outcomes(Objective("auc", "lower" if better == "lower" else "higher"), runs, varied(settings))


def spread_out(of: Space, count: int) -> list[dict[str, Scalar]]:
    return [suggested(of, [Seen(settings={})] * place, 3 * count, 0) for place in range(count)]


def test_an_additive_surface_is_taken_apart_to_its_variances() -> None:
    """y = 3 a + 2 b² + c over [-1, 1]² and two levels: variances 9/3, 4 (1/5 - 1/9), 1/4."""
    of = read_space(
        'metric = "auc"\n[settings]\ntrain.learning_rate = { low = 1.0, high = 3.0 }\n'
        'train.momentum = { low = 0.0, high = 0.9 }\ntrain.optimizer = { choices = ["sgd", "adam"] }\n'
    )
    settings = spread_out(of, 40)
    a = np.array([float(one["train.learning_rate"]) - 2 for one in settings])
    b = np.array([float(one["train.momentum"]) / 0.45 - 1 for one in settings])
    c = np.array([one["train.optimizer"] == "adam" for one in settings])
    found = surface_importance(outcomes_of(settings, list(3 * a + 2 * b**2 + c)), of, LINEAGE, Work())
    variances = np.array([3.0, 4 * (1 / 5 - 1 / 9), 0.25])
    assert found.settings == ("train.learning_rate", "train.momentum", "train.optimizer")
    np.testing.assert_allclose(found.share, variances / variances.sum(), atol=2e-3)
    assert found.p < 0.05


def test_a_search_that_crowds_its_optimum_is_told_in_the_right_order() -> None:
    seen: list[Seen] = []
    random = np.random.default_rng(0)
    for _ in range(30):
        settings = suggested(space(), seen, 30, 0)
        seen.append(Seen(settings=settings, values=(planted(settings) + 0.01 * random.standard_normal(),)))
    found = surface_importance(
        outcomes_of([one.settings for one in seen], [one.values[0] for one in seen]), space(), LINEAGE, Work()
    )
    assert found.settings[:2] == ("train.learning_rate", "train.momentum")
    assert (found.low <= found.share).all()
    assert (found.share <= found.high).all()
    assert found.share.sum() == pytest.approx(1)


def test_of_chance_alone_nothing_is_claimed() -> None:
    """p is uniform or larger where nothing matters: in 40 such searches few lie below 0.1."""
    settings = spread_out(space(), 16)
    below = 0
    for seed in range(40):
        quality = list(np.random.default_rng(seed).standard_normal(16))
        found = surface_importance(outcomes_of(settings, quality), space(), LINEAGE, Work(seed=seed), resamples=40)
        below += found.p <= 0.1
    assert below <= 9  # Binomial(40, 0.1): more with probability 0.005


def test_a_metric_that_is_better_lower_gives_the_same_shares() -> None:
    settings = spread_out(space(), 20)
    quality = [planted(one) for one in settings]
    one = surface_importance(outcomes_of(settings, quality), space(), LINEAGE, Work())
    other = surface_importance(outcomes_of(settings, [-q for q in quality], "lower"), space(), LINEAGE, Work())
    np.testing.assert_allclose(one.share, other.share)


def test_fewer_than_eight_trials_say_nothing() -> None:
    settings = spread_out(space(), 7)
    with pytest.raises(BadInput, match="too few trials"):
        surface_importance(outcomes_of(settings, [0.5] * 7), space(), LINEAGE, Work())
