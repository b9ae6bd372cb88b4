"""Degrees and thresholds: the published table, and every bound recomputed in exact integers."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable
from math import comb, perm

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.secagg.attempt import needs_reveal
from aimass.privacy.secagg.parameters import (
    COMPLETE_TO,
    Parameters,
    Profile,
    correct,
    corrupted,
    dropouts,
    propose,
    quorum,
    secure,
)

MALICIOUS, HBC = Profile.MALICIOUS, Profile.HBC

# ------------------------------------------------------------------- an independent computation


def ways(population: int, marked: int, draws: int, counts: Iterable[int]) -> int:
    """Draws, of comb(population, draws), that hold one of so many marked ones."""
    return sum(comb(marked, j) * comb(population - marked, draws - j) for j in counts if 0 <= j <= draws)


def secure_exactly(n: int, k: int, t: int, c: int, profile: Profile, d: int) -> bool:
    """C1, and C2 or C2', without a logarithm."""
    h, half = n - c, k // 2
    if h * ways(n - 1, c, k, range(t, k + 1)) * 2**41 > comb(n - 1, k):
        return False
    if profile is MALICIOUS:
        window = ways(n - 2, c, half, range(t - half - 1, half + 1))
        return t >= half + 2 and bool((h * window) ** 2 * 2**41 <= comb(n - 2, half) ** 2)
    gone = c + d
    return k > gone or bool(n * (n - k - 1) * perm(gone, k) * 2**41 <= 2 * perm(n, k))


def correct_exactly(n: int, k: int, t: int, d: int, bits: int) -> bool:
    """C3, without a logarithm."""
    s = n - d
    lost = d * ways(n - 1, s, k, range(t)) if d else 0
    kept = s * ways(n - 1, s - 1, k, range(t - 1))
    return bool((lost + kept) * 2**bits <= comb(n - 1, k))


def rule(n: int, gamma: int, delta: int, profile: Profile, bits: int = 20) -> tuple[int, int]:
    """The smallest ring by exact integers, or the complete graph: (k, t), searched without bisection's shortcut in k."""
    c, d = corrupted(n, gamma), dropouts(n, delta)
    least = quorum(n, c) if profile is MALICIOUS else max(2, c + 1)
    d = min(d, n - least)
    if n > COMPLETE_TO:
        for k in range(2, int(0.7 * (n - 1)) + 1, 2):
            if not secure_exactly(n, k, k + 1, c, profile, d):
                continue
            t = next(t for t in range(2, k + 2) if secure_exactly(n, k, t, c, profile, d))
            if correct_exactly(n, k, t, d, bits):
                return k, t
    return n - 1, least if profile is MALICIOUS else -(-(least + n - d) // 2)


# ------------------------------------------------------------------- the published table

FULL = None
TABLE: dict[int, list[tuple[int, int] | None]] = {
    # malicious: gamma .1 with delta .1 and .33, gamma .33 with both; honest but curious: the same four
    3: [FULL, FULL, FULL, FULL, (2, 2), (2, 2), (2, 2), (2, 2)],
    5: [FULL, FULL, FULL, FULL, (4, 3), (4, 3), (4, 3), (4, 3)],
    10: [FULL, FULL, FULL, FULL, (9, 6), (9, 5), (9, 7), (9, 6)],
    30: [FULL, FULL, FULL, FULL, (29, 16), (29, 13), (29, 19), (29, 16)],
    100: [FULL, FULL, FULL, FULL, (99, 51), (99, 39), (99, 62), (99, 51)],
    129: [(48, 37), FULL, (80, 69), FULL, (22, 13), (40, 13), (46, 35), (82, 43)],
    300: [(78, 57), FULL, (152, 124), FULL, (36, 21), (70, 27), (76, 54), (160, 85)],
    1000: [(106, 76), (596, 357), (242, 193), FULL, (44, 26), (94, 37), (100, 71), (280, 148)],
    5000: [(128, 91), (1116, 661), (318, 251), FULL, (50, 29), (112, 44), (118, 83), (390, 205)],
}
QUORUMS = {
    3: (3, 3), 5: (4, 4), 10: (6, 7), 30: (17, 20), 100: (56, 67), 129: (71, 86), 300: (166, 200), 1000: (551, 666),
    5000: (2751, 3326),
}  # fmt: skip
CELLS = [
    (n, gamma, delta, profile, row[place])
    for n, row in TABLE.items()
    for place, (profile, gamma, delta) in enumerate(
        (profile, gamma, delta)
        for profile in (MALICIOUS, HBC)
        for gamma in (100_000, 330_000)
        for delta in (100_000, 330_000)
    )
]


@pytest.mark.parametrize(("n", "gamma", "delta", "profile", "cell"), CELLS)
def test_the_rule_gives_the_published_table(
    n: int, gamma: int, delta: int, profile: Profile, cell: tuple[int, int] | None
) -> None:
    T = QUORUMS[n][gamma == 330_000]  # noqa: N806
    found = propose(n, gamma, delta, profile)
    assert (found.k, found.t) == (cell or (n - 1, T))
    assert (found.T, found.c) == (T, corrupted(n, gamma))


@pytest.mark.parametrize(
    ("n", "gamma", "delta", "bits", "wanted"),
    [
        (300, 100_000, 100_000, 30, (88, 63)),
        (1000, 100_000, 100_000, 30, (124, 87)),
        (5000, 100_000, 100_000, 30, (148, 103)),
        (300, 50_000, 50_000, 20, (44, 33)),
        (1000, 50_000, 50_000, 20, (54, 40)),
        (5000, 50_000, 50_000, 20, (64, 47)),
    ],
)
def test_other_bits_and_shares_give_the_published_rings(
    n: int, gamma: int, delta: int, bits: int, wanted: tuple[int, int]
) -> None:
    found = propose(n, gamma, delta, MALICIOUS, bits)
    assert (found.k, found.t) == wanted


@pytest.mark.parametrize("cell", [cell for cell in CELLS if 128 < cell[0] <= 300], ids=str)
def test_exact_integers_give_the_same_table(cell: tuple[int, int, int, Profile, tuple[int, int] | None]) -> None:
    n, gamma, delta, profile, _ = cell
    found = propose(n, gamma, delta, profile)
    assert (found.k, found.t) == rule(n, gamma, delta, profile)


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=pytest.mark.slow if cell[4][0] > 1000 else (), id=str(cell))
        for cell in CELLS
        if cell[0] >= 300 and cell[4]
    ],
)
def test_the_rings_of_the_table_are_secure_in_exact_integers_and_one_share_fewer_is_not(
    cell: tuple[int, int, int, Profile, tuple[int, int]],
) -> None:
    n, gamma, delta, profile, (k, t) = cell
    c, d = corrupted(n, gamma), dropouts(n, delta)
    assert secure_exactly(n, k, t, c, profile, d)
    assert correct_exactly(n, k, t, d, 20)
    assert not secure_exactly(n, k, t - 1, c, profile, d)
    tries = range(2, k)
    smaller = bisect_left(tries, True, key=lambda t: secure_exactly(n, k - 2, t, c, profile, d))
    assert smaller == len(tries) or not correct_exactly(n, k - 2, tries[smaller], d, 20)


sizes = st.integers(4, 260).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.integers(1, (n - 2) // 2).map(lambda half: 2 * half),
        st.integers(0, n - 2),
        st.integers(0, n - 1),
        st.sampled_from(Profile),
    )
)


@given(sizes, st.data())
@settings(max_examples=300)
def test_logarithms_decide_as_exact_integers_do(size: tuple[int, int, int, int, Profile], data: st.DataObject) -> None:
    n, k, c, d, profile = size
    t = data.draw(st.integers(2, k + 1))
    d = min(d, n - c - 1)
    if k < n - 1:
        assert secure(n, k, t, c, profile, d) == secure_exactly(n, k, t, c, profile, d)
        assert correct(n, k, t, d) == correct_exactly(n, k, t, d, 20)


@given(sizes)
def test_a_larger_threshold_is_never_less_secure_and_never_more_correct(
    size: tuple[int, int, int, int, Profile],
) -> None:
    n, k, c, d, profile = size
    d = min(d, n - c - 1)
    if k < n - 1:
        held = [secure(n, k, t, c, profile, d) for t in range(2, k + 2)]
        assert held == sorted(held)
        found = [correct(n, k, t, d) for t in range(2, k + 2)]
        assert found == sorted(found, reverse=True)


# ------------------------------------------------------------------- rules


@given(st.integers(2, 2000), st.integers(0, 999_999))
def test_two_quorums_share_an_honest_signer(n: int, gamma: int) -> None:
    c = corrupted(n, gamma)
    T = quorum(n, c)  # noqa: N806
    assert 2 * T - n > c
    assert 2 * (T - 1) - n <= c
    assert T - c >= (n - c) // 2 + 1 if c < n else True


@given(st.integers(2, 400), st.integers(0, 999_999), st.integers(0, 999_999), st.sampled_from(Profile))
@settings(max_examples=60)
def test_what_a_server_proposes_a_client_accepts(n: int, gamma: int, delta: int, profile: Profile) -> None:
    try:
        found = propose(n, gamma, delta, profile)
    except ValueError:
        assert n < (quorum(n, corrupted(n, gamma)) if profile is MALICIOUS else max(2, corrupted(n, gamma) + 1))
        return
    c = corrupted(n, gamma)
    least = found.T if profile is MALICIOUS else max(2, c + 1)
    d = max(0, min(dropouts(n, delta), n - least))
    assert secure(n, found.k, found.t, c, profile, d)
    assert correct(n, found.k, found.t, d) or found.k == n - 1
    assert found.t <= found.k + 1
    assert needs_reveal(profile, found.k, n) == (profile is MALICIOUS and found.k < n - 1)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("n", [3, 4, 10, 129])
def test_a_complete_graph_below_the_least_threshold_is_not_secure(n: int, profile: Profile) -> None:
    c = corrupted(n, 330_000)
    least = quorum(n, c) if profile is MALICIOUS else max(2, c + 1)
    assert secure(n, n - 1, least, c, profile)
    assert not secure(n, n - 1, least - 1, c, profile)
    assert not secure(n, n - 1, n + 1, c, profile)
    assert secure(n, n - 1, least + 1, c, profile) == (profile is HBC and least < n)


@pytest.mark.parametrize(("k", "t"), [(0, 2), (-2, 2), (47, 37), (48, 50), (48, 1), (48, 0), (65_535, 2), (128, 37)])
def test_impossible_rings_are_not_secure(k: int, t: int) -> None:
    assert secure(129, 48, 37, 12, MALICIOUS)
    assert not secure(129, k, t, 12, MALICIOUS)


@pytest.mark.parametrize("c", [128, 127, 126])
def test_nearly_everybody_corrupted_is_an_answer_and_no_crash(c: int) -> None:
    assert not any(secure(129, 48, t, c, MALICIOUS) for t in range(2, 50))


def test_wished_dropouts_are_lowered_to_what_the_quorum_admits() -> None:
    assert propose(3, 100_000, 100_000, MALICIOUS) == Parameters(2, 3, 3, 1)
    assert propose(3, 0, 333_333, MALICIOUS) == Parameters(2, 2, 2, 0)
    with pytest.raises(ValueError, match="fewer"):
        propose(1, 0, 0, HBC)
    with pytest.raises(ValueError, match="fewer"):
        propose(2, 999_999, 0, Profile.HBC) if quorum(2, 1) > 2 else propose(0, 0, 0, MALICIOUS)


def test_the_answer_is_kept_since_a_server_asks_for_the_same_sizes_again() -> None:
    assert propose(300, 100_000, 100_000, MALICIOUS) is propose(300, 100_000, 100_000, MALICIOUS)
    assert dataclasses.is_dataclass(Parameters)
