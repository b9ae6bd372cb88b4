from __future__ import annotations

import msgspec
import pytest

from aimass.explain.tune.price import check_affordable, costliest, most_spent, told_price
from aimass.explain.tune.sampler import Seen, suggested
from aimass.privacy.dp.spending import planned_spent, spent_together
from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.plan import read_plan_draft
from aimass.proto.registry.entries import Spent
from tests.explain.runs.made import PRIVATE as PRIVATE_PLAN
from tests.explain.runs.made import run, step
from tests.explain.tune.made import PLAN, PRIVATE, draft, space

SPACE = space(
    'metric = "auc"\n[settings]\ntrain.steps = { low = 1, high = 5 }\nprivacy.noise_multiplier = { low = 0.8, high = 2.0 }\n'
    "privacy.sampling_rate = { choices = [0.01, 0.02, 0.05] }\nstages.0.options.rounds = { low = 2, high = 6 }\n"
    "train.momentum = { low = 0.0, high = 0.9 }\nprivacy.clip = { low = 0.5, high = 2.0 }\n"
)
DEAREST = {
    "train.steps": 5,
    "privacy.noise_multiplier": 0.8,
    "privacy.sampling_rate": 0.05,
    "stages.0.options.rounds": 6,
}


def test_the_costliest_run_has_most_steps_and_least_noise_and_nothing_else_is_named() -> None:
    assert costliest(SPACE, draft(PRIVATE)) == DEAREST


def test_no_setting_of_the_space_costs_more_than_the_costliest() -> None:
    plan = draft(PRIVATE)
    most = planned_spent(with_settings(plan, DEAREST), 1, quick=True).epsilon
    assert most is not None
    for place in range(12):
        settings = suggested(SPACE, [Seen(settings={})] * place, 36, 0)
        spent = planned_spent(with_settings(plan, settings), 1, quick=True).epsilon
        assert spent is not None
        assert spent <= most


def test_what_is_planned_is_what_runs_of_all_planned_steps_have_spent_together() -> None:
    plan = msgspec.structs.replace(PRIVATE_PLAN, evaluate=msgspec.structs.replace(PRIVATE_PLAN.evaluate, every=0))
    runs = [run([step(index, index + 1) for index in range(3)], plan, str(place)) for place in range(4)]
    planned = planned_spent(plan, 4)
    assert planned.epsilon == pytest.approx(spent_together(runs).epsilon)
    assert planned.delta == 1e-5
    fewer = planned_spent(plan, 3)
    assert planned.epsilon is not None
    assert fewer.epsilon is not None
    assert planned.epsilon > fewer.epsilon


def test_a_plan_without_privacy_has_no_costliest_run_and_promises_nothing() -> None:
    momentum = space('metric = "auc"\n[settings]\ntrain.momentum = { low = 0.0, high = 0.9 }\n')
    assert costliest(momentum, draft()) == {}
    most = most_spent(draft(), {}, 60)
    assert most.epsilon is None
    assert "60 runs" in told_price(most, 20, 3)
    assert "nothing of privacy" in told_price(most, 20, 3)


def test_more_than_one_may_spend_is_refused_with_the_figure() -> None:
    most = most_spent(draft(PRIVATE), {}, 6)
    assert most.epsilon is not None
    check_affordable(most, None)
    check_affordable(most, most.epsilon + 0.01)
    with pytest.raises(LimitExceeded, match="--most-epsilon"):
        check_affordable(most, most.epsilon - 0.01)
    with pytest.raises(LimitExceeded, match="no bound"):
        check_affordable(Spent(reason="none"), 100.0)


def test_more_corners_than_can_be_looked_at_are_refused() -> None:
    settings = "".join(f"stages.0.options.x{place} = {{ low = 1, high = 2 }}\n" for place in range(9))
    with pytest.raises(BadInput, match="256 combinations"):
        costliest(space(f'metric = "auc"\n[settings]\n{settings}'), draft(PRIVATE))


def test_where_batches_are_cut_a_sampling_rate_is_not_searched() -> None:
    cut = draft(PRIVATE + "cap_deviations = 6.0\n")
    with pytest.raises(BadInput, match="covers"):
        costliest(SPACE, cut)
    assert costliest(space('metric = "auc"\n[settings]\ntrain.steps = { low = 1, high = 5 }'), cut) == {
        "train.steps": 5
    }


NARROW = """
[secure]
min_cohort = 8
bits = 8
[secure.noise]
multiplier = 1.0
clip = 1.0
delta = 1e-5
members = 10
"""


def test_noise_in_narrow_lanes_is_priced_with_the_rounding_of_a_large_model_and_says_so() -> None:
    """The noise alone is epsilon 4.7 a round; of a million numbers 12.9, of a hundred million 308."""
    rounds = PLAN.replace("quorum = 2", "quorum = 9").replace("rounds = 4", "rounds = 1")
    once = read_plan_draft(rounds + NARROW)
    most = most_spent(once, {}, 1)
    assert most.epsilon is not None
    assert most.epsilon > 275
    assert "100,000,000 numbers in lanes of 8 bits" in told_price(most, 1, 1)
    with pytest.raises(LimitExceeded, match="--most-epsilon"):
        check_affordable(most, 50.0)
    bits = space('metric = "auc"\n[settings]\nsecure.bits = { low = 8, high = 20 }')
    assert costliest(bits, once) == {"secure.bits": 8}
