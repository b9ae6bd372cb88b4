"""Whether noise inside a secure sum leaves anything of what is summed: the mean update's size against its noise, by how
many partners there are. For whoever plans such a run, before it.

A clipped update of D elements has C / sqrt(D) on each at most, in the mean square. The mean over n partners has noise
z C / sqrt(n n_eff) on each, n_eff being the shares of noise that are in the smallest sum that is accepted. So what
helps is fewer elements, less noise, and many more partners.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Final

from aimass.privacy.dp.noise_plan import Circle, NoisePlan
from aimass.privacy.secagg.context import MAX_MEMBERS
from aimass.privacy.secagg.parameters import corrupted, quorum

__all__ = ["SIZES", "CohortNoise", "by_cohort", "clear_from"]

SIZES: Final = (3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)


@dataclasses.dataclass(frozen=True, slots=True)
class CohortNoise:
    """A mean update over `partners`: the deviation of its noise on each element, and the most that it has of signal."""

    partners: int
    noise: float
    signal: float

    @property
    def ratio(self) -> float:
        """Noise over signal; from 1 on little is learnt, from 10 on nothing."""
        return self.noise / self.signal


def by_cohort(plan: NoisePlan, gamma_ppm: int, sizes: Iterable[int] = SIZES) -> Iterator[CohortNoise]:
    """What the plan's multiplier does in cohorts of other sizes, the same share of whom is the least cohort."""
    clip, least = plan.setting.clip, plan.setting.circle.quorum / plan.setting.circle.members
    for size in sizes:
        colluders = corrupted(size, gamma_ppm)
        circle = Circle(size, colluders, max(quorum(size, colluders), math.ceil(least * size)))
        if circle.shares >= 1:
            noise = plan.multiplier * clip / math.sqrt(size * circle.shares)
            yield CohortNoise(size, noise, clip / math.sqrt(plan.setting.count))


def clear_from(plan: NoisePlan, gamma_ppm: int) -> int | None:
    """The least cohort from which on the noise is below the signal; None where none is large enough."""
    found = None
    for cohort in by_cohort(plan, gamma_ppm, range(MAX_MEMBERS, 2, -1)):
        if cohort.ratio >= 1:
            break
        found = cohort.partners
    return found
