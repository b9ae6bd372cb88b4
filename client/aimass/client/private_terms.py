"""What a private step promises, in an accountant's numbers, for the daemon: without torch, and without a row."""

from __future__ import annotations

import math
from typing import Final

from aimass.privacy.dp.gaussian import GridNoise
from aimass.proto.elements import FLOATS
from aimass.proto.plan import PrivacySettings
from aimass.proto.tensors import Layout

__all__ = ["ROUNDING", "grid_noise", "trained_elements"]

ROUNDING: Final = 1e-3
"""Part of the clip by which sums of neighbours may differ beyond it, because gradients, norms and the sums within a
physical batch are float32: no proof, but far above the 1e-5 that the tests allow; it costs a thousandth of the noise.
"""


def grid_noise(privacy: PrivacySettings, elements: int) -> GridNoise:
    """The noise of one step on so many trained elements; its `accounted` is the multiplier that an accountant is told.

    One training step of a run costs `train.steps` times a Gaussian of that multiplier over a Poisson sample at
    `privacy.sampling_rate`; with a cap, over a truncated one of the partner's training rows and `privacy.cap(rows)`.
    """
    return GridNoise(privacy.noise_multiplier, privacy.clip, elements, ROUNDING)


def trained_elements(model: Layout) -> int:
    """The most elements that training may change: what a daemon knows of a model that it never builds."""
    return sum(
        math.prod(spec.shape)
        for spec in model.tensors
        if spec.dtype in FLOATS and not spec.name.startswith("preprocess.")
    )
