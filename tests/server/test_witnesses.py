"""Whose signed heads a partner hears: a bounded number, evenly spread, and enough to find a second history soon."""

from __future__ import annotations

import math
import random
from collections import Counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.transcript import Chain, sign_head_seen
from aimass.proto.step import Step, StepKind
from aimass.server.messages import open_steps
from aimass.server.witnesses import WITNESSES, Circle

RUN = "ab" * 16
NAMES = tuple(f"p{index:04}" for index in range(200))


@given(st.sets(st.sampled_from(NAMES[:50])), st.sampled_from(NAMES[:50]), st.integers(0, 40), st.integers(0, 99))
def test_a_partner_hears_so_many_others_each_once_and_never_itself(
    names: set[str], partner: str, most: int, step: int
) -> None:
    heard = Circle(RUN, step, names).witnesses(partner, most)
    assert len(heard) == len(set(heard)) == min(most, len(names - {partner}))
    assert set(heard) <= names - {partner}


def test_each_partner_is_heard_by_equally_many() -> None:
    circle = Circle(RUN, 3, NAMES)
    assert set(Counter(who for name in NAMES for who in circle.witnesses(name)).values()) == {WITNESSES}


def test_who_has_signed_nothing_yet_hears_as_many_and_the_order_of_names_does_not_matter() -> None:
    circle = Circle(RUN, 3, NAMES[1:])
    assert len(circle.witnesses(NAMES[0])) == WITNESSES
    assert circle.witnesses(NAMES[0]) == Circle(RUN, 3, reversed(NAMES[1:])).witnesses(NAMES[0])


def test_each_step_and_each_run_has_witnesses_of_its_own() -> None:
    chosen = {Circle(run, step, NAMES).witnesses("p0000") for run in (RUN, "cd" * 16) for step in range(5)}
    assert len(chosen) == 10


def test_the_rule_is_what_it_was() -> None:
    """Golden: whoever repeats the choice from run, step and names comes to the same witnesses."""
    assert Circle(RUN, 3, NAMES[:10]).witnesses("p0004", 4) == ("p0002", "p0009", "p0008", "p0001")


def missed(group: int, asked: int, steps: int) -> float:
    """Share of steps in which nobody who is asked hears of the other history that `group` partners were told."""
    chance, quiet = random.Random(1), 0
    deceived = set(NAMES[:group])
    for step in range(steps):
        circle = Circle(RUN, step, NAMES)
        cohort = chance.sample(NAMES, asked)
        quiet += not any((name in deceived) != (who in deceived) for name in cohort for who in circle.witnesses(name))
    return quiet / steps


def test_a_history_that_was_told_to_one_partner_alone_is_found_at_the_stated_rate() -> None:
    # Neither it nor one of the 32 that hear it is asked: C(n - 33, m) / C(n, m), which is less than (1 - m/n)^33.
    for asked in (10, 20):
        stated = math.comb(len(NAMES) - WITNESSES - 1, asked) / math.comb(len(NAMES), asked)
        assert abs(missed(1, asked, 2_000) - stated) < 0.02
        assert stated < (1 - asked / len(NAMES)) ** (WITNESSES + 1)


def test_a_history_that_was_told_to_a_group_is_found_sooner_than_one_that_was_told_to_one() -> None:
    one = missed(1, 10, 1_000)
    assert missed(5, 10, 1_000) < one
    assert missed(50, 10, 1_000) <= 0.001


def test_a_step_is_sent_with_the_heads_of_its_witnesses_and_no_others() -> None:
    chain = Chain(2, "c" * 64)
    key = Ed25519PrivateKey.generate()
    heads = {name: (chain, sign_head_seen(key, RUN, chain)) for name in NAMES}
    step = Step(
        index=7, kind=StepKind.TRAIN, round=1, participants=NAMES[:3], inputs=("0" * 64,), quorum=1, deadline_s=1.0
    )  # fmt: skip
    opened = dict(open_steps(RUN, step, 10.0, NAMES[:3], heads))
    circle = Circle(RUN, 7, NAMES)
    for name in NAMES[:3]:
        sent = opened[name].open_step
        assert tuple(head.partner for head in sent.heads) == circle.witnesses(name)
        assert {(head.entries, head.head, head.signature) for head in sent.heads} == {(2, "c" * 64, heads[name][1])}
