"""Golden constants of distributed noise (SECAGG section 8) and epsilon as its accountant computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan, Setting

DELTA = 1e-5
ORDERS: list[float] = [1 + x / 10 for x in range(1, 100)] + [*range(11, 64), 128, 256, 512, 1024]
"""Those of dp-accounting, on which the golden figures rest."""

HUNDRED, TEN, THOUSAND = Circle(100, 10, 90), Circle(10, 1, 9), Circle(1000, 100, 900)


def setting(
    circle: Circle = TEN,
    log_size: int = 14,
    bits: int = 18,
    clip: float = 1.0,
    kind: NoiseKind = NoiseKind.DISCRETE_GAUSSIAN,
) -> Setting:
    return Setting(circle, 1 << log_size, bits, clip, kind)


class Golden(NamedTuple):
    """A row of the table."""

    circle: Circle
    log_size: int
    rounds: int
    epsilon: float
    bits: int
    multiplier: float
    scale: float
    deviation: float
    ratio: float
    """Delta_2 / (s C)."""

    @property
    def setting(self) -> Setting:
        return setting(self.circle, self.log_size, self.bits)


GOLDEN = [
    Golden(HUNDRED, 20, 1, 3.0, 16, 1.5192, 2751.56, 467.34, 1.0174),
    Golden(HUNDRED, 20, 1, 3.0, 18, 1.4948, 11184.64, 1869.27, 1.0011),
    Golden(HUNDRED, 20, 1, 8.0, 16, 0.6397, 6484.91, 463.81, 1.0032),
    Golden(HUNDRED, 20, 1, 8.0, 18, 0.6378, 26015.57, 1855.14, 1.0002),
    Golden(HUNDRED, 20, 100, 8.0, 16, 10.2139, 409.91, 468.10, 1.6018),
    Golden(HUNDRED, 20, 100, 8.0, 18, 6.5030, 2575.17, 1872.29, 1.0198),
    Golden(HUNDRED, 20, 100, 8.0, 20, 6.3846, 10491.61, 7489.13, 1.0012),
    Golden(HUNDRED, 20, 100, 3.0, 18, 16.7955, 997.14, 1872.43, 1.1248),
    Golden(HUNDRED, 20, 100, 3.0, 20, 15.0321, 4456.45, 7489.70, 1.0067),
    Golden(TEN, 16, 100, 8.0, 18, 6.3856, 2622.71, 5921.14, 1.0014),
    Golden(THOUSAND, 20, 100, 8.0, 20, 6.3848, 10395.52, 2346.63, 1.0013),
]


def epsilon_of(rounds: int, curve: Callable[[NoisePlan, float], float]) -> Callable[[NoisePlan], float]:
    """Epsilon at `DELTA` of so many rounds from a Renyi curve (Canonne, Kamath and Steinke 2020, proposition 12)."""

    def epsilon(plan: NoisePlan) -> float:
        return min(
            rounds * curve(plan, order) + math.log1p(-1 / order) - math.log(DELTA * order) / (order - 1)
            for order in ORDERS
        )

    return epsilon


def gaussian_curve(plan: NoisePlan, order: float) -> float:
    return float(plan.xi + plan.rho * order)


def skellam_curve(plan: NoisePlan, order: float) -> float:
    """Agarwal, Kairouz and Liu 2021, theorem 3.5, at the next whole order."""
    whole, mu, l2, l1 = math.ceil(order), plan.variance, plan.norm, plan.absolute_norm
    extra = min(((2 * whole - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
    return float(whole * l2**2 / (2 * mu) + extra)
