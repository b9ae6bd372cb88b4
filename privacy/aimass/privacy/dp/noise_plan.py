"""The constants of distributed noise: fixed by the plan, the same for every party, attempt and partner of a run.

Distributed discrete Gaussian: Kairouz, Liu and Steinke 2021, with the noise calibrated to the worst cohort that is
accepted, so that the stated noise is there whatever drops out and even if the tolerated colluders add none. Skellam
noise (Agarwal, Kairouz and Liu 2021) takes the same constants.

What is hidden is what a partner contributed, not that it took part: who is in a sum is public, and a partner who stays
away takes a share of the noise along. The neighbour of a cohort is the same one in which a partner's contribution is
zero ("replace-special"); figures under "add or remove one" are that, with presence known.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
from collections.abc import Callable
from typing import Final

from aimass.privacy.dp.events import DiscreteGaussian, Event, Mechanism, Skellam, Unit
from aimass.privacy.dp.rotation import block_for, padded
from aimass.privacy.dp.sampler import MOST_DEVIATION
from aimass.privacy.secagg.codec import u16, u64
from aimass.privacy.secagg.context import MAX_LANES, MAX_MEMBERS
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.parameters import corrupted, quorum

__all__ = [
    "LEAST_DEVIATION",
    "Circle",
    "NoiseKind",
    "NoisePlan",
    "Setting",
    "distributed_event",
    "plan_noise",
    "solve_multiplier",
    "summing_slack",
]

LEAST_DEVIATION: Final = 4.0
"""Of a discrete Gaussian share: from here on, sums of shares are a discrete Gaussian's to 10^-50."""
MOST_SKELLAM: Final = float(1 << 16)
"""Of a Skellam share, which is drawn from one table: 900 000 entries and 2 s here, and larger ones have no use."""
_KAPPA: Final = 7.0
"""Standard deviations of a sum's coordinate that its lane holds."""
_TAIL: Final = 1.0
"""sqrt(2 ln(1 / beta)) for beta = e^(-1/2): how often a rounding may miss the bound of its norm."""
_MOST_SQUARE: Final = 1 << 62
_LEAST_MULTIPLIER: Final = 1e-3
_MOST_MULTIPLIER: Final = 1e5


class NoiseKind(enum.IntEnum):
    """What a partner adds to its lanes."""

    DISCRETE_GAUSSIAN = 0
    SKELLAM = 1

    @property
    def word(self) -> str:
        """As people read it."""
        return "Skellam" if self is NoiseKind.SKELLAM else "discrete Gaussian"


@dataclasses.dataclass(frozen=True, slots=True)
class Circle:
    """Whose noise is counted on: `members` are asked at most, `colluders` of them may add nothing, and no sum of
    fewer than `quorum` is ever opened (the plan's least cohort M)."""

    members: int
    colluders: int
    quorum: int

    def check(self) -> None:
        """Raise `FaultError` E_POLICY where sums of fewer than a majority with the colluders could be opened."""
        if not 1 <= self.members <= MAX_MEMBERS or not 0 <= self.colluders < self.members:
            raise fail(Code.PLAN, "the circle of distributed noise is impossible", self.members, MAX_MEMBERS)
        least = quorum(self.members, self.colluders)
        if not least <= self.quorum <= self.members:
            raise fail(
                Code.POLICY,
                "distributed noise needs a least cohort from the quorum of the largest circle on",
                self.quorum,
                f"{least} to {self.members}",
            )

    @classmethod
    def of(cls, members: int, gamma_ppm: int, min_cohort: int) -> Circle:
        """The circle of a plan's largest cohort."""
        return cls(members, corrupted(members, gamma_ppm), min_cohort)

    def check_round(self, members: int, gamma_ppm: int, min_cohort: int) -> None:
        """Raise `FaultError` E_POLICY for a round whose sums may hold fewer honest shares than were counted on."""
        if min_cohort < self.quorum:
            raise fail(Code.POLICY, "the round's least cohort has too little noise", min_cohort, self.quorum)
        if (found := corrupted(members, gamma_ppm)) > self.colluders:
            raise fail(Code.POLICY, "the round tolerates more colluders than its noise does", found, self.colluders)

    @property
    def shares(self) -> int:
        """n_eff: shares of noise that are in every sum."""
        return self.quorum - self.colluders


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What a plan says of distributed noise; the noise itself is a multiple of `clip`."""

    circle: Circle
    count: int
    """D: elements of the update."""
    bits: int
    """b: bits of a lane."""
    clip: float
    """C: the L2 norm of a partner's contribution, at most."""
    kind: NoiseKind = NoiseKind.DISCRETE_GAUSSIAN

    @property
    def block(self) -> int:
        """B of the rotation."""
        return block_for(self.count)

    @property
    def size(self) -> int:
        """Lanes: the elements and their padding."""
        return padded(self.count, self.block)


@dataclasses.dataclass(frozen=True, slots=True)
class NoisePlan:
    """The constants that follow; `deviation` and `norm_squared` are in steps of a lane, `scale` steps to one.

    They are made by operations that IEEE 754 rounds correctly alone, so all parties have the same bits of them.
    """

    setting: Setting
    multiplier: float
    """z: the sum's noise over the clip."""
    scale: float
    """s."""
    deviation: float
    """sigma_L: of one partner's share of the noise."""
    norm_squared: int
    """Delta_2^2: no rounded contribution has a larger squared norm."""

    @property
    def rho(self) -> float:
        """Zero-concentrated privacy of a round, but for `xi`."""
        return self.norm_squared / (2 * self.setting.circle.shares * self.deviation**2)

    @property
    def tau(self) -> float:
        """How far a sum of shares may be from a discrete Gaussian, a coordinate: theorem 1."""
        return summing_slack(self.deviation, self.setting.circle.shares)

    @property
    def xi(self) -> float:
        """tau over all lanes."""
        return self.tau * self.setting.size

    @property
    def variance(self) -> float:
        """mu: of the noise that is in every sum, in steps."""
        return self.setting.circle.shares * self.deviation**2

    @property
    def norm(self) -> float:
        """Delta_2."""
        return math.sqrt(self.norm_squared)

    @property
    def absolute_norm(self) -> float:
        """Delta_1: of whole numbers of norm Delta_2."""
        return self.norm * min(math.sqrt(self.setting.size), self.norm)

    @property
    def mean_deviation(self) -> float:
        """Of the noise on each element of a mean over all members, in the update's unit: what it costs."""
        circle = self.setting.circle
        return self.multiplier * self.setting.clip / math.sqrt(circle.shares * circle.members)

    @property
    def digest(self) -> bytes:
        """`dp_digest` of the round context: every constant, so that two parties that differ in one cannot sum."""
        setting, circle = self.setting, self.setting.circle
        return digest(
            Name.NOISE,
            bytes((setting.kind,)),
            u16(circle.members) + u16(circle.colluders) + u16(circle.quorum),
            u64(setting.count) + u64(setting.block) + bytes((setting.bits,)),
            struct.pack(">dddd", setting.clip, self.multiplier, self.scale, self.deviation),
            u64(self.norm_squared),
        )


def summing_slack(deviation: float, shares: int) -> float:
    """tau: how far a sum of so many discrete Gaussian shares may be from a discrete Gaussian, a coordinate."""
    doubled = 2 * (math.pi * deviation) ** 2
    return 10 * math.fsum(math.exp(-doubled * k / (k + 1)) for k in range(1, shares))


def distributed_event(plan: NoisePlan, rounds: int = 1) -> Event:
    """What `rounds` rounds of a noise plan cost: what a partner contributed is hidden, not that it took part."""
    mechanism: Mechanism = DiscreteGaussian(rho=plan.rho, xi=plan.xi)
    if plan.setting.kind is NoiseKind.SKELLAM:
        mechanism = Skellam(mu=plan.variance, l2=plan.norm, l1=plan.absolute_norm)
    return Event(mechanism=mechanism, unit=Unit.PARTNER, times=rounds)


def plan_noise(setting: Setting, multiplier: float) -> NoisePlan:
    """The constants for a noise multiplier z.

    s = sqrt(4^b - n kappa^2) / (2 kappa sqrt(C^2 n^2 / B + z^2 C^2 n / n_eff)) makes a lane hold kappa deviations of
    the sum of all members at its worst (equal contributions), their noise and their rounding; sigma_L =
    s z C / sqrt(n_eff); Delta_2^2 = min((s C + sqrt D)^2, s^2 C^2 + D/4 + sqrt(2 ln(1/beta)) (s C + sqrt D / 2)).

    A coordinate of the sum leaves its lane with probability 2.6e-12 if it is normal, 4.6e-11 at most by the
    sub-Gaussian bound. That changes a result, never the privacy.

    Raises `FaultError` E_POLICY for a share's deviation below 4, or a least cohort that is too small; E_PLAN for
    numbers without such a plan, and for a Skellam share above `MOST_SKELLAM`.
    """
    plan = _derived(setting, multiplier)
    if setting.kind is NoiseKind.DISCRETE_GAUSSIAN and plan.deviation < LEAST_DEVIATION:
        raise fail(
            Code.POLICY,
            "a partner's share of the noise is so narrow that sums of shares are not what is accounted: more bits a "
            "lane, or Skellam noise",
            plan.deviation,
            f"from {LEAST_DEVIATION:g}",
        )
    if setting.kind is NoiseKind.SKELLAM and plan.deviation > MOST_SKELLAM:
        raise fail(
            Code.PLAN,
            "Skellam noise is for narrow lanes: so wide a share is a discrete Gaussian's matter",
            plan.deviation,
            f"to {MOST_SKELLAM:g}",
        )
    return plan


def _derived(setting: Setting, multiplier: float) -> NoisePlan:
    _check(setting, multiplier)
    circle, bits = setting.circle, setting.bits
    room = float(1 << 2 * bits) - circle.members * _KAPPA**2
    if room <= 0:
        raise fail(Code.PLAN, "lanes are too narrow for the rounding of so many members", bits)
    signal, noise = circle.members / math.sqrt(setting.block), multiplier * math.sqrt(circle.members / circle.shares)
    scaled = math.sqrt(room) / (2 * _KAPPA * math.sqrt(signal * signal + noise * noise))
    deviation = scaled * multiplier / math.sqrt(circle.shares)
    root = math.sqrt(setting.size)
    square = min((scaled + root) * (scaled + root), scaled * scaled + setting.size / 4 + _TAIL * (scaled + root / 2))
    if square >= _MOST_SQUARE or deviation > MOST_DEVIATION:
        raise fail(Code.PLAN, "lanes are wider than noise can be made for", bits)
    return NoisePlan(setting, multiplier, scaled / setting.clip, deviation, math.floor(square))


def _check(setting: Setting, multiplier: float) -> None:
    setting.circle.check()
    for name, value, least, most in (
        ("count", setting.count, 1, MAX_LANES // 2),
        ("bits", setting.bits, 2, 32),
        ("clip", setting.clip, 1e-100, 1e100),
        ("noise multiplier", multiplier, _LEAST_MULTIPLIER, 2 * _MOST_MULTIPLIER),
    ):
        if not least <= value <= most:
            raise fail(Code.PLAN, f"the {name} of distributed noise is out of range", value, f"{least} to {most}")


def solve_multiplier(setting: Setting, epsilon_of: Callable[[NoisePlan], float], epsilon: float) -> NoisePlan:
    """The plan with the least noise (to a part in 10^12) whose `epsilon_of` is `epsilon` at most, by bisection.

    More noise leaves fewer steps to one in the same lanes, and the rounding then adds to the norm: below some number
    of bits no noise is enough. Raises `FaultError` E_PLAN there, and as `plan_noise` does.
    """
    low, high = _LEAST_MULTIPLIER, 1.0
    while epsilon_of(_derived(setting, high)) > epsilon:
        low, high = high, 2 * high
        if high > _MOST_MULTIPLIER:
            raise fail(Code.PLAN, "no noise in lanes of so few bits gives the privacy that is asked for", setting.bits)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(_derived(setting, middle)) > epsilon else (low, middle)
    return plan_noise(setting, high)
