"""What each machine owes itself beside the listed attacks: repeats, order, aborts, members that are not invited."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import pytest

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client, masks, messages
from aimass.privacy.secagg.client_state import Ended, Kind, Packed, Phase, Send, SendInput
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import Abort, Advertise, RosterMessage
from aimass.privacy.secagg.packing import pack, packed_bytes
from aimass.privacy.secagg.parameters import Parameters, Profile, corrupted, quorum, secure
from aimass.privacy.secagg.quantise import check_lanes, to_lanes
from aimass.privacy.secagg.server_state import From, Input
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from aimass.proto.storage import scratch
from tests.support.secagg import Lab, sha
from tests.support.secagg_lies import goes_on_without, lab, resigned, with_roster

# ------------------------------------------------------------------- members


def test_an_advertisement_of_a_pinned_partner_that_is_not_invited_is_refused() -> None:
    """Its signature holds, and its name is in the pinned roster: it is not in this attempt all the same."""
    six, attempt = Lab(6), lab()
    attempt.run(ServerPhase.SHARE)
    six.context = attempt.context
    guest = Advertise(5, shared.public_bytes(sha("e")), shared.public_bytes(sha("m")), bytes(32), b"")
    signed = resigned(six, guest)
    assert shared.verify(six.keys[5], Name.ADVERTISE, attempt.context.ctx + signed.body, signed.signature)
    with pytest.raises(FaultError) as caught:
        shared.check_ads(attempt.context, [signed], six.keys)
    assert caught.value.fault.code is Code.ROSTER


def test_an_advertisement_of_an_invited_member_that_the_roster_does_not_pin_is_refused() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    with pytest.raises(FaultError) as caught:
        shared.check_ads(attempt.context, [attempt.server.ads[4]], {i: attempt.keys[i] for i in range(4)})
    assert caught.value.fault.code is Code.ROSTER


def test_a_ring_is_refused_where_the_rule_is_the_complete_graph_however_secure_it_is() -> None:
    attempt = Lab(100, gamma_ppm=10_000)
    attempt.run(ServerPhase.SHARE)
    roster = attempt.server.roster
    assert roster is not None
    c = corrupted(100, 10_000)
    k, t = next((k, t) for k in range(2, 98, 2) for t in range(2, k + 2) if secure(100, k, t, c, Profile.MALICIOUS))
    ring = dataclasses.replace(roster, **dataclasses.asdict(Parameters(k, t, quorum(100, c), c)))
    with pytest.raises(FaultError) as caught:
        shared.check_parameters(attempt.context, ring)
    assert caught.value.fault.code is Code.PARAM_MISMATCH


# ------------------------------------------------------------------- the client: repeats and order


@pytest.mark.parametrize("kind", [Kind.ROSTER, Kind.DELIVERY, Kind.QUORUM, Kind.START])
def test_another_message_of_one_kind_is_equivocation_and_ends_the_attempt(kind: Kind) -> None:
    seen: list[bytes] = []

    def note(member: int, what: Kind, data: bytes) -> bytes:
        if (member, what) == (0, kind):
            seen.append(data)
        return data

    attempt = lab(down=note)
    attempt.run(ServerPhase.DONE)
    attempt.run()
    attempt.tell(0, kind, seen[0][:-1] + bytes((seen[0][-1] ^ 1,)))
    assert attempt.code(0) is Code.EQUIVOCATION
    assert attempt.members[0].phase is Phase.ABORTED


def test_the_same_message_gets_the_same_answer_in_every_later_phase_and_makes_nothing_durable() -> None:
    attempt = lab()
    told: list[tuple[Kind, bytes]] = []

    def note(member: int, kind: Kind, data: bytes) -> bytes:
        if member == 0:
            told.append((kind, data))
        return data

    attempt.down = note
    attempt.run()
    before = [(kind, data) for member, kind, data in attempt.sent if member == 0]
    for kind, data in told:
        same, actions = client.receive(attempt.members[0], kind, data, attempt.random[0])
        assert same is attempt.members[0]
        for action in actions:
            match action:
                case Send(what, text):
                    assert (what, text) in before
                case SendInput(_, payload):
                    assert payload == attempt.payloads[0]
                case _:
                    raise AssertionError(action)


@pytest.mark.parametrize("kind", [Kind.SEEDS, Kind.DELIVERY, Kind.SURVIVORS, Kind.QUORUM, Kind.ADVERTISE])
def test_a_message_before_its_phase_ends_the_attempt(kind: Kind) -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    attempt.tell(0, kind, bytes(64))
    assert attempt.code(0) is Code.STATE
    goes_on_without(attempt, 0)


def test_a_roster_of_another_context_is_refused() -> None:
    attempt = with_roster(lab(), 0, lambda r: dataclasses.replace(r, ctx=sha("ctx")))
    goes_on_without(attempt, 0)
    assert attempt.code(0) is Code.CTX_MISMATCH


@pytest.mark.parametrize("phase", [ServerPhase.SHARE, ServerPhase.SIGN])
def test_an_abort_of_this_attempt_ends_it_quietly_and_one_of_another_by_name(phase: ServerPhase) -> None:
    for foreign in (False, True):
        attempt = lab()
        attempt.run(phase)
        session = attempt.members[0].attempt
        about = sha("another") if foreign else session.sid if session is not None else attempt.context.ctx
        state, actions = client.receive(
            attempt.members[0], Kind.ABORT, Abort(about, Code.TOO_FEW, (3,)).data, attempt.random[0]
        )
        assert state.phase is Phase.ABORTED
        assert (state.secrets, state.held, state.lanes, state.answers) == (None, {}, None, {})
        ended = actions[-1]
        assert isinstance(ended, Ended)
        assert ended.fault is not None
        assert ended.fault.code is (Code.CTX_MISMATCH if foreign else Code.TOO_FEW)
        assert len(actions) == 1 + foreign
        assert client.receive(state, Kind.ABORT, b"", attempt.random[0]) == (state, ())


def test_an_attempts_ctx_names_it_in_an_abort_after_the_roster_too() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SIGN)
    attempt.tell(0, Kind.ABORT, Abort(attempt.context.ctx, Code.TIMEOUT).data)
    assert attempt.code(0) is Code.TIMEOUT


def test_an_input_is_given_once_before_or_after_the_shares_and_masks_once() -> None:
    early = lab()
    early.run(ServerPhase.SHARE)
    state = early.members[0]
    assert state.lanes is not None
    with pytest.raises(ValueError, match="one input"):
        client.encoded(state, state.lanes.data)
    early.run()
    again, actions = client.encoded(early.members[0], bytes(len(state.lanes.data)))
    assert not actions
    assert again is early.members[0]


def test_an_input_that_is_ready_after_the_shares_is_masked_then() -> None:
    attempt = lab()
    attempt.run(ServerPhase.INPUT)
    state = attempt.members[0]
    lanes, waiting = state.lanes, dataclasses.replace(state, lanes=None)
    assert lanes is not None
    delivery = next(message for message in attempt.queue if message.id == 0)
    waiting, actions = client.receive(waiting, Kind.DELIVERY, delivery.data, attempt.random[0])
    assert (waiting.phase, actions) == (Phase.DELIVERED, ())
    assert client.receive(waiting, Kind.DELIVERY, delivery.data, attempt.random[0]) == (waiting, ())
    done, late = client.encoded(waiting, lanes.data)
    direct, early = client.receive(state, Kind.DELIVERY, delivery.data, attempt.random[0])
    assert late == early
    assert done.record == direct.record
    assert client.receive(done, Kind.DELIVERY, delivery.data, attempt.random[0])[1] == late[1:]


@pytest.mark.parametrize("lanes", [1, 8, (1 << 16) - 2, 1 << 16, (1 << 17) + 5])
def test_an_input_that_is_masked_in_blocks_is_the_one_that_is_masked_whole(
    lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Lab(3, data_lanes=lanes, gamma_ppm=0)
    keys: list[tuple[list[bytes], list[bytes]]] = []

    def seen(plus: list[bytes], minus: list[bytes]) -> masks.Masks:
        keys.append((plus, minus))
        return masks.Masks(plus, minus)

    monkeypatch.setattr(client, "Masks", seen)
    attempt.run(ServerPhase.SIGN)
    assert len(keys) == 3
    for member, (plus, minus) in enumerate(keys):
        whole = check_lanes(attempt.context, to_lanes(attempt.inputs[member], attempt.bits))
        masks.add_masks(whole, plus, minus)
        masks.cut(whole, attempt.bits)
        assert attempt.payloads[member] == pack(whole, attempt.bits)


def test_an_input_of_another_length_than_the_round_ends_the_attempt_by_name() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    state = attempt.members[0]
    assert state.lanes is not None
    attempt.members[0] = dataclasses.replace(state, lanes=Packed(bytes(state.lanes.data) + b"\0", bytearray))
    attempt.run()
    assert attempt.code(0) is Code.ENCODING


def test_masking_takes_the_memory_of_some_blocks_beside_the_room_that_it_is_given(tmp_path: Path) -> None:
    """Of 8 MB of lanes, which come from a file and go into one."""
    attempt = Lab(3, data_lanes=2_000_000, gamma_ppm=0)
    attempt.run(ServerPhase.INPUT)
    state = dataclasses.replace(attempt.members[0], lanes=None)
    kept = bytes(packed_bytes(2_000_000, attempt.bits))
    delivery = next(message for message in attempt.queue if message.id == 0)
    state, _ = client.receive(state, Kind.DELIVERY, delivery.data, attempt.random[0])
    tracemalloc.start()
    try:
        state, actions = client.encoded(state, kept, lambda size: scratch(tmp_path, size))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert state.phase is Phase.MASKED
    assert peak < 6 << 20
    assert list(tmp_path.iterdir()) == []
    assert any(isinstance(action, SendInput) and any(action.payload) for action in actions)


# ------------------------------------------------------------------- the server: order and names


@pytest.mark.parametrize("kind", [Kind.START, Kind.ROSTER, Kind.DELIVERY, Kind.QUORUM])
def test_a_member_that_speaks_as_a_server_is_refused(kind: Kind) -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    attempt.feed(From(0, kind, bytes(100)))
    assert attempt.refusals() == [(0, Code.STATE)]
    goes_on_without(attempt)


def test_messages_before_their_phase_are_refused_and_after_it_are_late() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    sid = sha("sid")
    session = attempt.server.attempt
    assert session is not None
    attempt.feed(From(0, Kind.SIGNATURE, messages.SurvivorSignature(session.sid, 0, bytes(64)).data))
    attempt.feed(From(0, Kind.UNMASK, messages.Unmask(session.sid, 0, ()).data))
    attempt.feed(From(0, Kind.SIGNATURE, messages.SurvivorSignature(sid, 0, bytes(64)).data))
    attempt.feed(From(0, Kind.SIGNATURE, messages.SurvivorSignature(session.sid, 1, bytes(64)).data))
    assert attempt.refusals() == [
        (0, Code.STATE), (0, Code.CTX_MISMATCH), (0, Code.CTX_MISMATCH), (0, Code.CTX_MISMATCH)
    ]  # fmt: skip
    goes_on_without(attempt)
    attempt.feed(From(0, Kind.ADVERTISE, attempt.server.ads[0].data))
    assert attempt.refusals()[-1] == (0, Code.LATE)


def test_shares_that_come_after_the_sharers_were_fixed_are_late() -> None:
    attempt = lab()
    held: list[bytes] = []
    attempt.up = lambda member, kind, data: held.append(data) if (member, kind) == (0, Kind.SHARES) else data
    attempt.run()
    attempt.time_up()
    attempt.feed(From(0, Kind.SHARES, held[0]))
    assert attempt.refusals() == [(0, Code.LATE)]
    goes_on_without(attempt, 0)


def test_a_wrong_signature_over_the_survivors_is_refused_and_its_sender_named() -> None:
    attempt = lab()
    attempt.up = lambda member, kind, data: (
        data[:-1] + bytes((data[-1] ^ 1,)) if (member, kind) == (0, Kind.SIGNATURE) else data
    )
    attempt.run()
    assert attempt.refusals()[0] == (0, Code.QUORUM_SIG)
    assert attempt.refused[0][1].blamed == (0,)
    assert attempt.exact()


def test_a_second_different_message_of_each_phase_is_equivocation() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SIGN)
    attempt.deliver(attempt.queue.pop(0))
    session = attempt.server.attempt
    assert session is not None
    attempt.feed(From(0, Kind.SIGNATURE, messages.SurvivorSignature(session.sid, 0, bytes(64)).data))
    keys = attempt.server.keys[0]
    attempt.feed(From(0, Kind.SHARES, dataclasses.replace(keys, signature=bytes(64)).data))
    assert attempt.refusals() == [(0, Code.EQUIVOCATION)] * 2
    goes_on_without(attempt)


def test_members_that_leave_are_waited_for_no_more() -> None:
    for phase in (ServerPhase.ADVERTISE, ServerPhase.SHARE, ServerPhase.INPUT):
        attempt = lab()
        attempt.run(phase)
        attempt.lose(0)
        attempt.feed(From(0, Kind.ABORT, Abort(attempt.context.ctx, Code.POLICY).data))
        attempt.run()
        assert attempt.exact(), phase
        assert 0 not in attempt.survivors


def test_an_attempt_that_lost_too_many_ends_at_once_and_says_who_is_missing() -> None:
    for phase, wanted in (
        (ServerPhase.SHARE, Code.TOO_FEW), (ServerPhase.INPUT, Code.TOO_FEW), (ServerPhase.SIGN, Code.TIMEOUT),
        (ServerPhase.UNMASK, Code.RECON_FEW),
    ):  # fmt: skip
        attempt = lab()
        attempt.run(phase)
        attempt.lose(0, 1)
        for member in (0, 1):
            attempt.feed(From(member, Kind.ABORT, Abort(attempt.context.ctx, Code.RESTARTED).data))
        attempt.run()
        assert attempt.ended is not None, phase
        assert attempt.ended.fault.code is wanted
        assert attempt.ended.absent == (0, 1)
        assert attempt.result is None


def test_an_invitation_of_too_few_ends_at_its_deadline() -> None:
    for n, more in ((1, {}), (2, {"gamma_ppm": 100_000}), (3, {"min_cohort": 4})):
        attempt = Lab(n, **more)  # type: ignore[arg-type]
        attempt.give()
        attempt.time_up()
        assert attempt.ended is not None
        assert attempt.ended.fault.code is Code.TOO_FEW
        small = Lab(n, **more)  # type: ignore[arg-type]
        small.run()
        assert small.result is None or n == 2


def test_a_roster_message_is_what_members_hash() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    roster = attempt.server.roster
    assert roster is not None
    assert RosterMessage.decode(roster.data) == roster


def test_a_stranger_cannot_even_leave() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    attempt.feed(From(9, Kind.ABORT, Abort(attempt.context.ctx, Code.POLICY).data))
    assert attempt.refusals() == [(9, Code.ROSTER)]
    assert not attempt.server.gone


def test_a_reveal_of_a_member_that_did_not_advertise_is_refused() -> None:
    attempt = Lab(130)
    attempt.lose(129)
    attempt.run()
    attempt.time_up()
    assert attempt.server.phase is ServerPhase.REVEAL
    attempt.feed(From(129, Kind.SEED, messages.SeedReveal(attempt.context.ctx, 129, bytes(32)).data))
    assert attempt.refusals() == [(129, Code.CTX_MISMATCH)]


def test_an_input_of_a_member_that_did_not_share_is_refused() -> None:
    attempt = lab()
    attempt.up = lambda member, kind, data: None if (member, kind) == (4, Kind.SHARES) else data
    attempt.run()
    attempt.time_up()
    session, length = attempt.server.attempt, packed_bytes(attempt.context.lanes, attempt.bits)
    assert session is not None
    sharers = session.set_digest(Name.SHARERS, attempt.server.sharers)
    body = messages.MaskedInput.signed(session.sid, 4, sharers, sha("payload"))
    signature = shared.sign(attempt.identities[4], Name.INPUT, body)
    header = messages.MaskedInput(session.sid, 4, sharers, length, sha("payload"), signature)
    attempt.feed(Input(4, header.data, length, sha("payload"), padded=True))
    assert attempt.refusals() == [(4, Code.CTX_MISMATCH)]
    goes_on_without(attempt, 4)


def test_a_transfer_that_found_another_length_or_padding_than_it_was_told_is_refused() -> None:
    attempt = lab()
    held: list[bytes] = []
    attempt.up = lambda member, kind, data: held.append(data) if (member, kind) == (4, Kind.INPUT) else data
    attempt.run()
    header = messages.MaskedInput.decode(held[0][:172])
    for length, padded in ((header.length - 1, True), (header.length + 1, True), (header.length, False)):
        attempt.feed(Input(4, header.data, length, header.payload_digest, padded))
    assert attempt.refusals() == [(4, Code.INPUT_LEN)] * 3
    goes_on_without(attempt, 4)
