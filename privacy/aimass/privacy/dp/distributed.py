"""A partner's contribution as noised lanes of a secure sum, and the sum's lanes back as numbers.

Clip to an L2 norm, rotate, scale, round to whole numbers within a bound of the norm, add a share of integer noise,
reduce modulo 2^b: what is accounted is true of the whole numbers that are sent, whatever floating point did before.
It stands between training and the masks, in the place of plain quantisation, and every weight is one. Kairouz, Liu and
Steinke 2021, algorithms 1 and 2; their constants are `noise_plan.NoisePlan`.

Encode once and keep the lanes: a second encoding of the same contribution is a second release, with its own debit.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.clipping import l2_norm
from aimass.privacy.dp.noise_plan import NoiseKind, NoisePlan
from aimass.privacy.dp.rotation import rotate, unrotate
from aimass.privacy.dp.sampler import discrete_gaussian, skellam
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.masks import Lanes, lane_type
from aimass.privacy.secagg.quantise import centred, quantise_block, to_lanes

__all__ = ["decode", "encode", "noise_share", "rounded"]

_TRIES: Final = 64
_BLOCK: Final = 1 << 18
_U32: Final = np.dtype("<u4")
_NO_LIMIT: Final = 1 << 40
"""The norm is what bounds a coordinate."""


def encode(plan: NoisePlan, values: npt.NDArray[Any], key: bytes, stream: NoiseStream) -> Lanes:
    """The `plan.setting.size` lanes of a contribution of D real numbers, with this partner's share of the noise.

    `key` is the round's `rotation_key`; `stream` is the partner's secret. Memory is that of two vectors of int64.

    Raises `FaultError` E_ENCODING for another number of values, E_NONFINITE, and E_ROUNDING where 64 roundings all
    miss the bound, which happens to one encoding in 10^13 at most.
    """
    steps = rounded(plan, _spread(plan, values, key), stream)
    for start in range(0, len(steps), _BLOCK):
        part = steps[start : start + _BLOCK]
        part += noise_share(plan, len(part), stream)
    return to_lanes(steps, plan.setting.bits)


def _spread(plan: NoisePlan, values: npt.NDArray[Any], key: bytes) -> npt.NDArray[np.float64]:
    """The contribution in steps: clipped, padded with zeros, rotated, scaled."""
    setting = plan.setting
    if values.size != setting.count:
        raise fail(Code.ENCODING, "a contribution has another length than the noise plan", values.size, setting.count)
    flat = np.zeros(setting.size)
    flat[: setting.count] = values.reshape(-1)
    if not np.isfinite(flat).all():
        raise fail(Code.NONFINITE, "a contribution holds NaN or infinity")
    norm = l2_norm([flat])
    rotate(flat, setting.block, key)
    flat *= plan.scale if norm <= setting.clip else plan.scale * (setting.clip / norm)
    return flat


def rounded(plan: NoisePlan, spread: npt.NDArray[np.float64], stream: NoiseStream) -> npt.NDArray[np.int64]:
    """Stochastic rounding without bias, drawn again until its squared norm is `plan.norm_squared` at most.

    The bound is what privacy rests on: it is checked in whole numbers. Raises `FaultError` E_ROUNDING.
    """
    steps = np.empty(len(spread), np.int64)
    for _ in range(_TRIES):
        square = 0
        for start in range(0, len(spread), _BLOCK):
            part = steps[start : start + _BLOCK]
            part[:] = quantise_block(
                spread[start : start + _BLOCK].copy(), 1.0, _NO_LIMIT, lambda count: stream.take(count, _U32)
            )
            square += _square(part, plan.norm_squared)
        if square <= plan.norm_squared:
            return steps
    raise fail(Code.ROUNDING, "no rounding of a contribution kept its norm within the plan's bound", None, _TRIES)


def _square(steps: npt.NDArray[np.int64], most: int) -> int:
    """The squared norm exactly, or some number above `most` where it is above."""
    largest = int(np.abs(steps).max())
    if largest * largest > most:
        return most + 1
    if len(steps) * largest * largest >= 1 << 63:
        return sum(step * step for step in steps.tolist())
    return int(np.dot(steps, steps))


def noise_share(plan: NoisePlan, count: int, stream: NoiseStream) -> npt.NDArray[np.int64]:
    """One partner's noise for so many lanes."""
    draw = skellam if plan.setting.kind is NoiseKind.SKELLAM else discrete_gaussian
    return draw(Fraction(plan.deviation) ** 2, count, stream)


def decode(plan: NoisePlan, total: Lanes, key: bytes) -> npt.NDArray[np.float64]:
    """float64 [D]: the noised sum of the clipped contributions that the lanes' sum stands for.

    For a mean, divide by a public number. Raises `FaultError` E_ENCODING for other lanes than the plan's.
    """
    setting = plan.setting
    if len(total) != setting.size or total.dtype != lane_type(setting.bits):
        raise fail(Code.ENCODING, "the sum has other lanes than the noise plan", len(total), setting.size)
    values = centred(total, setting.bits).astype(np.float64)
    values /= plan.scale
    unrotate(values, setting.block, key)
    return values[: setting.count]
