"""What must fail once inputs are masked (rows 24 to 45 of the protocol's list), at the machines."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client, server
from aimass.privacy.secagg.client_state import Kind, Phase, SendInput
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.field import P, decode_scalar, encode_scalar
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import (
    SECRET,
    SELF,
    Abort,
    MaskedInput,
    Proof,
    Revealed,
    ShareDelivery,
    ShareKeys,
    SurvivorRequest,
    SurvivorSignature,
    Unmask,
    UnmaskRequest,
)
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import quantise
from aimass.privacy.secagg.server_state import From, Input, TimeUp
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from tests.support.secagg import Lab, flip, only, sha
from tests.support.secagg_lies import dealt, goes_on_without, lab

HEADER = 172

# ------------------------------------------------------------------- inputs


def with_input(change: Callable[[Lab, bytes, bytes], tuple[bytes, bytes]], member: int = 0) -> Lab:
    """A lying partner's header and payload."""
    attempt = lab()
    attempt.up = only(member, Kind.INPUT, lambda data: b"".join(change(attempt, data[:HEADER], data[HEADER:])))
    return attempt


def signed_header(attempt: Lab, header: bytes, **changes: object) -> bytes:
    made = dataclasses.replace(MaskedInput.decode(header), **changes)  # type: ignore[arg-type]
    body = MaskedInput.signed(made.sid, made.id, made.sharers_digest, made.payload_digest)
    return dataclasses.replace(made, signature=shared.sign(attempt.identities[0], Name.INPUT, body)).data


def honest_sizes(change: Callable[[bytes], bytes]) -> Callable[[Lab, bytes, bytes], tuple[bytes, bytes]]:
    """A payload that is changed, with a header that fits it."""

    def lie(attempt: Lab, header: bytes, payload: bytes) -> tuple[bytes, bytes]:
        changed = change(payload)
        made = signed_header(attempt, header, length=len(changed), payload_digest=hashlib.sha256(changed).digest())
        return made, changed

    return lie


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data * 100, lambda data: b""],
    ids=["short", "long", "100 times", "empty"],
)
@pytest.mark.parametrize("told", [True, False], ids=["told", "hidden"])
def test_rows_24_to_26_a_payload_of_another_length_is_refused(change: Callable[[bytes], bytes], told: bool) -> None:
    lie = honest_sizes(change) if told else lambda _, header, payload: (header, change(payload))
    attempt = with_input(lie)
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.INPUT_LEN)


def test_row_24_a_length_is_refused_by_the_header_alone_before_a_byte_moves() -> None:
    attempt = lab()
    attempt.run(ServerPhase.INPUT)
    member = attempt.queue[0]
    attempt.members[member.id], actions = client.receive(
        attempt.members[member.id], member.kind, member.data, attempt.random[member.id]
    )
    sent = next(action for action in actions if isinstance(action, SendInput))
    assert server.check_input(attempt.server, member.id, sent.header).length == len(sent.payload)
    with pytest.raises(FaultError) as caught:
        server.check_input(attempt.server, 0, signed_header(attempt, sent.header, length=len(sent.payload) * 100))
    assert caught.value.fault.code is Code.INPUT_LEN


def test_row_26_padding_bits_that_are_not_zero_are_refused() -> None:
    def padded(payload: bytes) -> bytes:
        return payload[:-1] + bytes((payload[-1] | 0x80,))

    attempt = with_input(honest_sizes(padded))
    assert attempt.context.lanes * attempt.bits % 8
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.INPUT_LEN)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"sharers_digest": sha("u1")}, Code.INPUT_U1),
        ({"sid": sha("sid")}, Code.CTX_MISMATCH),
        ({"id": 1}, Code.CTX_MISMATCH),
        ({"payload_digest": sha("other")}, Code.INPUT_SIG),
    ],
    ids=str,
)
def test_row_27_an_input_for_other_sharers_another_session_or_another_payload_is_refused(
    changes: dict[str, object], wanted: Code
) -> None:
    attempt = with_input(lambda lab, header, payload: (signed_header(lab, header, **changes), payload))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, wanted)


def test_an_input_with_a_wrong_signature_is_refused() -> None:
    attempt = with_input(lambda _, header, payload: (flip(header, 8 * (HEADER - 64)), payload))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.INPUT_SIG)


def masked(n: int = 5, **more: object) -> Lab:
    """An attempt whose inputs are in, and whose survivors were not told yet."""
    attempt = Lab(n, **{"gamma_ppm": 100_000, "delta_ppm": 200_000, **more})  # type: ignore[arg-type]
    attempt.run(ServerPhase.SIGN)
    return attempt


def test_row_28_a_second_different_input_is_equivocation_and_the_first_is_kept() -> None:
    attempt = lab()
    attempt.run(ServerPhase.INPUT)
    attempt.deliver(next(message for message in attempt.queue if message.id == 0))
    attempt.queue = [message for message in attempt.queue if message.id != 0]
    first = attempt.server.inputs[0]
    for payload_digest in (sha("a"), sha("b")):
        header = signed_header(attempt, first.data, payload_digest=payload_digest)
        attempt.feed(Input(0, header, first.length, payload_digest, padded=True))
    attempt.feed(Input(0, first.data, first.length, first.payload_digest, padded=True))
    assert attempt.refusals() == [(0, Code.EQUIVOCATION)] * 2
    assert attempt.server.inputs[0] == first
    goes_on_without(attempt)


def test_row_29_a_late_input_is_refused_unread_and_its_sender_signs_nothing() -> None:
    attempt = lab()
    held: list[bytes] = []
    attempt.up = only(0, Kind.INPUT, held.append)
    attempt.run()
    attempt.time_up()
    with pytest.raises(FaultError) as caught:
        server.check_input(attempt.server, 0, held[0][:HEADER])
    assert caught.value.fault.code is Code.LATE
    attempt.send_input(0, held[0][:HEADER], held[0][HEADER:])
    assert attempt.refusals() == [(0, Code.LATE)]
    request = next(message for message in attempt.queue if message.kind is Kind.SURVIVORS)
    attempt.tell(0, Kind.SURVIVORS, request.data)
    assert attempt.code(0) is Code.U2_SET
    goes_on_without(attempt, 0)


# ------------------------------------------------------------------- two views


def lied_to(views: dict[int, tuple[int, ...]]) -> tuple[Lab, dict[int, MaskedInput]]:
    """A server that shows each of six members its own set of sharers, and keeps what they send."""
    attempt = Lab(6, gamma_ppm=100_000, delta_ppm=0)
    attempt.run(ServerPhase.INPUT)
    boxes = {dealer: dict(keys.boxes) for dealer, keys in attempt.server.keys.items()}
    inputs: dict[int, MaskedInput] = {}

    def take(member: int, kind: Kind, data: bytes) -> bytes | None:
        if kind is Kind.INPUT:
            inputs[member] = MaskedInput.decode(data[:HEADER])
            return None
        return data

    attempt.up = take
    attempt.queue = []
    session = attempt.server.attempt
    assert session is not None
    for member, sharers in views.items():
        others = tuple((dealer, boxes[dealer][member]) for dealer in sharers if dealer != member)
        attempt.tell(member, Kind.DELIVERY, ShareDelivery(session.sid, sharers, others, 6).data)
    return attempt, inputs


def request(attempt: Lab, inputs: dict[int, MaskedInput], member: int, survivors: tuple[int, ...]) -> bytes:
    session = attempt.server.attempt
    assert session is not None
    proofs = tuple(
        Proof(i, inputs[i].payload_digest, inputs[i].signature) for i in survivors if i != member and i in inputs
    )
    return SurvivorRequest(session.sid, survivors, proofs, attempt.n).data


def test_row_30_members_that_were_shown_other_sharers_release_nothing() -> None:
    one, other = (0, 1, 2, 3, 4), (0, 1, 2, 3, 5)
    attempt, inputs = lied_to({0: one, 1: one, 2: other, 3: other})
    assert set(inputs) == {0, 1, 2, 3}
    for member in range(4):
        attempt.tell(member, Kind.SURVIVORS, request(attempt, inputs, member, (0, 1, 2, 3)))
        assert attempt.code(member) is Code.INP_PROOF
    assert not any(kind in (Kind.SIGNATURE, Kind.UNMASK) for _, kind, _ in attempt.sent)


def test_row_30_an_edge_that_was_left_out_at_one_end_alone_is_seen_at_the_other() -> None:
    """The power of the signature over U1: without it a lone odd view would pass, and its pair masks stay one-sided."""
    all_six, odd = tuple(range(6)), (0, 1, 2, 3, 5)
    attempt, inputs = lied_to({**dict.fromkeys(range(1, 6), all_six), 0: odd})
    for member in range(6):
        attempt.tell(member, Kind.SURVIVORS, request(attempt, inputs, member, odd if member == 0 else all_six))
    assert {attempt.code(member) for member in range(6)} == {Code.INP_PROOF}
    assert not any(kind is Kind.SIGNATURE for _, kind, _ in attempt.sent)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: dataclasses.replace(m, proofs=m.proofs[1:]),
        lambda m: dataclasses.replace(m, proofs=(*m.proofs, dataclasses.replace(m.proofs[-1], id=77))),
        lambda m: dataclasses.replace(m, proofs=(dataclasses.replace(m.proofs[0], payload_digest=sha("x")), *m.proofs[1:])),
        lambda m: dataclasses.replace(m, proofs=(dataclasses.replace(m.proofs[0], signature=bytes(64)), *m.proofs[1:])),
        lambda m: dataclasses.replace(m, proofs=(dataclasses.replace(m.proofs[1], id=m.proofs[0].id), *m.proofs[1:])),
    ],
    ids=["missing", "one more", "another payload", "no signature", "another's"],
)  # fmt: skip
def test_row_30_a_request_without_every_neighbours_proof_is_refused(
    change: Callable[[SurvivorRequest], SurvivorRequest],
) -> None:
    attempt = lab()
    attempt.down = only(4, Kind.SURVIVORS, lambda data: change(SurvivorRequest.decode(data, 5)).data)
    attempt.run()
    assert attempt.code(4) is Code.INP_PROOF
    assert not attempt.revealed(4)
    assert attempt.exact()


def test_row_31_two_sets_of_survivors_come_to_no_quorum() -> None:
    everybody = tuple(range(6))
    attempt, inputs = lied_to(dict.fromkeys(range(6), everybody))
    one, other = (0, 1, 2, 3, 4), (0, 1, 2, 3, 5)
    for member, view in ((0, one), (1, one), (2, one), (3, other), (4, one), (5, other)):
        attempt.tell(member, Kind.SURVIVORS, request(attempt, inputs, member, view))
    signed = {
        member: SurvivorSignature.decode(data).signature
        for member, kind, data in attempt.sent
        if kind is Kind.SIGNATURE
    }
    assert len(signed) == 6
    session = attempt.server.attempt
    assert session is not None
    assert session.roster.T == 4
    attempt2 = dict(sorted(signed.items()))
    del attempt2[4]  # three signed the one, and all that the server has of the other does not help
    for member in (0, 1, 2, 3, 5):
        attempt.tell(member, Kind.QUORUM, UnmaskRequest(session.sid, tuple(attempt2.items())).data)
        assert attempt.code(member) is Code.QUORUM
    assert not any(kind is Kind.UNMASK for _, kind, _ in attempt.sent)


def test_row_32_a_second_set_of_survivors_is_not_signed() -> None:
    attempt = masked()
    attempt.deliver(next(message for message in attempt.queue if message.id == 0))
    assert attempt.members[0].phase is Phase.SIGNED
    other = request(attempt, dict(attempt.server.inputs), 0, (0, 1, 2, 3))
    attempt.tell(0, Kind.SURVIVORS, other)
    assert attempt.code(0) is Code.ALREADY_SIGNED
    assert attempt.members[0].secrets is None
    assert [kind for member, kind, _ in attempt.sent if member == 0].count(Kind.SIGNATURE) == 1


def signatures(attempt: Lab) -> tuple[bytes, dict[int, bytes]]:
    attempt.run(ServerPhase.UNMASK)
    session = attempt.server.attempt
    assert session is not None
    return session.sid, dict(attempt.server.signatures)


def test_row_33_fewer_than_t_distinct_survivors_over_ones_own_sets_are_no_quorum() -> None:
    other = lab(seed=1)
    _, foreign = signatures(other)
    late = lab(gamma_ppm=0, delta_ppm=400_000)  # T is 3
    cases: list[tuple[str, Callable[[bytes, dict[int, bytes]], UnmaskRequest]]] = [
        ("one short", lambda sid, held: UnmaskRequest(sid, tuple(held.items())[:3])),
        ("one twice", lambda sid, held: UnmaskRequest(sid, (*tuple(held.items())[:3], next(iter(held.items()))))),
        ("another session's", lambda sid, held: UnmaskRequest(sid, tuple(foreign.items()))),
        ("another session", lambda sid, held: UnmaskRequest(sha("sid"), tuple(held.items()))),
        ("nobody's", lambda sid, held: UnmaskRequest(sid, (*tuple(held.items())[:3], (4, bytes(64))))),
        ("a stranger's", lambda sid, held: UnmaskRequest(sid, (*tuple(held.items())[:3], (77, held[3])))),
        ("another name", lambda sid, held: UnmaskRequest(sid, (*tuple(held.items())[:3], (4, held[3])))),
    ]
    for _, lie in cases:
        attempt = lab()
        sid, held = signatures(attempt)
        assert len(held) == 4
        attempt.tell(0, Kind.QUORUM, lie(sid, held).data)
        assert attempt.code(0) is Code.QUORUM
        assert not attempt.revealed(0)
        assert attempt.members[0].secrets is None
    assert late.context.gamma_ppm == 0


def test_row_33_a_signature_from_outside_the_survivors_does_not_count() -> None:
    """Member 4 is out, and signs all the same: with it there would be T."""
    attempt = lab()
    attempt.up = only(4, Kind.INPUT, lambda _: None)
    attempt.run()
    attempt.time_up()
    attempt.up = only(3, Kind.SIGNATURE, lambda _: None)
    attempt.run()
    session = attempt.server.attempt
    assert session is not None
    assert len(attempt.server.signatures) == 3
    state = attempt.members[0]
    body = SurvivorSignature.signed(session.sid, state.record.signed[:32], state.record.signed[32:])
    outside = shared.sign(attempt.identities[4], Name.SURVIVORS_SIGNED, body)
    attempt.tell(0, Kind.QUORUM, UnmaskRequest(session.sid, (*attempt.server.signatures.items(), (4, outside))).data)
    assert attempt.code(0) is Code.QUORUM
    with pytest.raises(FaultError) as caught:
        server.apply(attempt.server, From(4, Kind.SIGNATURE, SurvivorSignature(session.sid, 4, outside).data))
    assert caught.value.fault.code is Code.QUORUM_SIG


@pytest.mark.parametrize(
    ("survivors", "wanted"),
    [((0, 1, 2), Code.TOO_FEW), ((1, 2, 3, 4), Code.U2_SET)],
    ids=["one below the quorum", "without itself"],
)
def test_row_34_survivors_that_are_too_few_or_not_ones_own_are_refused(
    survivors: tuple[int, ...], wanted: Code
) -> None:
    attempt = masked()
    attempt.tell(0, Kind.SURVIVORS, request(attempt, dict(attempt.server.inputs), 0, survivors))
    assert attempt.code(0) is wanted


def test_row_34_a_survivor_who_did_not_share_and_a_bit_beyond_the_last_member_are_refused() -> None:
    attempt = lab()
    attempt.lose(4)
    attempt.up = only(4, Kind.SHARES, lambda _: None)
    attempt.gone.clear()
    attempt.run()
    attempt.time_up()
    attempt.run(ServerPhase.SIGN)
    assert attempt.server.sharers == {0, 1, 2, 3}
    everybody = SurvivorRequest.decode(request(attempt, dict(attempt.server.inputs), 0, (0, 1, 2, 3)), 5)
    attempt.tell(0, Kind.SURVIVORS, dataclasses.replace(everybody, survivors=(0, 1, 2, 3, 4)).data)
    assert attempt.code(0) is Code.U2_SET
    attempt.tell(1, Kind.SURVIVORS, everybody.data[:32] + bytes((0b101111,)) + everybody.data[33:])
    assert attempt.code(1) is Code.ENCODING


def test_row_34_the_smallest_cohort_binds_the_survivors_too() -> None:
    attempt = masked(min_cohort=5)
    attempt.tell(0, Kind.SURVIVORS, request(attempt, dict(attempt.server.inputs), 0, (0, 1, 2, 3)))
    assert attempt.code(0) is Code.TOO_FEW


@pytest.mark.parametrize("kind", [Kind.SURVIVORS, Kind.DELIVERY])
def test_messages_of_another_session_end_the_attempt(kind: Kind) -> None:
    attempt = lab()
    attempt.down = only(4, kind, lambda data: sha("sid") + data[32:])
    goes_on_without_shares(attempt, 4)
    assert attempt.code(4) is Code.CTX_MISMATCH


def goes_on_without_shares(attempt: Lab, member: int) -> None:
    attempt.run()
    assert attempt.exact()
    assert not attempt.revealed(member)


# ------------------------------------------------------------------- shares to unmask with


def unmasked(member: int, change: Callable[[Unmask], Unmask], **more: object) -> Lab:
    """A lying partner's shares."""
    attempt = lab(**more)
    attempt.up = only(member, Kind.UNMASK, lambda data: change(Unmask.decode(data)).data)
    return attempt


def share_at(message: Unmask, place: int, **changes: object) -> Unmask:
    item = dataclasses.replace(message.shares[place], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(message, shares=(*message.shares[:place], item, *message.shares[place + 1 :]))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda m: dataclasses.replace(m, shares=(*m.shares, Revealed(0, SECRET, bytes(32)))), Code.BOTH_SHARES),
        (lambda m: dataclasses.replace(m, shares=m.shares[1:]), Code.UNMASK_SET),
        (lambda m: dataclasses.replace(m, shares=m.shares[::-1]), Code.UNMASK_SET),
        (lambda m: share_at(m, 1, kind=SECRET), Code.UNMASK_SET),
        (lambda m: share_at(m, 1, dealer=77), Code.UNMASK_SET),
        (lambda m: dataclasses.replace(m, sid=sha("sid")), Code.CTX_MISMATCH),
        (lambda m: dataclasses.replace(m, id=1), Code.CTX_MISMATCH),
    ],
    ids=["both", "one short", "out of order", "the other kind", "a stranger's", "another session", "another's name"],
)
def test_row_35_shares_that_were_not_asked_for_are_refused(change: Callable[[Unmask], Unmask], wanted: Code) -> None:
    attempt = unmasked(0, change)
    attempt.run()
    assert attempt.refusals()[0] == (0, wanted)
    assert attempt.exact()


@pytest.mark.parametrize(
    "value", [encode_scalar(5), encode_scalar(0), P.to_bytes(32, "big"), b"\xff" * 32], ids=["5", "0", "p", "max"]
)
@pytest.mark.parametrize("place", [0, 1, 4])
def test_row_36_a_wrong_share_is_set_aside_both_are_named_and_the_sum_still_comes(value: bytes, place: int) -> None:
    attempt = unmasked(0, lambda m: share_at(m, place, share=value))
    attempt.run()
    assert attempt.exact()
    (fault,) = attempt.server.set_aside
    assert fault.code is Code.SHARE_COMMIT
    assert fault.blamed == (place, 0)


def test_row_37_a_share_of_another_holder_is_set_aside() -> None:
    attempt = lab()
    attempt.run(ServerPhase.UNMASK)
    other = attempt.members[1].held[2]
    attempt.up = only(
        0, Kind.UNMASK, lambda data: share_at(Unmask.decode(data), 2, share=encode_scalar(other.own)).data
    )
    attempt.run()
    assert attempt.exact()
    assert [fault.blamed for fault in attempt.server.set_aside] == [(2, 0)]


@pytest.mark.parametrize("profile", list(Profile))
def test_row_38_one_responder_too_few_gives_nothing(profile: Profile) -> None:
    attempt = lab(profile=profile)
    attempt.up = only(4, Kind.INPUT, lambda _: None)
    attempt.run()
    attempt.time_up()
    attempt.run(ServerPhase.UNMASK)
    session = attempt.server.attempt
    assert session is not None
    silent = {0, 1, 2, 3} - set(range(session.roster.t - 1))
    attempt.up = lambda member, kind, data: None if kind is Kind.UNMASK and member in silent else data
    attempt.run()
    attempt.time_up()
    assert attempt.ended is not None
    assert attempt.ended.fault.code is Code.RECON_FEW
    assert attempt.ended.absent == tuple(sorted(silent))
    assert attempt.result is None
    assert attempt.server.phase is ServerPhase.ABORTED


@pytest.mark.parametrize("kind", ["secret", "own"])
def test_row_39_a_dealer_whose_committed_shares_lie_on_no_polynomial_is_blamed(kind: str) -> None:
    """It dealt member 4 something else, and committed to that; as a survivor, or as one who drops out."""
    attempt = lab()

    def lie(keys: ShareKeys) -> ShareKeys:
        state = attempt.members[0]
        session = state.attempt
        assert session is not None
        assert state.secrets is not None
        cipher, bound = client._box_key(state, shared.private_key(state.secrets.encryption), 0, 1)
        honest = cipher.decrypt(keys.boxes[0][1][:12], keys.boxes[0][1][12:], bound)
        values = [decode_scalar(honest[:32]), decode_scalar(honest[32:])]
        values[kind == "own"] += 1
        box = bytes(12) + cipher.encrypt(bytes(12), b"".join(encode_scalar(value) for value in values), bound)
        commits = (session.share_commit(0, 1, "s", values[0]), session.share_commit(0, 1, "b", values[1]))
        return dataclasses.replace(
            keys, boxes=((1, box), *keys.boxes[1:]), commits=(keys.commits[0], commits, *keys.commits[2:])
        )

    dealt(attempt, 0, lie)
    dealer = attempt.up
    if kind == "secret":
        attempt.up = lambda member, what, data: (
            None if (member, what) == (0, Kind.INPUT) else dealer(member, what, data)
        )
    attempt.run()
    attempt.time_up()
    attempt.run()
    assert attempt.ended is not None
    assert attempt.ended.fault.code is Code.RECON_MISMATCH
    assert attempt.ended.fault.blamed == (0,)
    assert attempt.result is None
    assert all(attempt.code(member) is Code.RECON_MISMATCH for member in range(1, 5))


# ------------------------------------------------------------------- crashes, storage


@pytest.mark.parametrize("phase", [ServerPhase.SHARE, ServerPhase.INPUT, ServerPhase.SIGN, ServerPhase.UNMASK])
@pytest.mark.parametrize("said", [True, False], ids=["comes back", "stays away"])
def test_row_41_a_killed_client_costs_its_own_contribution_at_most(phase: ServerPhase, said: bool) -> None:
    attempt = lab()
    attempt.run(phase)
    attempt.lose(0)
    attempt.queue = [message for message in attempt.queue if message.id != 0]
    if said:
        attempt.feed(From(0, Kind.ABORT, Abort(attempt.context.ctx, Code.RESTARTED).data))
    attempt.run()
    while attempt.server.phase < ServerPhase.DONE:
        assert not said
        attempt.time_up()
        attempt.run()
    assert attempt.exact()
    assert (0 in attempt.survivors) == (phase >= ServerPhase.SIGN)


def test_row_41_an_abort_of_another_attempt_changes_nothing() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    attempt.feed(From(0, Kind.ABORT, Abort(sha("an older ctx"), Code.RESTARTED).data))
    assert attempt.refusals() == [(0, Code.CTX_MISMATCH)]
    assert not attempt.server.gone
    attempt.run()
    assert attempt.survivors == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("phase", [phase for phase in ServerPhase if phase < ServerPhase.DONE])
def test_row_43_a_server_that_was_killed_in_any_phase_comes_to_the_same_sum(
    phase: ServerPhase, profile: Profile
) -> None:
    whole = lab(profile=profile)
    whole.run()
    attempt = lab(profile=profile)
    attempt.run(phase)
    while attempt.queue:
        attempt.restart_server()
        before = len(attempt.log)
        attempt.deliver(attempt.queue.pop(0))
        for message in list(attempt.queue):
            attempt.deliver(message)
        assert len(attempt.log) > before
        if attempt.server.phase >= ServerPhase.DONE:
            break
    assert attempt.server.phase is ServerPhase.DONE
    assert attempt.result is not None
    assert whole.result is not None
    assert attempt.result.tobytes() == whole.result.tobytes()
    assert not attempt.refused
    assert not attempt.faults


def test_row_44_what_is_not_finite_is_refused_and_what_is_too_large_is_clipped() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(FaultError) as caught:
            quantise(np.array([0.0, value], np.float32), 10.0, 100, bytes(16))
        assert caught.value.fault.code is Code.NONFINITE
    assert quantise(np.array([1e308, -1e308, 50.0]), 1e10, 100, bytes(16)).tolist() == [100, -100, 100]


@pytest.mark.parametrize("lane", [0, 7, 8, 9])
@pytest.mark.parametrize("bit", [0, 5])
def test_row_45_one_flipped_bit_of_the_accumulator_is_found(lane: int, bit: int) -> None:
    attempt = lab()
    attempt.run(ServerPhase.UNMASK)
    attempt.total[lane] ^= attempt.total.dtype.type(1 << bit)
    attempt.run()
    assert attempt.result is None
    assert attempt.ended is not None
    assert attempt.ended.fault.code is Code.SUM_CHECK


def test_a_hash_of_shares_names_its_kind() -> None:
    attempt = masked()
    session = attempt.server.attempt
    assert session is not None
    assert session.share_commit(0, 1, "s", 5) != session.share_commit(0, 1, "b", 5)
    assert session.share_commit(0, 1, "s", 5) != session.share_commit(1, 0, "s", 5)
    assert digest(Name.SHARES, b"") != digest(Name.SHARES_BODY, b"")
    assert (SELF, SECRET) == (0, 1)
    assert attempt.server.phase is ServerPhase.SIGN
    attempt.feed(TimeUp())
    assert attempt.ended is not None
    assert attempt.ended.fault.code is Code.TIMEOUT
