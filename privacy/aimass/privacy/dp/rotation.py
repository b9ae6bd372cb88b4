"""A public random rotation that spreads a vector's norm over its coordinates, so that few bits hold each of them.

Block by block x <- H_B diag(signs) x / sqrt(B), H_B the Walsh-Hadamard matrix of natural order (Suresh et al. 2017,
section 3; Kairouz, Liu and Steinke 2021, section 4). Additions in one order alone, so a rotation has the same bits on
every machine. Its seed is public: privacy does not rest on it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.secagg.labels import DIGEST_BYTES, MASK_KEY_BYTES, Name, derive
from aimass.privacy.secagg.masks import stream_parts

__all__ = ["LARGEST_BLOCK", "block_for", "hadamard", "padded", "rotate", "rotation_key", "unrotate"]

LARGEST_BLOCK: Final = 1 << 20
_SMALLEST: Final = 1 << 16
"""Blocks are not made smaller than this to save padding."""
_CACHED: Final = 1 << 15
"""float64 that stay in a cache."""
_NARROW: Final = 32
"""Rows shorter than this are turned into columns first: numpy's loops over them would be all overhead."""

Vector = npt.NDArray[np.float64]


def rotation_key(run_id: bytes, round_: int, model_digest: bytes) -> bytes:
    """The key of a round's signs: of the run id of the round's context, the round and the model, not of the attempt."""
    if len(run_id) != 16 or len(model_digest) != DIGEST_BYTES:
        raise ValueError("a run id has 16 bytes and a digest 32")
    return derive(run_id + round_.to_bytes(4, "big") + model_digest, b"", Name.ROTATION, b"", MASK_KEY_BYTES)


def block_for(count: int) -> int:
    """B: the power of two from `count` on, or, beyond 2^16, the largest to 2^20 whose padding is a sixteenth at most.

    Where none has so little, 2^16.
    """
    if count < 1:
        raise ValueError("nothing to rotate")
    if count <= _SMALLEST:
        return 1 << (count - 1).bit_length()
    block = LARGEST_BLOCK
    while block > _SMALLEST and (padded(count, block) - count) * 16 > count:
        block //= 2
    return block


def padded(count: int, block: int) -> int:
    """The multiple of `block` from `count` on."""
    return -(-count // block) * block


def rotate(values: Vector, block: int, key: bytes) -> None:
    """Rotate a float64 vector of a multiple of `block` elements, in place."""
    _flip(values, key)
    hadamard(values, block)
    values *= block**-0.5


def unrotate(values: Vector, block: int, key: bytes) -> None:
    """What `rotate` did, undone in place, to some units in the last place of the block's largest."""
    hadamard(values, block)
    values *= block**-0.5
    _flip(values, key)


def _flip(values: Vector, key: bytes) -> None:
    """Change the sign where the key's stream has a one: bit i, the lowest of each byte first, is that of element i."""
    draw = stream_parts(key, np.dtype(np.uint8))
    for start in range(0, len(values), _CACHED):
        part = values[start : start + _CACHED].view(np.uint64)
        signs = np.unpackbits(draw(-(-len(part) // 8)), count=len(part), bitorder="little").astype(np.uint64)
        signs <<= np.uint64(63)
        part ^= signs


def hadamard(values: Vector, block: int) -> None:
    """H_B of each block of a contiguous vector, in place and not normalised: twice is B times the identity."""
    if block < 1 or block & block - 1 or values.ndim != 1 or len(values) % block:
        raise ValueError("a Walsh-Hadamard transform takes a vector of blocks that are a power of two long")
    if not values.flags.c_contiguous:
        raise ValueError("a Walsh-Hadamard transform works in place: the vector must be contiguous")
    inner = min(block, _CACHED)
    rows = values.reshape(-1, inner)
    for row in rows:
        _transform(row)
    if block > inner:
        for piece in values.reshape(-1, block // inner, inner):
            _across(piece)


def _transform(row: Vector) -> None:
    """One block that fits the cache."""
    narrow = min(len(row), _NARROW)
    columns = np.ascontiguousarray(row.reshape(-1, narrow).T)
    _steps(columns.reshape(-1), len(row) // narrow, len(row))
    row.reshape(-1, narrow)[:] = columns.T
    _steps(row, narrow, len(row))


def _across(piece: Vector) -> None:
    """The transform over the rows of a matrix, some columns at a time."""
    width = _CACHED // len(piece)
    for start in range(0, piece.shape[1], width):
        columns = np.ascontiguousarray(piece[:, start : start + width])
        _steps(columns.reshape(-1), width, columns.size)
        piece[:, start : start + width] = columns


def _steps(flat: Vector, from_: int, to: int) -> None:
    """Sums and differences of neighbours `width` apart, for width = from_, 2 from_, ... below `to`."""
    width = from_
    while width < to:
        pairs = flat.reshape(-1, 2, width)
        left, right = pairs[:, 0], pairs[:, 1]
        difference = left - right
        left += right
        right[:] = difference
        width *= 2
