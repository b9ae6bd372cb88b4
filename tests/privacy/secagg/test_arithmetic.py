"""Field, masks, packing and quantisation against plain versions of themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.secagg import masks, packing, quantise
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.field import P, decode_scalar, encode_scalar, reconstruct, share
from aimass.privacy.secagg.graph import neighbours, permutation
from tests.support import secagg_v7
from tests.support.secagg import Seeded

ELEMENT = st.integers(0, P - 1)

# ------------------------------------------------------------------- field


@given(ELEMENT)
def test_an_element_comes_back(value: int) -> None:
    assert decode_scalar(encode_scalar(value)) == value


@pytest.mark.parametrize("value", [-1, P, 2**256])
def test_what_is_no_element_is_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="field"):
        encode_scalar(value)


def test_p_is_a_prime() -> None:
    """Miller and Rabin, forty bases."""
    odd, twos = P - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        value = pow(base, odd, P)
        assert value in (1, P - 1) or any((value := value * value % P) == P - 1 for _ in range(twos - 1))


@given(ELEMENT, st.integers(1, 9), st.integers(0, 6), st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_any_threshold_of_shares_gives_the_secret(
    secret: int, threshold: int, more: int, choice: object, seed: int
) -> None:
    n = threshold + more
    shares = share(secret, threshold, range(n), Seeded(seed).below)
    held = choice.sample(range(n), threshold)  # type: ignore[attr-defined]
    assert reconstruct({holder: shares[holder] for holder in held}) == secret
    assert reconstruct(dict(enumerate(shares))) == secret


@given(st.sets(st.integers(0, 2000), min_size=1, max_size=12), st.integers(0, 2**32))
def test_reconstruction_is_lagranges_formula(holders: set[int], seed: int) -> None:
    random = Seeded(seed)
    shares = {holder: random.below(P) for holder in holders}
    plain = 0
    for j in holders:
        term = shares[j]
        for m in holders - {j}:
            term = term * (m + 1) * pow(m - j, -1, P) % P
        plain += term
    assert reconstruct(shares) == plain % P


def test_no_shares_and_no_threshold_are_refused() -> None:
    with pytest.raises(ValueError, match="no shares"):
        reconstruct({})
    for secret, threshold in ((0, 0), (P, 1), (-1, 1)):
        with pytest.raises(ValueError, match="threshold"):
            share(secret, threshold, [0], Seeded(0).below)


# ------------------------------------------------------------------- masks and packing


@pytest.mark.parametrize("bits", range(1, 65))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 65])
def test_packing_is_one_long_integer_in_little_endian_bits(bits: int, count: int) -> None:
    drawn = [int.from_bytes(Seeded(bits, count, i).token(8), "little") % (1 << bits) for i in range(count)]
    lanes = np.array(drawn, masks.lane_type(bits))
    data = packing.pack(lanes, bits)
    assert len(data) == packing.packed_bytes(count, bits)
    assert int.from_bytes(data, "little") == sum(value << place * bits for place, value in enumerate(drawn))
    assert packing.unpack(data, count, bits).tolist() == drawn


@pytest.mark.parametrize("bits", [1, 8, 20, 23, 33, 63, 64])
def test_packing_in_chunks_is_packing_at_once(bits: int) -> None:
    count = 2 * (1 << 16) + 5
    lanes = masks.stream(bytes(16), count, masks.lane_type(bits)).copy()
    masks.cut(lanes, bits)
    data = packing.pack(lanes, bits)
    assert (packing.unpack(data, count, bits) == lanes).all()
    total = lanes.copy()
    packing.add_packed(total, data, bits)
    assert (total == lanes + lanes).all()
    edge = (1 << 16) - 8
    part = packing.pack(lanes[edge : edge + 16], bits)
    assert bytes(data[edge * bits // 8 : edge * bits // 8 + 2 * bits]) == part


@pytest.mark.parametrize("bits", [8, 16, 17, 32, 33, 64])
@pytest.mark.parametrize("count", [1, 1000, (1 << 17) + 3])
def test_fused_masks_are_streams_added_and_subtracted(bits: int, count: int) -> None:
    kind = masks.lane_type(bits)
    keys = [Seeded("key", i).token(16) for i in range(5)]
    lanes = masks.stream(Seeded("lanes").token(16), count, kind).copy()
    plain = lanes.copy()
    masks.add_masks(lanes, keys[:3], keys[3:])
    for key in keys[:3]:
        plain = plain + masks.stream(key, count, kind)
    for key in keys[3:]:
        plain = plain - masks.stream(key, count, kind)
    assert (lanes == plain).all()
    masks.add_masks(lanes, keys[3:], keys[:3])
    assert (lanes == masks.stream(Seeded("lanes").token(16), count, kind)).all()


@pytest.mark.parametrize("bits", [0, 65])
def test_lanes_have_1_to_64_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="64"):
        masks.lane_type(bits)


def test_words_of_a_stream_are_its_bytes_big_endian() -> None:
    words = masks.stream_words(bytes(16))
    found = [next(words) for _ in range(2000)]
    assert found == masks.stream(bytes(16), 2000, np.dtype(">u4")).tolist()


# ------------------------------------------------------------------- graph


@given(st.binary(min_size=32, max_size=32), st.integers(3, 60), st.data())
def test_neighbours_are_mutual_and_k_each(seed: bytes, n: int, data: st.DataObject) -> None:
    k = data.draw(st.sampled_from([n - 1, *range(2, n - 1, 2)]))
    order = permutation(seed, n)
    assert sorted(order) == list(range(n))
    near = neighbours(order, k)
    for i, others in enumerate(near):
        assert len(set(others)) == k
        assert list(others) == sorted(others)
        assert i not in others
        assert all(i in near[j] for j in others)


def test_every_order_is_as_likely() -> None:
    """Four members, 24 orders, 4800 seeds: chi-square with 23 degrees, p = 1e-6 at 66.7."""
    counts: dict[tuple[int, ...], int] = {}
    for number in range(4800):
        order = permutation(number.to_bytes(32, "big"), 4)
        counts[order] = counts.get(order, 0) + 1
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 66.7
    assert len(counts) == 24


# ------------------------------------------------------------------- quantisation


@given(st.integers(2, 40), st.integers(1, 64), st.integers(1, 5000))
def test_bits_needed_is_the_smallest_width_that_cannot_overflow(members: int, q: int, n: int) -> None:
    largest = quantise.largest_of(max(2, q % 32))
    bits = quantise.bits_needed(n, largest)
    assert n * largest <= 2 ** (bits - 1) - 1
    assert n * largest > 2 ** (bits - 2) - 1


@pytest.mark.parametrize(
    ("q", "row"),
    [
        (8, [9, 10, 11, 12, 13, 15, 17, 18, 21]),
        (12, [13, 14, 15, 16, 17, 19, 21, 22, 25]),
        (16, [17, 18, 19, 20, 21, 23, 25, 26, 29]),
        (20, [21, 22, 23, 24, 25, 27, 29, 30, 33]),
    ],
)
def test_widths_are_those_of_the_published_table(q: int, row: list[int]) -> None:
    sizes = (2, 3, 5, 10, 30, 100, 300, 1000, 5000)
    assert [quantise.bits_needed(n, quantise.largest_of(q)) for n in sizes] == row


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.integers(0, 2**32))
def test_rounding_goes_to_a_neighbouring_integer_and_never_beyond_the_clip(values: list[float], seed: int) -> None:
    q = quantise.quantise(values, 3.0, 100, Seeded(seed).token(16))
    for value, found in zip(values, q.tolist(), strict=True):
        scaled = min(100.0, max(-100.0, value * 3.0))
        assert found in (math.floor(scaled), math.ceil(scaled))


@pytest.mark.parametrize("value", [0.25, -0.25, 0.5, 7.9, -7.1, 99.99])
def test_rounding_has_no_bias(value: float) -> None:
    count = 1 << 18
    q = quantise.quantise(np.full(count, value), 1.0, 100, Seeded("bias", value).token(16))
    fraction = value - math.floor(value)
    sigma = math.sqrt(fraction * (1 - fraction) / count)
    assert abs(q.mean() - value) < 5 * sigma


@pytest.mark.parametrize("bits", [8, 16, 17, 32, 33, 64])
@given(data=st.data())
@settings(max_examples=30)
def test_signed_values_come_back_from_their_lanes(bits: int, data: st.DataObject) -> None:
    half = 1 << bits - 1
    values = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=10))
    assert quantise.centred(quantise.to_lanes(np.array(values, np.int64), bits), bits).tolist() == values


@given(st.integers(1, 300), st.integers(12, 64), st.data())
def test_summed_limbs_are_the_sum(members: int, bits: int, data: st.DataObject) -> None:
    most = data.draw(st.integers(1, 2**40))
    count = quantise.limbs_needed(most, bits, members)
    weights = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=members))
    total = [0] * count
    for weight in weights:
        for place, limb in enumerate(quantise.to_limbs(weight, bits, members, count).tolist()):
            total[place] += limb
    assert all(limb < 1 << bits for limb in total)
    assert quantise.from_limbs(total, bits, members) == sum(weights)


def test_limbs_that_do_not_fit_are_refused() -> None:
    for arguments in ((256, 8, 1, 1), (-1, 8, 1, 1)):
        with pytest.raises(FaultError) as caught:
            quantise.to_limbs(*arguments)
        assert caught.value.fault.code is Code.OVERFLOW
    with pytest.raises(FaultError):
        quantise.limbs_needed(5, 3, 9)


def test_check_lanes_are_kept_by_sums_and_find_every_single_change() -> None:
    context = secagg_v7.context()
    one, other = np.arange(6, dtype="<u4"), np.array([5, 2**20 - 1, 0, 9, 1, 7], "<u4")
    total = quantise.check_lanes(context, one) + quantise.check_lanes(context, other)
    masks.cut(total, 20)
    assert (quantise.check_sum(context, total) == (one + other) % 2**20).all()
    for lane in range(8):
        for bit in range(20):
            wrong = total.copy()
            wrong[lane] ^= np.uint32(1 << bit)
            with pytest.raises(FaultError) as caught:
                quantise.check_sum(context, wrong)
            assert caught.value.fault.code is Code.SUM_CHECK


@pytest.mark.parametrize("lanes", [np.zeros(5, "<u4"), np.zeros(7, "<u4"), np.zeros(6, "<u8")])
def test_an_input_of_another_length_or_type_is_refused(lanes: masks.Lanes) -> None:
    with pytest.raises(FaultError) as caught:
        quantise.check_lanes(secagg_v7.context(), lanes)
    assert caught.value.fault.code is Code.ENCODING


def test_power_factors_that_may_be_even_would_miss_an_error_in_the_highest_bit() -> None:
    """A quarter of all lanes: why the first check lane's factors are odd."""
    context = secagg_v7.context()
    odd, other = (quantise._factors(context, number)(4000) for number in (0, 1))
    assert (odd % 2 == 1).all()
    assert 0.4 < (other % 2 == 0).mean() < 0.6
