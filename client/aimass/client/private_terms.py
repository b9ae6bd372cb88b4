"""What a private step promises, in an accountant's numbers, for the daemon: without torch, and without a row."""

from __future__ import annotations

import math
from typing import Final

from aimass.privacy.dp.events import Event, PoissonGaussian, TruncatedPoissonGaussian, Unit
from aimass.privacy.dp.gaussian import GridNoise
from aimass.proto.elements import FLOATS
from aimass.proto.plan import PrivacySettings
from aimass.proto.tensors import Layout

__all__ = ["ROUNDING", "grid_noise", "trained_elements", "training_event"]

ROUNDING: Final = 1e-3
"""Part of the clip by which sums of neighbours may differ beyond it. Norms and sums are float64, but one row more moves
others to other places in a batch, where kernels of float32 may round their gradients otherwise. No proof, but far above
the 1e-5 that the tests allow; it costs a thousandth of the noise."""


def grid_noise(privacy: PrivacySettings, elements: int) -> GridNoise:
    """The noise of one optimiser's step on so many trained elements."""
    return GridNoise(privacy.noise_multiplier, privacy.clip, elements, ROUNDING)


def training_event(privacy: PrivacySettings, steps: int, elements: int, rows: int) -> Event:
    """What a ledger reserves before one training, with the plan's steps, and commits after it, with those done.

    `elements` may be more than are trained, as `trained_elements` has it: it changes the multiplier in the sixth digit.
    `rows` are the partner's training rows; they matter where batches are cut, and stay in the ledger.
    """
    sigma = grid_noise(privacy, elements).accounted
    cap = privacy.cap(rows)
    if cap is None:
        mechanism: PoissonGaussian | TruncatedPoissonGaussian = PoissonGaussian(q=privacy.sampling_rate, sigma=sigma)
    else:
        mechanism = TruncatedPoissonGaussian(q=privacy.sampling_rate, sigma=sigma, records=rows, cap=cap)
    return Event(mechanism=mechanism, unit=Unit.EXAMPLE, times=steps)


def trained_elements(model: Layout) -> int:
    """The most elements that training may change: what a daemon knows of a model that it never builds."""
    return sum(
        math.prod(spec.shape)
        for spec in model.tensors
        if spec.dtype in FLOATS and not spec.name.startswith("preprocess.")
    )
