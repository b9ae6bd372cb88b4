"""From a budget to the noise that keeps it, for plans and for the partner who asks how many rounds are left.

Every answer is found by bisection and checked by going back: what is returned fits the budget by the accountant that
will debit it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Budget, Event, Gaussian, PoissonGaussian, Tally, tally
from aimass.privacy.dp.noise_plan import NoisePlan, Setting, distributed_event, solve_multiplier
from aimass.proto.errors import InternalError, Refused

__all__ = ["distributed_event", "distributed_noise", "gaussian_sigma", "least_noise", "poisson_sigma", "rounds_left"]

MOST_ROUNDS: Final = 1_000_000
_PRECISION: Final = 1e-5
_MARGIN: Final = 1e-5
_LARGEST_NOISE: Final = 2.0**24
_LEAST_NOISE: Final = 1e-3
_STEP: Final = 1.3  # figures of much less noise than is wanted take long
_NEAR: Final = 1.005


def least_noise(
    budget: Budget, events: Callable[[float], Iterable[Event]], spent: Iterable[Event] | Tally = ()
) -> float:
    """The least noise at which `spent` and `events(noise)` fit `budget` together, using all but some 10^-5 of it.

    Raises `Refused` where no noise is enough, because too much is spent already or too little can be.
    """
    accountant, before, aim = Accountant(), _tallied(spent), _aim(budget)

    def over(noise: float) -> float:
        """Logarithm of what is spent over what may be: about straight in the logarithm of the noise."""
        figure = accountant.figure(budget.terms, before, tally(events(noise)))
        return math.log(max(figure.epsilon, 1e-300) / aim)

    def loose(noise: float) -> float:
        """The same by Rényi's figure, which is quick and falls in much the same way."""
        whole = Counter(before)
        whole.update(tally(events(noise)))
        return math.log(max(accountant.renyi(budget.terms, whole), 1e-300) / aim)

    noise = None
    if accountant.figure(budget.terms, before).epsilon < aim:
        start = _root(loose, 1.0, _STEP)
        if start is not None:
            gain = loose(start) - over(start)
            start = _root(lambda noise: loose(noise) - gain, start, _NEAR)
        noise = _root(over, start or 1.0, _STEP if start is None else _NEAR)
    if noise is None:
        raise Refused(
            "no noise is large enough for this budget",
            code="dp.no_noise",
            value=accountant.figure(budget.terms, before).sentence(),
            limit=f"epsilon {budget.epsilon:g}",
            cure="Plan fewer rounds or a smaller sampling rate, or ask the partner for more.",
        )
    if over(noise) > 0:
        raise InternalError("a calibrated noise does not keep its budget", code="dp.calibration", value=noise)
    return noise


def _root(over: Callable[[float], float], start: float, step: float) -> float | None:
    """The least argument at which the falling `over` is at most 0, by false position (Illinois) in its logarithm.

    It is looked for from `start` on, first within a factor of `step`.
    """
    high, at_high, factor = start, over(start), step
    while at_high > 0:
        if high > _LARGEST_NOISE:
            return None
        high *= factor
        at_high, factor = over(high), min(factor**2, _STEP)
    low, at_low, factor = high, at_high, step
    while at_low <= 0:
        if low < _LEAST_NOISE:
            return low
        high, at_high, low = low, at_low, low / factor
        at_low, factor = over(low), min(factor**2, _STEP)
    left, right = at_low, at_high  # weights: an end that stays has its own halved
    while at_high < -_PRECISION and high > low * (1 + 1e-9):
        fraction = left / (left - right) if math.isfinite(left) else 0.5
        middle = low * (high / low) ** min(max(fraction, 0.001), 0.999)
        found = over(middle)
        if found > 0:
            low, left, right = middle, found, right / 2
        else:
            high, at_high, left, right = middle, found, left / 2, found
    return high


def _tallied(spent: Iterable[Event] | Tally) -> Tally:
    return spent if isinstance(spent, Mapping) else tally(spent)


def poisson_sigma(budget: Budget, q: float, steps: int, spent: Iterable[Event] | Tally = ()) -> float:
    """The noise multiplier of DP-SGD with sampling rate `q` for `steps` steps in all."""
    unit = budget.terms.unit
    return least_noise(
        budget, lambda sigma: (Event(mechanism=PoissonGaussian(q=q, sigma=sigma), unit=unit, times=steps),), spent
    )


def gaussian_sigma(budget: Budget, times: int = 1, spent: Iterable[Event] | Tally = ()) -> float:
    """The noise multiplier of `times` sums over all units."""
    unit = budget.terms.unit
    return least_noise(budget, lambda sigma: (Event(mechanism=Gaussian(sigma=sigma), unit=unit, times=times),), spent)


def rounds_left(budget: Budget, per_round: Iterable[Event], spent: Iterable[Event] | Tally = ()) -> int:
    """How many more rounds that spend `per_round` fit the budget; a million where it is more."""
    accountant, before, once, aim = Accountant(), _tallied(spent), tally(per_round), _aim(budget)

    def fits(rounds: int) -> bool:
        more = {kind: rounds * times for kind, times in once.items()}
        return accountant.figure(budget.terms, before, more).epsilon <= aim

    low, high = 0, 1
    while fits(high):
        if high >= MOST_ROUNDS:
            return MOST_ROUNDS
        low, high = high, min(2 * high, MOST_ROUNDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def distributed_noise(setting: Setting, budget: Budget, rounds: int, spent: Iterable[Event] | Tally = ()) -> NoisePlan:
    """The constants of noise inside a secure sum for `rounds` rounds: z, scale and a partner's share, solved together.

    Raises `FaultError` E_PLAN or E_POLICY where no noise keeps the budget in so few bits (`noise_plan`).
    """
    accountant, before = Accountant(), _tallied(spent)

    def epsilon_of(plan: NoisePlan) -> float:
        more = tally([distributed_event(plan, rounds)])
        return accountant.figure(budget.terms, before, more).epsilon

    return solve_multiplier(setting, epsilon_of, _aim(budget))


def _aim(budget: Budget) -> float:
    """A little less than the budget: composed in another order, round by round, figures differ by some 10^-6."""
    return budget.epsilon - min(max(_MARGIN, _MARGIN * budget.epsilon), 0.01 * budget.epsilon)
