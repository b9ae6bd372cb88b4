"""Real numbers as lanes and back: clipped, scaled, rounded without bias, with weights in limbs and check lanes.

Rounding draws from the partner's own secret stream: a rounding that the server could predict would tell it about the
fraction. What noise mechanisms add comes between `quantise` and the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import MASK_KEY_BYTES, Name, derive
from aimass.privacy.secagg.masks import Lanes, cut, lane_type, stream_parts

__all__ = [
    "CHECK_LANES",
    "CheckSums",
    "bits_needed",
    "centred",
    "check_lanes",
    "check_sum",
    "dequantise",
    "from_limbs",
    "largest_of",
    "limb_bits",
    "limbs_needed",
    "quantise",
    "quantise_block",
    "rounding_draws",
    "to_lanes",
    "to_limbs",
]

CHECK_LANES: Final = 2
_CHUNK: Final = 1 << 18
_WORDS: Final = np.dtype("<u4")


def largest_of(quantisation_bits: int) -> int:
    """Q: the largest |q| of so many bits with the sign."""
    return (1 << quantisation_bits - 1) - 1


def bits_needed(members: int, largest: int) -> int:
    """b: lanes in which the sum of so many inputs cannot overflow."""
    return 1 + (members * largest).bit_length()


def quantise(values: npt.ArrayLike, scale: float, largest: int, key: bytes) -> npt.NDArray[np.int64]:
    """q = floor(v) + [u < v - floor(v)] with v = clip(x scale, -Q, Q) and u from the secret key's stream.

    The mean of q over u is v, to 2^-32. `key` serves one call. Raises `FaultError` E_NONFINITE.
    """
    flat = np.asarray(values).reshape(-1)
    out = np.empty(len(flat), np.int64)
    draws = rounding_draws(key)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        out[start : start + _CHUNK] = quantise_block(part, scale, largest, draws)
    return out


def rounding_draws(key: bytes) -> Callable[[int], Lanes]:
    """What `quantise_block` draws from, block after block. `key` serves one vector."""
    return stream_parts(key, _WORDS)


def quantise_block(
    values: npt.NDArray[np.float64], scale: float, largest: int, draws: Callable[[int], Lanes], what: str = "an input"
) -> npt.NDArray[np.int64]:
    """`quantise` of the next float64 [n] of a vector, whose memory it uses for itself. Raises as `quantise` does."""
    if not np.isfinite(values).all():
        raise fail(Code.NONFINITE, f"{what} holds NaN or infinity")
    with np.errstate(over="ignore"):  # infinity is clipped as well
        values *= scale
    np.clip(values, -largest, largest, out=values)
    whole = np.floor(values)
    values -= whole
    values *= 2.0**32
    whole += draws(len(values)) < values
    return whole.astype(np.int64)


def to_lanes(values: npt.NDArray[np.int64], bits: int) -> Lanes:
    """Signed values modulo 2^bits."""
    lanes = values.astype(lane_type(bits))
    cut(lanes, bits)
    return lanes


def centred(lanes: Lanes, bits: int) -> npt.NDArray[np.int64]:
    """The signed values in [-2^(bits-1), 2^(bits-1)) of lanes modulo 2^bits."""
    shift = np.uint64(64 - bits)
    wide = lanes.astype(np.uint64) << shift
    return wide.view(np.int64) >> np.int64(64 - bits)


def dequantise(total: npt.NDArray[np.int64], scale: float) -> npt.NDArray[np.float64]:
    """The sum of the clipped inputs, up to rounding."""
    return total.astype(np.float64) / scale


def limb_bits(bits: int, members: int) -> int:
    """r: so many bits of a limb that the sum of all members' limbs stays below 2^bits."""
    return bits - (members - 1).bit_length()


def limbs_needed(most: int, bits: int, members: int) -> int:
    """Lanes for an integer to `most`."""
    width = limb_bits(bits, members)
    if width < 1:
        raise fail(Code.OVERFLOW, "lanes are too narrow for a limb of so many members", bits, members)
    return -(-most.bit_length() // width)


def to_limbs(value: int, bits: int, members: int, count: int) -> Lanes:
    """An integer in `count` lanes, the lowest limb first."""
    width = limb_bits(bits, members)
    if value < 0 or value >> width * count:
        raise fail(Code.OVERFLOW, "an integer does not fit its limbs", value.bit_length(), width * count)
    limbs = [value >> width * position & (1 << width) - 1 for position in range(count)]
    return np.array(limbs, lane_type(bits))


def from_limbs(lanes: Sequence[int] | Lanes, bits: int, members: int) -> int:
    """The sum that summed limbs stand for."""
    width = limb_bits(bits, members)
    return sum(int(limb) << width * position for position, limb in enumerate(lanes))


def _factors(context: RoundContext, number: int) -> Callable[[int], Lanes]:
    """Public factors from the context, so many at each call: odd ones for check lane 0, any for the others.

    Modulo 2^b an even factor hides an error in a lane's highest bits; an odd one is a unit and hides none.
    """
    key = derive(context.ctx, b"", Name.SUM_CHECK, bytes((number,)), MASK_KEY_BYTES)
    factors = stream_parts(key, lane_type(context.bits))
    return factors if number else lambda count: factors(count) | lane_type(context.bits).type(1)


class CheckSums:
    """The check lanes of lanes that come in parts, in order: public linear functions, which a sum keeps."""

    def __init__(self, context: RoundContext) -> None:
        self._bits = context.bits
        self._factors = [_factors(context, number) for number in range(CHECK_LANES)]
        self._totals: Lanes = np.zeros(CHECK_LANES, lane_type(context.bits))

    def add(self, part: Lanes) -> None:
        """The next lanes."""
        for start in range(0, len(part), _CHUNK):
            block = part[start : start + _CHUNK]
            found = [np.add.reduce(factors(len(block)) * block, dtype=block.dtype) for factors in self._factors]
            self._totals += np.array(found, block.dtype)

    def lanes(self) -> Lanes:
        """Those of what was added so far."""
        lanes = self._totals.copy()
        cut(lanes, self._bits)
        return lanes


def _checks(context: RoundContext, lanes: Lanes) -> Lanes:
    sums = CheckSums(context)
    sums.add(lanes)
    return sums.lanes()


def check_lanes(context: RoundContext, lanes: Lanes) -> Lanes:
    """A copy of `lanes` with the check lanes behind them.

    They find every error in one lane, and masks that do not cancel with probability 1 - 2^-2b. Errors of several lanes
    that are all multiples of 2^m are missed with probability 2^-(b - m) at most. They prove nothing against a server
    that lies. Raises E_ENCODING for another number of lanes than the context states.
    """
    if len(lanes) + CHECK_LANES != context.lanes or lanes.dtype != lane_type(context.bits):
        raise fail(
            Code.ENCODING, "the input has another length than the round", len(lanes), context.lanes - CHECK_LANES
        )
    whole: Lanes = np.concatenate((lanes, _checks(context, lanes)))
    cut(whole, context.bits)
    return whole


def check_sum(context: RoundContext, total: Lanes) -> Lanes:
    """The data lanes of an unmasked sum; raises `FaultError` E_SUM_CHECK where its check lanes do not fit."""
    lanes = total[:-CHECK_LANES]
    if (_checks(context, lanes) != total[-CHECK_LANES:]).any():
        raise fail(Code.SUM_CHECK, "the sum does not fit its check lanes: what it was made of has changed")
    return lanes
