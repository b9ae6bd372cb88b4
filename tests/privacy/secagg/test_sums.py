"""The sum is exact, whoever drops out and when; and these tests notice when a mask is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client, masks
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.faults import Code
from aimass.privacy.secagg.packing import add_packed
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.server_state import Phase
from tests.support.secagg import Lab
from tests.support.secagg_runs import LOST_BEFORE, draw, play


def outcome(seed: int, members: int = 40, lanes: tuple[int, ...] = (1, 7, 8, 9, 100)) -> str:
    """ "sum" for an exact one, or the name under which the attempt ended; raises where a sum is not exact."""
    drawn = draw(seed, members, lanes)
    lab = drawn.lab
    play(lab)
    if lab.result is not None:
        assert lab.exact(), seed
        before_input = {i for i, kind in drawn.silent.items() if kind in (Kind.ADVERTISE, Kind.SHARES, Kind.INPUT)}
        assert set(lab.survivors) == set(range(lab.n)) - before_input, seed
        return "sum"
    assert lab.ended is not None
    assert lab.ended.fault.code in (Code.TOO_FEW, Code.TIMEOUT, Code.RECON_FEW), (seed, lab.ended)
    assert set(lab.ended.absent) <= set(drawn.silent), seed
    return lab.ended.fault.code


def test_random_attempts_with_dropouts_in_every_phase_give_exact_sums() -> None:
    found = [outcome(seed, members=14) for seed in range(60)]
    assert found.count("sum") > 30


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(4))
def test_two_hundred_random_attempts_give_exact_sums(block: int) -> None:
    found = [outcome(seed) for seed in range(1000 + 50 * block, 1050 + 50 * block)]
    assert found.count("sum") > 25


@pytest.mark.parametrize("bits", [8, 12, 16, 17, 20, 23, 24, 31, 32, 33, 48])
def test_a_long_vector_of_each_width_gives_an_exact_sum(bits: int) -> None:
    lab = Lab(3, bits=bits, data_lanes=65_537, largest=((1 << bits - 1) - 1) // 3, gamma_ppm=0, delta_ppm=333_333)
    lab.up = lambda member, kind, data: None if (member, kind) == (1, Kind.INPUT) else data
    play(lab)
    assert lab.exact()
    assert lab.survivors == (0, 2)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bits", [8, 16, 32, 33])
def test_the_largest_inputs_of_everybody_do_not_overflow(bits: int, sign: int) -> None:
    largest = ((1 << bits - 1) - 1) // 5
    lab = Lab(5, bits=bits, largest=largest)
    lab.give({i: [sign * largest] * 8 for i in range(5)})
    play(lab)
    assert lab.result is not None
    assert lab.result.tolist() == [5 * sign * largest] * 8


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("phase", LOST_BEFORE)
def test_a_tenth_may_vanish_in_any_one_phase(phase: Kind, profile: Profile) -> None:
    lab = Lab(20, profile=profile)
    order = LOST_BEFORE.index(phase)
    lab.up = lambda member, kind, data: (
        None if member in (3, 11) and kind in LOST_BEFORE and LOST_BEFORE.index(kind) >= order else data
    )
    play(lab)
    assert lab.exact()
    assert set(range(20)) - set(lab.survivors) == ({3, 11} if order <= 2 else set())


@pytest.mark.parametrize("profile", list(Profile))
def test_a_ring_gives_an_exact_sum_with_dropouts(profile: Profile) -> None:
    lab = Lab(129, profile=profile, data_lanes=33)
    lost = set(range(0, 129, 11))
    lab.up = lambda member, kind, data: None if member in lost and kind is Kind.INPUT else data
    play(lab)
    assert lab.server.attempt is not None
    assert lab.server.attempt.roster.k < 128
    assert lab.exact()
    assert set(lab.survivors) == set(range(129)) - lost


# ------------------------------------------------------------------- power: these mistakes are noticed


Payload = Callable[..., bytes]


def without_a_pair(plus: list[bytes], minus: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    return (plus[:-1], minus) if len(plus) > 1 else (plus, minus[:-1])


MISTAKES: dict[str, Callable[[list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]]] = {
    "a pair mask dropped": without_a_pair,
    "the self mask dropped": lambda plus, minus: (plus[1:], minus),
    "the self mask subtracted": lambda plus, minus: (plus[1:], [plus[0], *minus]),
    "signs of pairs flipped": lambda plus, minus: ([plus[0], *minus], plus[1:]),
    "all signs flipped": lambda plus, minus: (minus, plus),
    "a mask twice": lambda plus, minus: ([*plus, plus[0]], minus),
    "a seed reused": lambda plus, minus: ([plus[0], *plus[:1], *plus[2:]], minus),
}


@pytest.fixture
def mistaken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Members err, and the server does not."""

    def make(name: str) -> None:
        wrong = MISTAKES[name]
        monkeypatch.setattr(client, "Masks", lambda plus, minus: masks.Masks(*wrong(list(plus), list(minus))))

    return make


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_masking_is_found_by_the_check_lanes_and_no_sum_comes(
    name: str, mistaken: Callable[[str], None]
) -> None:
    mistaken(name)
    lab = Lab(5)
    play(lab)
    if name == "signs of pairs flipped":  # everybody flips: the pairs cancel all the same, until one drops out
        assert lab.exact()
        lab = Lab(5, delta_ppm=200_000)
        lab.up = lambda member, kind, data: None if (member, kind) == (2, Kind.INPUT) else data
        play(lab)
    assert lab.ended is not None
    assert lab.ended.fault.code is Code.SUM_CHECK
    assert lab.result is None


def test_a_pair_key_with_a_wrong_index_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = shared.pair_mask_key
    monkeypatch.setattr(shared, "pair_mask_key", lambda sid, agreed, one, other: right(sid, agreed, one, one))
    lab = Lab(5)
    play(lab)
    assert lab.ended is not None
    assert lab.ended.fault.code is Code.SUM_CHECK


def test_a_sum_over_one_survivor_fewer_is_noticed() -> None:
    lab = Lab(5)
    lab.run(Phase.UNMASK)
    right, lab.total = lab.total, np.zeros_like(lab.total)
    for member in range(1, 5):
        add_packed(lab.total, lab.payloads[member], lab.bits)
    assert (right != lab.total).any()
    lab.run()
    assert lab.ended is not None
    assert lab.ended.fault.code is Code.SUM_CHECK
