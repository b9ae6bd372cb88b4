"""The rotation against Hadamard's matrix itself, its inverse, its signs and its spread."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp.rotation import LARGEST_BLOCK, block_for, hadamard, padded, rotate, rotation_key, unrotate
from aimass.privacy.secagg.masks import stream
from tests.support.noise import seeded

KEY = bytes(range(16))


def matrix(size: int) -> npt.NDArray[np.int64]:
    """Natural order: the sign is the parity of the common bits of row and column."""
    return np.array([[1 - 2 * ((i & j).bit_count() & 1) for j in range(size)] for i in range(size)])


def whole_numbers(count: int, *seed: object) -> npt.NDArray[np.float64]:
    return (seeded(*seed).take(count) >> np.uint64(40)).astype(np.float64) - 2.0**23


@pytest.mark.parametrize("block", [1, 2, 4, 8, 16, 32, 64, 128, 512])
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_transform_is_hadamards_matrix_exactly(block: int, blocks: int) -> None:
    values = whole_numbers(block * blocks, block)
    expected = values.reshape(blocks, block).astype(np.int64) @ matrix(block)
    hadamard(values, block)
    assert (values.astype(np.int64) == expected.reshape(-1)).all()


@pytest.mark.parametrize("bits", [14, 15, 16, 18, 20])
def test_large_blocks_are_the_plain_steps_exactly(bits: int) -> None:
    """Whole numbers stay exact, so every path (cache, columns, strips) must give what plain steps give."""
    values = whole_numbers(1 << bits, bits)
    plain = values.copy()
    for bit in range(bits):
        pairs = plain.reshape(-1, 2, 1 << bit)
        plain = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
    hadamard(values, 1 << bits)
    assert (values == plain).all()


@given(st.integers(0, 8), st.integers(1, 5), st.integers(0, 2**32))
def test_rotating_back_gives_the_values_and_keeps_the_norm(bits: int, blocks: int, seed: int) -> None:
    values = whole_numbers(blocks << bits, seed)
    turned = values.copy()
    rotate(turned, 1 << bits, KEY)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(values), rel=1e-12)
    unrotate(turned, 1 << bits, KEY)
    assert turned == pytest.approx(values, abs=1e-6)


def test_signs_are_the_streams_bits_lowest_first() -> None:
    values = np.ones(19)
    rotate(values, 1, KEY)
    bits = [int(byte) >> place & 1 for byte in stream(KEY, 3, np.dtype(np.uint8)) for place in range(8)]
    assert values.tolist() == [-1.0 if bit else 1.0 for bit in bits[:19]]
    assert [int(byte) for byte in stream(KEY, 3, np.dtype(np.uint8))] == [0xC6, 0xA1, 0x3B], "V2's u16 a1c6 373b"


def test_a_rotation_is_linear_and_the_same_for_all_who_know_the_round() -> None:
    one, other = whole_numbers(256, 1), whole_numbers(256, 2)
    both = one + other
    for values in (one, other, both):
        rotate(values, 64, KEY)
    assert one + other == pytest.approx(both, abs=1e-6)
    unrotated = both.copy()
    unrotate(unrotated, 64, bytes(16))
    rotate(unrotated, 64, KEY)
    assert unrotated != pytest.approx(both, abs=1.0), "another key is another rotation"


def test_a_spike_is_spread_evenly() -> None:
    values = np.zeros(4096)
    values[17] = 1.0
    rotate(values, 4096, KEY)
    assert np.abs(values) == pytest.approx(np.full(4096, 1 / 64), rel=1e-12)


def test_constant_values_are_spread_too() -> None:
    """Without the signs, all of a constant vector would come to lie in one coordinate."""
    values = np.ones(4096)
    rotate(values, 4096, KEY)
    assert np.abs(values).max() < 6
    bare = np.ones(4096)
    hadamard(bare, 4096)
    assert np.abs(bare / 64).max() == 64


def test_the_key_is_of_run_round_and_model() -> None:
    digest = hashlib.sha256(b"model").digest()
    key = rotation_key(bytes(range(16)), 7, digest)
    extracted = hmac.digest(bytes(32), bytes(range(16)) + b"\0\0\0\x07" + digest, "sha256")
    assert key == hmac.digest(extracted, b"AIMass-SA1/rotation\0\x01", "sha256")[:16], "RFC 5869 by hand"
    assert (
        len(
            {
                key,
                rotation_key(bytes(16), 7, digest),
                rotation_key(bytes(range(16)), 8, digest),
                rotation_key(bytes(range(16)), 7, bytes(32)),
            }
        )
        == 4
    )
    for run_id, model in ((bytes(15), digest), (bytes(16), bytes(31))):
        with pytest.raises(ValueError, match="bytes"):
            rotation_key(run_id, 0, model)


@given(st.integers(1, 40_000_000))
def test_blocks_are_powers_of_two_with_little_padding(count: int) -> None:
    block = block_for(count)
    whole = padded(count, block)
    assert block & block - 1 == 0
    assert block <= LARGEST_BLOCK
    assert whole % block == 0
    assert count <= whole < count + block
    assert whole < 2 * count
    if count > 1 << 20:
        assert whole <= count * 17 / 16


@pytest.mark.parametrize(
    ("count", "block"),
    [
        (1, 1),
        (2, 2),
        (3, 4),
        (65536, 65536),
        (65537, 65536),
        (1 << 20, 1 << 20),
        ((1 << 20) + 1, 1 << 16),
        (25_000_000, 1 << 20),
    ],
)
def test_blocks_by_size(count: int, block: int) -> None:
    assert block_for(count) == block


def test_what_is_no_vector_of_blocks_is_refused() -> None:
    for values, block in (
        (np.zeros(6), 4),
        (np.zeros(6), 3),
        (np.zeros(6), 0),
        (np.zeros((2, 2)), 2),
        (np.zeros(8)[::2], 4),
    ):
        with pytest.raises(ValueError, match="Walsh"):
            hadamard(values, block)
    with pytest.raises(ValueError, match="nothing"):
        block_for(0)
