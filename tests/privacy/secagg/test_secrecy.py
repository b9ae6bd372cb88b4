"""What the server sees says nothing of one input: uniform, the same for other inputs, keys never used twice.

Each test has its power beside it: the same statistic, on an attempt with a mistake, fails.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client, masks
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.field import P, encode_scalar, reconstruct
from aimass.privacy.secagg.packing import unpack
from aimass.privacy.secagg.server_state import Phase
from tests.support.secagg import Lab, only
from tests.support.secagg_runs import play
from tests.support.statistics import auc_of_logistic_regression, chi_square_p, largest_bit_score, two_sample_p

Streams = tuple[list[bytes], list[bytes]]
Masking = Callable[[list[bytes], list[bytes]], Streams]


def sent_by(member: int, lab: Lab) -> bytes:
    lab.run(Phase.SIGN)
    return lab.payloads[member]


def broken(monkeypatch: pytest.MonkeyPatch, masking: Masking) -> None:
    """Members mask with these streams."""
    monkeypatch.setattr(client, "Masks", lambda plus, minus: masks.Masks(*masking(list(plus), list(minus))))


def nothing(plus: list[bytes], minus: list[bytes]) -> Streams:
    """No mask at all."""
    return [], []


def one_seed(plus: list[bytes], minus: list[bytes]) -> Streams:
    """Every attempt with the same stream."""
    return [bytes(16)], []


def cancelling(plus: list[bytes], minus: list[bytes]) -> Streams:
    """A sign flipped where a seed was reused: the two streams cancel."""
    return plus[:1], plus[:1]


def filled(n: int, lanes: int, value: int) -> dict[int, list[int]]:
    return {i: [value] * lanes for i in range(n)}


# ------------------------------------------------------------------- uniform


@pytest.mark.parametrize("bits", [8, 20, 23, 32])
@pytest.mark.parametrize("extreme", [0, 1])
def test_a_masked_input_is_uniform_whatever_it_hides(bits: int, extreme: int) -> None:
    lanes, largest = 1 << 18, ((1 << bits - 1) - 1) // 3
    lab = Lab(3, bits=bits, data_lanes=lanes, largest=largest, gamma_ppm=0)
    lab.give(filled(3, lanes, extreme * largest))
    payload = sent_by(0, lab)
    assert chi_square_p(payload) > 1e-6
    assert largest_bit_score(payload) < 5.5


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 20, 23, 32])
@pytest.mark.parametrize("extreme", [0, 1])
def test_a_long_masked_input_is_uniform_whatever_it_hides(bits: int, extreme: int) -> None:
    lanes, largest = 1 << 20, ((1 << bits - 1) - 1) // 3
    lab = Lab(3, bits=bits, data_lanes=lanes, largest=largest, gamma_ppm=0, seed=1)
    lab.give(filled(3, lanes, extreme * largest))
    payload = sent_by(0, lab)
    assert chi_square_p(payload) > 1e-6
    assert largest_bit_score(payload) < 5.5


@pytest.mark.parametrize("bits", [8, 20])
def test_power_an_input_without_masks_or_with_one_stream_for_two_masks_is_not_uniform(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, largest = 1 << 16, ((1 << bits - 1) - 1) // 3

    for masking in (nothing, cancelling):
        broken(monkeypatch, masking)
        lab = Lab(3, bits=bits, data_lanes=lanes, largest=largest, gamma_ppm=0)
        lab.give(filled(3, lanes, largest))
        assert chi_square_p(sent_by(0, lab)) < 1e-6


def test_what_is_left_of_an_input_once_its_pair_masks_are_known_is_uniform() -> None:
    """Member 0 is late: S is revealed by the others, B is not, and its input reached the server all the same."""
    lanes = 1 << 16
    lab = Lab(4, bits=20, data_lanes=lanes, largest=1000, gamma_ppm=0, delta_ppm=250_000)
    lab.give(filled(4, lanes, 1000))
    late: list[bytes] = []
    lab.up = only(0, Kind.INPUT, late.append)
    play(lab)
    assert lab.exact()
    assert lab.survivors == (1, 2, 3)
    session = lab.server.attempt
    assert session is not None
    payload = late[0][172:]
    view = unpack(payload, lab.context.lanes, 20)
    plus, minus = pair_keys(lab, 0)
    masks.add_masks(view, minus, plus)  # what S gives the server
    masks.cut(view, 20)
    data = (view & np.uint32(0xFFFF)).astype("<u2").tobytes()
    assert chi_square_p(data) > 1e-6
    state = lab.server
    assert all(share.kind == 1 for unmask in state.unmasked.values() for share in unmask.shares if share.dealer == 0)
    masks.add_masks(view, [], [self_key(lab, 0)])  # power: with B it stands in the clear
    masks.cut(view, 20)
    assert (view[:-2] == 1000).all()


def pair_keys(lab: Lab, member: int) -> tuple[list[bytes], list[bytes]]:
    """The keys of a member's pair masks, drawn again as the lab drew its seeds."""
    session = lab.server.attempt
    assert session is not None
    secret = shared.private_key(shared.mask_secret(lab.context, member, seeds_of(lab, member)[0]))
    plus: list[bytes] = []
    minus: list[bytes] = []
    for other in session.neighbours[member]:
        agreed = shared.exchange(secret, session.roster.ads[other].mask_key)
        (plus if member < other else minus).append(shared.pair_mask_key(session.sid, agreed, member, other))
    return plus, minus


def self_key(lab: Lab, member: int) -> bytes:
    session = lab.server.attempt
    assert session is not None
    return shared.self_mask_key(session.sid, member, seeds_of(lab, member)[1])


def seeds_of(lab: Lab, member: int) -> tuple[int, int]:
    """S and B, drawn second and third."""
    drawn = [int.from_bytes(data, "big") for data in lab.random[member].drawn[1:3]]
    return drawn[0], drawn[1]


# ------------------------------------------------------------------- the same for other inputs


LANES = 512


def views(inputs: dict[int, list[int]], runs: int, first: int, dropout: bool = False) -> npt.NDArray[np.uint64]:
    """The first lanes of what the server gets of member 0, over many attempts."""
    rows = []
    for seed in range(first, first + runs):
        lab = Lab(3, bits=20, data_lanes=LANES, largest=1000, gamma_ppm=0, delta_ppm=333_333, seed=seed)
        lab.give(inputs)
        if dropout:
            lab.up = only(2, Kind.INPUT, lambda _: None)
        lab.run()
        if dropout:
            lab.time_up()
            lab.run()
        rows.append(unpack(lab.payloads[0], lab.context.lanes, 20)[:LANES].astype(np.uint64))
    return np.array(rows)


def inputs_pair() -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Two sets of inputs with one sum over members 0 and 1, and over all three."""
    one = {0: [1000] * LANES, 1: [-1000] * LANES, 2: [7] * LANES}
    other = {0: [-1000] * LANES, 1: [1000] * LANES, 2: [7] * LANES}
    return one, other


@pytest.mark.parametrize("dropout", [False, True])
def test_views_of_two_inputs_with_one_sum_cannot_be_told_apart(dropout: bool) -> None:
    one, other = inputs_pair()
    separates(views(one, 60, 0, dropout), views(other, 60, 1000, dropout), wanted=False)


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [False, True])
def test_many_views_of_two_inputs_with_one_sum_cannot_be_told_apart(dropout: bool) -> None:
    one, other = inputs_pair()
    separates(views(one, 400, 0, dropout), views(other, 400, 10_000, dropout), wanted=False)


@pytest.mark.parametrize("masking", [nothing, one_seed])
def test_power_views_without_masks_or_with_a_seed_that_is_used_again_are_told_apart(
    masking: Masking, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, masking)
    one, other = inputs_pair()
    separates(first_views(one, 40, 0), first_views(other, 40, 1000), wanted=True)


def first_views(inputs: dict[int, list[int]], runs: int, first: int) -> npt.NDArray[np.uint64]:
    """As `views`, until the inputs are in: a broken attempt has no sum."""
    rows = []
    for seed in range(first, first + runs):
        lab = Lab(3, bits=20, data_lanes=LANES, largest=1000, gamma_ppm=0, seed=seed)
        lab.give(inputs)
        rows.append(unpack(sent_by(0, lab), lab.context.lanes, 20)[:LANES].astype(np.uint64))
    return np.array(rows)


def separates(one: npt.NDArray[np.uint64], other: npt.NDArray[np.uint64], wanted: bool) -> None:
    """Kolmogorov and Smirnov on all lanes, and a classifier on each attempt's first lanes."""
    p_value = two_sample_p(one.reshape(-1), other.reshape(-1))
    auc = auc_of_logistic_regression(one, other)
    tested = len(one) / 2  # rows of each class in the half that is ranked
    sigma = math.sqrt((2 * tested + 1) / (12 * tested * tested))
    assert (p_value < 1e-4 or abs(auc - 0.5) > 3 * sigma) is wanted, (p_value, auc, sigma)


# ------------------------------------------------------------------- keys and secrets


@pytest.fixture
def keystreams(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Counts every key from which a keystream is drawn."""
    counted: Counter[bytes] = Counter()
    right = masks._keystream

    def counting(key: bytes) -> Any:
        counted[key] += 1
        return right(key)

    monkeypatch.setattr(masks, "_keystream", counting)
    return counted


def hygiene(keystreams: Counter[bytes], attempts: int, members: int) -> None:
    """Each self key is drawn by its member and, to unmask, by the server; each pair key by both members."""
    seen: set[bytes] = set()
    for number in range(attempts):
        keystreams.clear()
        lab = Lab(members, gamma_ppm=0, round=number // 4, attempt=number % 4, seed=number, data_lanes=1)
        lab.run()
        assert lab.exact()
        session = lab.server.attempt
        assert session is not None
        own = {self_key(lab, member) for member in range(members)}
        pairs = {key for member in range(members) for keys in pair_keys(lab, member) for key in keys}
        assert len(own) == members
        assert len(pairs) == members * (members - 1) // 2
        assert all(keystreams[key] == 2 for key in own | pairs)
        assert not seen & (own | pairs)
        seen |= own | pairs
        public = set(keystreams) - own - pairs  # the factors of the check lanes, and the permutation
        assert len(public) == 3
        assert not seen & public


def test_no_mask_key_is_used_twice_in_many_attempts(keystreams: Counter[bytes]) -> None:
    hygiene(keystreams, 40, 4)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_mask_key_is_used_twice_in_very_many_attempts(keystreams: Counter[bytes]) -> None:
    hygiene(keystreams, 3_000, 3)


def test_no_share_box_shares_a_key_or_a_nonce_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is one direction of one pair in one session: made once by the dealer, once by the holder."""
    counted: Counter[bytes] = Counter()
    right = AESGCM

    def counting(key: bytes) -> AESGCM:
        counted[key] += 1
        return right(key)

    monkeypatch.setattr(client, "AESGCM", counting)
    nonces = set()
    for number in range(20):
        lab = Lab(4, gamma_ppm=0, attempt=number % 4, round=number // 4, seed=number)
        lab.run()
        nonces |= {box[:12] for keys in lab.server.keys.values() for _, box in keys.boxes}
    assert set(counted.values()) == {2}
    assert len(counted) == len(nonces) == 20 * 4 * 3


def test_power_a_member_that_draws_the_same_seeds_again_is_noticed(keystreams: Counter[bytes]) -> None:
    """Even then the attempt's own id parts the streams: only within one context would they meet."""
    keys = set()
    for number in (0, 1):
        lab = Lab(3, gamma_ppm=0, round=5, attempt=0, seed=9)
        lab.run()
        keys |= {self_key(lab, 0)}
        assert number < 2
    assert len(keys) == 1
    other = Lab(3, gamma_ppm=0, round=6, attempt=0, seed=9)
    other.run()
    assert seeds_of(other, 0) == seeds_of(lab, 0)
    assert self_key(other, 0) not in keys


def secret_texts(lab: Lab) -> list[str]:
    """Every secret of every member, as it would show: bytes, hex, decimal."""
    found = []
    for member, state in lab.members.items():
        assert state.member.id == member
        for data in lab.random[member].drawn:
            if len(data) >= 16:
                found += [data.hex(), repr(data)[2:-1], str(int.from_bytes(data, "big"))]
    return found


@pytest.mark.parametrize("until", [None, *Phase])
def test_no_secret_shows_in_a_repr_or_a_log_in_any_phase(until: Phase | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        lab = Lab(3, gamma_ppm=0)
        lab.run(until)
    shown = "".join(
        repr(value)
        for value in (
            lab.server, *lab.members.values(), *lab.log, *lab.queue, lab.faults, lab.refused,
            *(state.secrets for state in lab.members.values()), *(state.held for state in lab.members.values()),
            *(action for state in lab.members.values() for said in state.answers.values() for action in said),
            *(action for state in lab.members.values() for action in state.last), caplog.text,
        )
    )  # fmt: skip
    secrets = secret_texts(lab)
    assert secrets or until is Phase.ADVERTISE
    assert not [text for text in secrets if text in shown]


def test_power_the_search_for_secrets_finds_one() -> None:
    lab = Lab(3, gamma_ppm=0)
    lab.run(Phase.SHARE)
    secrets = lab.members[0].secrets
    assert secrets is not None
    assert any(text in f"{secrets.mask_seed}" for text in secret_texts(lab))
    assert any(text in repr(secrets.encryption) for text in secret_texts(lab))


def test_no_secret_is_in_the_exception_of_a_failed_check() -> None:
    lab = Lab(3, gamma_ppm=0)
    lab.down = lambda member, kind, data: data[:-1] + bytes((data[-1] ^ 1,))
    play(lab)
    faults = [*lab.faults.values(), *(fault for _, fault in lab.refused)]
    shown = "".join(f"{fault!r} {fault.error()!r} {fault.error()}" for fault in faults)
    assert shown
    assert not [text for text in secret_texts(lab) if text in shown]


def test_an_attempt_that_ended_holds_no_secret_and_no_payload() -> None:
    done, ended = Lab(3, gamma_ppm=0), Lab(3, gamma_ppm=0)
    done.run()
    ended.run(Phase.SIGN)
    ended.lose(*range(3))
    ended.time_up()
    ended.gone.clear()
    ended.run()
    for lab in (done, ended):
        for state in lab.members.values():
            assert (state.secrets, state.held, state.lanes) == (None, {}, None)
    for state in ended.members.values():
        assert not state.answers


def test_randomness_comes_from_the_caller_alone() -> None:
    for path in Path(masks.__file__).parent.glob("*.py"):
        text = path.read_text()
        for source in ("np.random", "import random", "import secrets", "os.urandom", "default_rng", ".generate("):
            assert source not in text, (path.name, source)


# ------------------------------------------------------------------- collusion


def held_by(lab: Lab, holders: range, dealer: int) -> dict[int, int]:
    return {holder: lab.members[holder].held[dealer].secret for holder in holders}


def test_t_colluders_rebuild_a_seed_and_one_fewer_learn_nothing() -> None:
    rebuilt = []
    for seed in range(200):
        lab = Lab(5, gamma_ppm=200_000, seed=seed)
        lab.run(Phase.UNMASK)
        session = lab.server.attempt
        assert session is not None
        t, dealer = session.roster.t, 4
        secret = seeds_of(lab, dealer)[0]
        assert reconstruct(held_by(lab, range(t), dealer)) == secret
        assert reconstruct(held_by(lab, range(t - 1), dealer)) != secret
        rebuilt.append(encode_scalar((reconstruct(held_by(lab, range(t - 1), dealer)) - secret) % P))
    assert chi_square_p(b"".join(rebuilt)) > 1e-6


def test_any_secret_at_all_fits_what_t_less_one_colluders_hold() -> None:
    """Perfect secrecy: for every guess there is one share of the missing holder that makes it so."""
    lab = Lab(5, gamma_ppm=200_000)
    lab.run(Phase.UNMASK)
    session = lab.server.attempt
    assert session is not None
    t, dealer = session.roster.t, 4
    held = held_by(lab, range(t - 1), dealer)
    zero, one = reconstruct({**held, t: 0}), reconstruct({**held, t: 1})
    for guess in (0, 1, 42, P - 1):
        missing = (guess - zero) * pow(one - zero, -1, P) % P
        assert reconstruct({**held, t: missing}) == guess
