"""What a lying server can learn from a ring: every pattern of corruption, dropouts and late inputs on small rings.

The model knows nothing of conditions C1 and C2. It counts, holder by holder, which seeds can be rebuilt by a server that
plays with the corrupted members, where honest members keep to one signed pair (U1, U2), and asks which sums of honest
inputs then stand without any mask. It is given more than the server has: no quorum T binds it, no honest member
checks how many of its neighbours are left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from math import comb

import pytest

from aimass.privacy.secagg.graph import neighbours
from aimass.privacy.secagg.parameters import Profile, propose


def windows(n: int, k: int) -> tuple[list[int], list[int], list[int]]:
    """By position: the neighbours, those before, those after, as bits."""
    before = [sum(1 << (i - step) % n for step in range(1, k // 2 + 1)) for i in range(n)]
    after = [sum(1 << (i + step) % n for step in range(1, k // 2 + 1)) for i in range(n)]
    return [left | right for left, right in zip(before, after, strict=True)], before, after


def canonical(mask: int, n: int) -> bool:
    """Whether no rotation or reflection of the set is smaller: one of each kind is enough."""
    bits = [mask >> i & 1 for i in range(n)]
    turned = (
        sum(bit << i for i, bit in enumerate(around[shift:] + around[:shift]))
        for around in (bits, bits[::-1])
        for shift in range(n)
    )
    return all(mask <= other for other in turned)


def members(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def component(start: int, edges: dict[int, int]) -> int:
    found, fresh = 0, start
    while fresh:
        found |= fresh
        reached = 0
        for i in members(fresh):
            reached |= edges[i]
        fresh = reached & ~found
    return found


def leaks(near: list[int], t: int, corrupted: int, sharers: int, survivors: int) -> bool:
    """Whether some sum of honest inputs other than that of all honest survivors can be unmasked."""
    own_known = pairs_known = 0
    for i in members(sharers):
        holders = near[i] | 1 << i
        told, colluding = (holders & (survivors | corrupted)).bit_count(), (holders & corrupted).bit_count()
        survived = bool(survivors >> i & 1)
        own_known |= ((told if survived else colluding) >= t) << i
        pairs_known |= ((colluding if survived else told) >= t) << i
    hidden = sharers & ~pairs_known
    edges = {i: near[i] & hidden if hidden >> i & 1 else 0 for i in members(sharers)}
    left = sharers & own_known
    while left:
        part = component(left & -left, edges)
        if part & ~own_known == 0 and part != survivors:
            return True
        left &= ~part
    return False


def first_condition(near: list[int], t: int, corrupted: int, honest: int) -> bool:
    """The event of C1: corrupted neighbours alone rebuild an honest member's seeds."""
    return any((near[i] & corrupted).bit_count() >= t for i in members(honest))


def second_condition(before: list[int], after: list[int], k: int, t: int, corrupted: int, honest: int) -> bool:
    """The event of C2: two disjoint half windows, before one honest member and after another, are corrupted enough."""
    wanted = t - k // 2 - 1
    left = [i for i in members(honest) if (before[i] & corrupted).bit_count() >= wanted]
    right = [i for i in members(honest) if (after[i] & corrupted).bit_count() >= wanted]
    return any(not before[a] & after[b] for a in left for b in right)


def patterns(n: int) -> Iterator[tuple[int, int, int, int]]:
    """Corrupted, honest, sharers and survivors: one of each rotation and reflection of the corrupted."""
    everybody = (1 << n) - 1
    for corrupted in range(1 << n):
        if not canonical(corrupted, n):
            continue
        honest = list(members(everybody & ~corrupted))
        for states in itertools.product((0, 1, 2), repeat=len(honest)):
            sharers = sum(1 << i for i, state in zip(honest, states, strict=True) if state)
            survivors = sum(1 << i for i, state in zip(honest, states, strict=True) if state == 2)
            yield corrupted, everybody & ~corrupted, sharers, survivors


def explained(n: int, k: int) -> tuple[int, int]:
    """Patterns that leak, and those that only C2 explains; raises where neither condition does."""
    near, before, after = windows(n, k)
    leaking = by_second = 0
    for corrupted, honest, sharers, survivors in patterns(n):
        for t in range(k // 2 + 2, k + 2):
            if leaks(near, t, corrupted, sharers, survivors):
                leaking += 1
                if not first_condition(near, t, corrupted, honest):
                    by_second += 1
                    assert second_condition(before, after, k, t, corrupted, honest), (bin(corrupted), bin(survivors), t)
    return leaking, by_second


@pytest.mark.parametrize(("n", "k"), [(7, 4), (8, 4), (9, 4), (9, 6)])
def test_every_leak_of_a_small_ring_is_an_event_of_c1_or_of_c2(n: int, k: int) -> None:
    leaking, _ = explained(n, k)
    assert leaking


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), [(10, 4), (11, 4), (12, 4), (10, 6), (11, 6), (12, 6), (11, 8)])
def test_every_leak_of_a_larger_ring_is_an_event_of_c1_or_of_c2(n: int, k: int) -> None:
    leaking, by_second = explained(n, k)
    assert leaking
    assert by_second or n < 2 * (k // 2) + 4


def test_c2_is_needed_a_server_and_two_colluders_split_a_ring_that_c1_calls_safe() -> None:
    """n = 10, k = 4, t = 4: arcs 1-3 and 6-8, colluders at 0 and 4, the gaps 4, 5 and 9, 0."""
    near, before, after = windows(10, 4)
    corrupted, survivors = 1 << 0 | 1 << 4, 0b0111001110
    honest = 0b1111111111 & ~corrupted
    assert not first_condition(near, 4, corrupted, honest)
    assert second_condition(before, after, 4, 4, corrupted, honest)
    assert leaks(near, 4, corrupted, survivors, survivors)


def test_a_threshold_of_half_the_neighbours_and_one_leaks_without_any_colluder() -> None:
    """The power of t >= k/2 + 2: two gaps of k/2 dropouts cut the ring into two arcs that unmask themselves."""
    near, _, _ = windows(10, 4)
    survivors = 0b0011100111
    assert leaks(near, 3, 0, survivors, survivors)
    assert not leaks(near, 4, 0, survivors, survivors)
    assert not leaks(near, 3, 0, 0b1111111111, 0b1111111111)


def test_c1_is_needed_a_member_whose_neighbours_collude_stands_alone() -> None:
    """n = 9, k = 4, t = 4: both seeds of member 0 are rebuilt, its input in the sum or late."""
    near, _, _ = windows(9, 4)
    corrupted = near[0]
    honest = 0b111111111 & ~corrupted
    assert first_condition(near, 4, corrupted, honest)
    assert leaks(near, 4, corrupted, honest, honest)
    assert leaks(near, 4, corrupted, honest, honest & ~1)


def test_the_models_graph_is_the_protocols() -> None:
    for n, k in ((7, 4), (12, 6), (11, 8)):
        near, _, _ = windows(n, k)
        assert [tuple(members(mask)) for mask in near] == list(neighbours(range(n), k))


# ------------------------------------------------------------------- the probability that C2 bounds


def tail(population: int, marked: int, draws: int, least: int) -> tuple[int, int]:
    """P[Hyp >= least] as numerator and denominator."""
    above = sum(comb(marked, j) * comb(population - marked, draws - j) for j in range(max(0, least), draws + 1))
    return above, comb(population, draws)


def joint(population: int, marked: int, window: int, least: int) -> tuple[int, int]:
    """That each of two disjoint windows holds `least` marked ones or more."""
    rest = population - 2 * window
    held = range(max(0, least), window + 1)
    both = sum(
        comb(window, i) * comb(window, j) * comb(rest, marked - i - j) for i in held for j in held if i + j <= marked
    )
    return both, comb(population, marked)


@pytest.mark.parametrize(
    ("n", "gamma", "delta"), [(129, 100_000, 100_000), (300, 330_000, 100_000), (1000, 100_000, 330_000)]
)
def test_two_windows_are_corrupted_together_no_oftener_than_if_they_were_independent(
    n: int, gamma: int, delta: int
) -> None:
    """Negative association, in exact integers, for the rings that the rule chooses and every threshold."""
    chosen = propose(n, gamma, delta, Profile.MALICIOUS)
    for least in range(1, chosen.k // 2 + 1):
        both, of_both = joint(n - 2, chosen.c, chosen.k // 2, least)
        alone, of_alone = tail(n - 2, chosen.c, chosen.k // 2, least)
        assert both * of_alone**2 <= alone**2 * of_both
        same, of_same = joint(n - 1, chosen.c, chosen.k // 2, least)
        assert same * of_alone**2 <= alone**2 * of_same


@pytest.mark.parametrize(("n", "k"), [(9, 4), (11, 4), (12, 6), (13, 6)])
def test_the_event_of_c2_over_all_placements_is_no_likelier_than_its_bound(n: int, k: int) -> None:
    _, before, after = windows(n, k)
    for c in range(1, n - 2):
        placements = [sum(1 << i for i in chosen) for chosen in itertools.combinations(range(n), c)]
        for t in range(k // 2 + 2, k + 2):
            honest = (1 << n) - 1
            hit = sum(second_condition(before, after, k, t, mask, honest & ~mask) for mask in placements)
            alone, of_alone = tail(n - 2, c, k // 2, t - k // 2 - 1)
            assert hit * of_alone**2 <= ((n - c) * alone) ** 2 * len(placements)
