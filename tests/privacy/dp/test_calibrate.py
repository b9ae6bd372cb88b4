"""Noise from a budget and back, against the golden tables of the specification."""

from __future__ import annotations

import pytest

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.calibrate import (
    distributed_event,
    distributed_noise,
    gaussian_sigma,
    poisson_sigma,
    rounds_left,
)
from aimass.privacy.dp.events import Budget, Event, Gaussian, PoissonGaussian, Relation, Terms, Unit
from aimass.privacy.dp.noise_plan import NoiseKind, plan_noise
from aimass.privacy.secagg.faults import FaultError
from aimass.proto.errors import Refused
from tests.support.noise_plans import GOLDEN, HUNDRED, Golden, epsilon_of, gaussian_curve, setting, skellam_curve


def budget(epsilon: float, unit: Unit = Unit.EXAMPLE, delta: float = 1e-5) -> Budget:
    relation = Relation.REPLACE_SPECIAL if unit is Unit.PARTNER else Relation.ADD_OR_REMOVE_ONE
    return Budget(terms=Terms(unit=unit, relation=relation, delta=delta), epsilon=epsilon)


@pytest.mark.parametrize(("epsilon", "sigma"), [(1, 3.73063), (3, 1.39059), (8, 0.60023)])
def test_one_gaussian_is_calibrated_as_analytically(epsilon: float, sigma: float) -> None:
    found = gaussian_sigma(budget(epsilon))
    assert found == pytest.approx(sigma, abs=1e-4)
    again = Accountant().figure(budget(epsilon).terms, [Event(mechanism=Gaussian(sigma=found), unit=Unit.EXAMPLE)])
    assert epsilon * (1 - 2.1e-5) <= again.epsilon <= epsilon


def test_the_noise_of_training_for_two_is_the_golden_one() -> None:
    assert poisson_sigma(budget(2), 0.01, 1000) == pytest.approx(0.95910, abs=1e-4)


def test_what_is_spent_already_asks_for_more_noise_and_too_much_of_it_for_any() -> None:
    spent = [Event(mechanism=Gaussian(sigma=2), unit=Unit.EXAMPLE)]
    assert gaussian_sigma(budget(4), spent=spent) > gaussian_sigma(budget(4))
    with pytest.raises(Refused, match="no noise is large enough") as refused:
        gaussian_sigma(budget(1), spent=spent)
    assert refused.value.value is not None
    assert "epsilon 1.99" in refused.value.value


def test_as_many_rounds_are_left_as_fit_and_not_one_more() -> None:
    once = [Event(mechanism=PoissonGaussian(q=0.05, sigma=1.1), unit=Unit.EXAMPLE, times=20)]
    assert rounds_left(budget(2.004), once) == 2
    assert rounds_left(budget(2.003), once) == 1
    assert rounds_left(budget(2.887), once, spent=once * 3) == 2
    assert rounds_left(budget(1.5), once) == 0


@pytest.mark.parametrize("row", GOLDEN)
def test_distributed_noise_is_the_golden_one(row: Golden) -> None:
    found = distributed_noise(row.setting, budget(row.epsilon, Unit.PARTNER), row.rounds)
    assert found.multiplier == pytest.approx(row.multiplier, rel=5e-5)
    assert found.scale == pytest.approx(row.scale, rel=5e-5)
    assert found.deviation == pytest.approx(row.deviation, rel=5e-5)
    again = Accountant().figure(budget(row.epsilon, Unit.PARTNER).terms, [distributed_event(found, row.rounds)])
    assert again.accountant == "rdp"
    assert row.epsilon * (1 - 1.1e-5) <= again.epsilon <= row.epsilon


@pytest.mark.parametrize("kind", NoiseKind)
def test_the_figure_of_a_noise_plan_is_that_of_its_curve(kind: NoiseKind) -> None:
    plan = plan_noise(setting(HUNDRED, 20, 18, kind=kind), 6.0)
    curve = skellam_curve if kind is NoiseKind.SKELLAM else gaussian_curve
    figure = Accountant().figure(budget(8, Unit.PARTNER).terms, [distributed_event(plan, 100)])
    assert figure.epsilon == pytest.approx(epsilon_of(100, curve)(plan), rel=1e-9)


def test_what_is_spent_already_asks_for_more_distributed_noise() -> None:
    first = distributed_noise(setting(), budget(4, Unit.PARTNER), 10)
    more = distributed_noise(setting(), budget(4, Unit.PARTNER), 10, [distributed_event(first, 5)])
    assert more.multiplier > first.multiplier


def test_too_few_bits_are_named() -> None:
    with pytest.raises(FaultError, match="so few bits"):
        distributed_noise(setting(HUNDRED, 20, 13), budget(1, Unit.PARTNER), 100)


def test_rounds_that_were_calibrated_fit_one_by_one() -> None:
    """Composed round by round the figure differs in its last digits; the last round must fit all the same."""
    terms, accountant = budget(2).terms, Accountant()
    sigma = poisson_sigma(budget(2), 0.05, 60)
    once = [Event(mechanism=PoissonGaussian(q=0.05, sigma=sigma), unit=Unit.EXAMPLE, times=10)]
    for rounds in range(6):
        assert accountant.figure(terms, once * rounds, once).epsilon <= 2
    assert rounds_left(budget(2), once) == 6
