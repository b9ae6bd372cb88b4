"""A clipping norm that follows a quantile of the contributions' norms, without learning any of them.

Each partner adds one bit, whether its norm was within the bound; the noised share of such bits moves the bound. Andrew,
Thakkar, McMahan and Ramaswamy 2021. The bit stands in its own lane as an even number of steps, minus a half, so that
it changes a sum by a half at most; the update's noise grows by a hair and pays for it.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from fractions import Fraction
from typing import Final

from aimass.privacy.dp.events import DiscreteGaussian, Event, Unit
from aimass.privacy.dp.noise_plan import LEAST_DEVIATION, Circle, summing_slack
from aimass.privacy.dp.sampler import discrete_gaussian
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.codec import u32
from aimass.proto.errors import BadInput

__all__ = ["Adaptive", "next_clip", "share_within", "update_multiplier", "vote"]

_BIT_NOISE: Final = 20
"""sigma_b = n / 20."""
_RANGE: Final = 1e6
"""How far a bound may wander from its first value, both ways."""


@dataclasses.dataclass(frozen=True, slots=True)
class Adaptive:
    """The rule of a run; `first` is the clip of its first round."""

    circle: Circle
    first: float
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        self.circle.check()
        if not (0 < self.quantile < 1 and 0 < self.rate <= 1 and math.isfinite(self.first) and self.first > 0):
            raise BadInput(
                "adaptive clipping needs a quantile between 0 and 1, a rate to 1 and a positive first norm",
                code="dp.clip",
                value=(self.quantile, self.rate, self.first),
            )

    @property
    def bit_deviation(self) -> float:
        """sigma_b: noise on the number of partners within the bound."""
        return self.circle.members / _BIT_NOISE

    @property
    def steps(self) -> int:
        """Steps to one bit: even, so that a half is whole, and enough for a discrete Gaussian share."""
        return 2 * math.ceil(LEAST_DEVIATION * math.sqrt(self.circle.shares) / self.bit_deviation / 2)

    @property
    def deviation(self) -> float:
        """Of a partner's share of the noise, in steps."""
        return self.steps * self.bit_deviation / math.sqrt(self.circle.shares)

    @property
    def largest(self) -> float:
        """What a sum of all votes stays below, in steps: seven deviations of the noise above all halves."""
        spread = 7 * self.steps * self.bit_deviation * math.sqrt(self.circle.members / self.circle.shares)
        return self.circle.members * self.steps / 2 + spread

    @property
    def data(self) -> bytes:
        """The constants in bytes, for the round context."""
        return u32(self.steps) + struct.pack(">ddd", self.first, self.quantile, self.rate)

    @property
    def rho(self) -> float:
        """Zero-concentrated privacy of a round's bits: (1/2)^2 / (2 sigma_b^2)."""
        return 1 / (8 * self.bit_deviation**2)

    @property
    def event(self) -> Event:
        """What a round's votes cost."""
        slack = summing_slack(self.deviation, self.circle.shares)
        return Event(mechanism=DiscreteGaussian(rho=self.rho, xi=slack), unit=Unit.PARTNER)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and largest clip that a round may have."""
        return self.first / _RANGE, self.first * _RANGE


def update_multiplier(rule: Adaptive, multiplier: float) -> float:
    """z_delta = (z^-2 - (2 sigma_b)^-2)^(-1/2): with this noise on the update, both together cost what z alone does.

    Raises `BadInput` where the bits alone cost more.
    """
    left = multiplier**-2 - (2 * rule.bit_deviation) ** -2
    if left <= 0:
        raise BadInput(
            "so few partners' bits cost more privacy than the whole noise leaves",
            code="dp.clip",
            value=multiplier,
            limit=f"below {2 * rule.bit_deviation:g}",
            cure="Clip to a fixed norm, or to one from a public set.",
        )
    return 1 / math.sqrt(left)


def vote(rule: Adaptive, norm: float, clip: float, stream: NoiseStream) -> int:
    """A partner's lane: whether its norm before clipping was within the bound, minus a half, in steps, with noise."""
    half = rule.steps // 2
    noise = int(discrete_gaussian(Fraction(rule.deviation) ** 2, 1, stream)[0])
    return (half if norm <= clip else -half) + noise


def share_within(rule: Adaptive, total: int, members: int) -> float:
    """The noised share of so many members that were within the bound; noise may take it out of 0 to 1."""
    if not 1 <= members <= rule.circle.members:
        raise BadInput("a sum of votes is of one member or more", code="dp.clip", value=members)
    return total / (rule.steps * members) + 0.5


def next_clip(rule: Adaptive, clip: float, share: float) -> float:
    """C exp(-rate (share - quantile)), within a million times and a millionth of the first."""
    moved = clip * math.exp(-rule.rate * (min(2.0, max(-1.0, share)) - rule.quantile))
    least, most = rule.bounds
    return min(most, max(least, moved))
