"""Whether a partner takes part at all: what a start must say (rows 40 to 42 and 44 of the protocol's list)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from aimass.privacy.secagg import admission
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.client_state import History, Limits, Phase, Record, may_follow
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import Advertise
from aimass.privacy.secagg.parameters import MAX_ATTEMPTS, Profile
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from tests.support.secagg import Lab, flip, sha
from tests.support.secagg_lies import (
    lab,
    started,
)

# ------------------------------------------------------------------- admission


def test_a_start_that_the_server_did_not_sign_is_refused() -> None:
    attempt = lab()
    for data in (
        attempt.context.data + bytes(64),
        dataclasses.replace(attempt.context, server_key=sha("other")).data + bytes(64),
        attempt.context.data[:-1] + b"\7" + attempt.server.start[-64:],
    ):
        with pytest.raises(FaultError) as caught:
            admission.start(attempt.member(0), attempt.expected(), History(), data, attempt.random[0])
        assert caught.value.fault.code in (Code.SERVER_SIG, Code.ENCODING)
    assert started(attempt, dataclasses.replace(attempt.context, server_key=attempt.keys[1])) is Code.SERVER_SIG
    other = dataclasses.replace(attempt.context, server_key=attempt.keys[1])
    signature = shared.sign(attempt.identities[1], Name.CONTEXT, other.ctx)
    with pytest.raises(FaultError) as caught:
        admission.start(attempt.member(0), attempt.expected(), History(), other.data + signature, attempt.random[0])
    assert caught.value.fault.code is Code.SERVER_SIG


def test_row_40_a_model_that_differs_in_one_bit_is_refused() -> None:
    attempt = lab()
    assert started(attempt, attempt.context) is None
    other = dataclasses.replace(attempt.context, model_digest=flip(attempt.context.model_digest, 3))
    assert started(attempt, other) is Code.MODEL_DIGEST


def test_row_40_clients_on_different_models_cannot_even_read_each_others_advertisements() -> None:
    """A client that ignored the digest would have another context: keys, boxes and masks are bound to it."""
    attempt, other = lab(), lab()
    other.context = dataclasses.replace(other.context, model_digest=flip(other.context.model_digest, 3))
    with pytest.raises(FaultError) as caught:
        shared.check_ads(other.context, list(ads(attempt)), attempt.keys)
    assert caught.value.fault.code is Code.ADV_SIG


def ads(attempt: Lab) -> tuple[Advertise, ...]:
    attempt.run(ServerPhase.SHARE)
    return tuple(attempt.server.ads.values())


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"run_id": bytes(16)}, Code.PLAN),
        ({"round": 8}, Code.PLAN),
        ({"plan_digest": sha("x")}, Code.PLAN),
        ({"layout_digest": sha("x")}, Code.PLAN),
        ({"dp_digest": sha("x")}, Code.PLAN),
        ({"lanes": 11}, Code.PLAN),
        ({"profile": Profile.HBC}, Code.PLAN),
        ({"gamma_ppm": 0}, Code.PLAN),
        ({"delta_ppm": 0}, Code.PLAN),
        ({"min_cohort": 3}, Code.PLAN),
        ({"ids": (1, 2, 3, 4)}, Code.ROSTER),
        ({"bits": 12}, Code.OVERFLOW),
        ({"attempt": MAX_ATTEMPTS}, Code.ROUND_CLOSED),
    ],
    ids=str,
)
def test_a_context_that_differs_from_what_the_partner_computed_is_refused(
    change: dict[str, object], wanted: Code
) -> None:
    attempt = lab()
    assert started(attempt, dataclasses.replace(attempt.context, **change)) is wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(min_cohort=3, profile=Profile.HBC),
        Limits(min_cohort=2, gamma_ppm=100_001, profile=Profile.HBC),
        Limits(min_cohort=2, profile=Profile.MALICIOUS),
    ],
    ids=str,
)
def test_a_round_below_the_partners_policy_is_refused(limits: Limits) -> None:
    attempt = lab(profile=Profile.HBC)
    assert started(attempt, attempt.context) is None
    assert started(attempt, attempt.context, limits=limits) is Code.POLICY


def test_row_44_an_overflow_is_refused_at_its_exact_bound() -> None:
    attempt = lab()
    room = (2 ** (attempt.bits - 1) - 1) // 5
    assert started(attempt, attempt.context, largest=room) is None
    assert started(attempt, attempt.context, largest=room + 1) is Code.OVERFLOW


def record(lab: Lab, **changes: object) -> Record:
    context = lab.context
    held = Record(context.run_id, context.round, 0, Phase.MASKED, context.ctx, context.model_digest)
    return dataclasses.replace(held, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        (lambda a: History(record(a)), Code.ROUND_CLOSED),
        (lambda a: History(record(a, attempt=2)), Code.ROUND_CLOSED),
        (lambda a: History(record(a, attempt=0, signed=bytes(64))), Code.ROUND_CLOSED),
        (lambda a: History(signed_on_model=2), Code.REPEAT_MODEL),
        (lambda a: History(signed_on_data=100), Code.REPEAT_MODEL),
        (lambda a: History(reserved=False), Code.BUDGET),
    ],
    ids=["same attempt", "earlier attempt", "signed", "model", "data", "budget"],
)
def test_row_42_what_is_closed_repeated_or_unpaid_is_refused(history: Callable[[Lab], History], wanted: Code) -> None:
    attempt = lab()
    assert started(attempt, attempt.context, history=history(attempt)) is wanted


def test_row_42_a_round_that_was_not_signed_may_be_tried_again_and_one_that_was_may_not() -> None:
    first, second = lab(), lab(attempt=1)
    first.run()
    for member, held in first.records.items():
        assert held.signed
        second.histories[member] = History(held)
    second.run()
    assert {second.code(member) for member in range(5)} == {Code.ROUND_CLOSED}
    unsigned = lab(attempt=1)
    unsigned.histories = {i: History(dataclasses.replace(r, signed=b"")) for i, r in first.records.items()}
    unsigned.run()
    assert unsigned.exact()


def test_row_41_a_process_that_forgot_an_attempt_says_so() -> None:
    attempt = lab()
    said = admission.restarted(record(attempt))
    assert (said.about, said.code) == (attempt.context.ctx, Code.RESTARTED)


def test_an_older_attempt_can_persist_nothing_once_a_newer_one_began() -> None:
    """Two live attempts of one round: whatever the server says to the older, nothing of it becomes durable."""
    attempt = lab()
    old, new = record(attempt), record(attempt, attempt=1, ctx=sha("1"), phase=Phase.ADVERTISED)
    signed = dataclasses.replace(old, phase=Phase.SIGNED, signed=bytes(64))
    assert may_follow(old, None)
    assert may_follow(signed, old)
    assert may_follow(new, old)
    assert not may_follow(signed, new)
    assert not may_follow(new, signed)
    assert not may_follow(dataclasses.replace(signed, signed=bytes([1]) * 64), signed)
    assert not may_follow(dataclasses.replace(old, signed=b""), signed)
    assert not may_follow(record(attempt, phase=Phase.SHARED), old)
    assert not may_follow(record(attempt, ctx=sha("other")), old)


def test_a_seed_of_the_graph_is_drawn_only_where_a_ring_may_come() -> None:
    small, large, honest = lab(), Lab(129), Lab(129, profile=Profile.HBC)
    for attempt in (small, large, honest):
        attempt.run(ServerPhase.ADVERTISE)
        attempt.give()
        attempt.deliver(attempt.queue[0])
    drawn = [attempt.members[0] for attempt in (small, large, honest)]
    assert [len(state.secrets.ring_seed) for state in drawn if state.secrets] == [0, 32, 0]
    assert [state.ad.seed_commit == bytes(32) for state in drawn if state.ad] == [True, False, True]
