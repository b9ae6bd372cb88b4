"""What must fail before an input is masked (rows 1 to 23 and 40 to 42 of the protocol's list), at the machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from aimass.privacy.roster import Member, MemberRole, Roster, decode_roster
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client, messages, server
from aimass.privacy.secagg.attempt import check_parameters
from aimass.privacy.secagg.client_state import ClientState, Kind, Phase
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.field import P
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import Advertise, RosterMessage, SeedReveal, SeedSet, ShareDelivery, ShareKeys
from aimass.privacy.secagg.parameters import Parameters, Profile, propose
from aimass.privacy.secagg.server_state import From, TimeUp
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from aimass.proto.errors import AimassError
from tests.support.secagg import Lab, flip, only, sha
from tests.support.secagg_lies import (
    dealt,
    delivered,
    goes_on_without,
    lab,
    signed_ad,
    started,
    with_ad,
    with_roster,
)
from tests.support.secagg_vectors import bad_exchange_keys

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point."""


# ------------------------------------------------------------------- advertisements


def test_row_1_a_wrong_signature_is_refused_by_the_server() -> None:
    attempt = lab(up=only(0, Kind.ADVERTISE, lambda data: flip(data, 8 * 163)))
    goes_on_without(attempt, 0)
    assert attempt.refusals() == [(0, Code.ADV_SIG)]


def test_row_1_a_wrong_signature_is_refused_by_every_client_that_is_shown_it() -> None:
    attempt = with_roster(lab(), 0, lambda r: with_ad(r, 3, Advertise.decode(flip(r.ads[3].data, 8 * 163))))
    goes_on_without(attempt, 0)
    assert attempt.code(0) is Code.ADV_SIG
    assert attempt.faults[0].blamed == (3,)


@pytest.mark.parametrize("other", [{"round": 6}, {"attempt": 1}])
def test_rows_2_and_3_an_advertisement_of_another_round_or_attempt_is_refused(other: dict[str, int]) -> None:
    old = lab(**other)
    old.run(ServerPhase.SHARE)
    stale = old.server.ads[0]
    attempt = lab(up=only(0, Kind.ADVERTISE, lambda _: stale.data))
    goes_on_without(attempt, 0)
    assert attempt.refusals() == [(0, Code.ADV_SIG)]
    shown = with_roster(lab(), 1, lambda r: with_ad(r, 0, stale))
    goes_on_without(shown, 1)
    assert shown.code(1) is Code.ADV_SIG


def test_row_4_an_id_that_is_not_invited_is_refused() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    attempt.feed(From(9, Kind.ADVERTISE, attempt.server.ads[0].data))
    assert attempt.refusals() == [(9, Code.ROSTER)]
    attempt.feed(From(1, Kind.ADVERTISE, attempt.server.ads[0].data))
    assert attempt.refusals()[1:] == [(1, Code.ROSTER)]
    goes_on_without(attempt)


def test_row_4_a_client_refuses_a_roster_with_an_invented_member() -> None:
    invented = Advertise(9, sha("a"), shared.public_bytes(sha("b")), bytes(32), bytes(64))
    attempt = with_roster(lab(), 0, lambda r: dataclasses.replace(r, ads=(*r.ads, invented)))
    goes_on_without(attempt, 0)
    assert attempt.code(0) is Code.ROSTER


def test_row_4_a_start_that_invites_an_unknown_member_is_refused() -> None:
    attempt = lab()
    context = dataclasses.replace(attempt.context, ids=(*attempt.context.ids, 9))
    assert started(attempt, context) is Code.ROSTER


def test_row_5_an_identity_that_is_not_the_pinned_one_is_refused() -> None:
    attempt = lab()
    attempt.up = only(0, Kind.ADVERTISE, lambda data: data[:100] + attempt.identities[1].sign(b"x"))
    goes_on_without(attempt, 0)
    assert attempt.refusals() == [(0, Code.ADV_SIG)]
    fresh = lab()
    assert started(fresh, dataclasses.replace(fresh.context, roster_digest=sha("another"))) is Code.ROSTER


@pytest.mark.parametrize("key", [key for key in bad_exchange_keys() if len(key) == 64])
@pytest.mark.parametrize("field", ["encryption_key", "mask_key"])
def test_rows_6_to_8_bad_keys_are_refused_by_server_and_client(key: str, field: str) -> None:
    attempt = lab()
    attempt.up = only(0, Kind.ADVERTISE, lambda _: signed_ad(attempt, 0, **{field: bytes.fromhex(key)}))
    goes_on_without(attempt, 0)
    assert attempt.refusals() == [(0, Code.PK_INVALID)]
    shown = lab()
    with_roster(shown, 1, lambda r: with_ad(r, 0, Advertise.decode(signed_ad(shown, 0, **{field: bytes.fromhex(key)}))))
    goes_on_without(shown, 1)
    assert shown.code(1) is Code.PK_INVALID


def test_row_9_an_identity_key_of_small_order_is_refused_as_the_roster_loads_and_verifies_nothing() -> None:
    key = b"\1" + bytes(31)
    forged = key + bytes(32)
    assert not shared.verify(key, Name.ADVERTISE, b"anything", forged)
    good = Roster.of(1, [Member(1, MemberRole.SERVER, "server", sha("x"), sha("y"))])
    bad = good.data.replace(sha("x"), key)
    with pytest.raises(AimassError):
        decode_roster(bad)


def test_row_10_a_signature_with_a_second_encoding_is_refused() -> None:
    def twin(data: bytes) -> bytes:
        scalar = int.from_bytes(data[-32:], "little") + ORDER
        return data[:-32] + scalar.to_bytes(32, "little")

    attempt = lab(up=only(0, Kind.ADVERTISE, twin))
    goes_on_without(attempt, 0)
    assert attempt.refusals() == [(0, Code.ADV_SIG)]


@pytest.mark.parametrize("field", ["encryption_key", "mask_key"])
@pytest.mark.parametrize("taken", ["encryption_key", "mask_key"])
def test_row_11_a_key_that_another_member_has_is_refused(field: str, taken: str) -> None:
    attempt = lab()
    attempt.up = only(
        4, Kind.ADVERTISE, lambda _: signed_ad(attempt, 4, **{field: getattr(attempt.server.ads[1], taken)})
    )
    goes_on_without(attempt, 4)
    assert attempt.refusals() == [(4, Code.PK_DUPLICATE)]
    assert attempt.refused[0][1].blamed == (1, 4)


def test_row_11_a_client_refuses_one_key_in_two_places_of_a_roster() -> None:
    attempt = lab()

    def twice(roster: RosterMessage) -> RosterMessage:
        return with_ad(roster, 4, Advertise.decode(signed_ad(attempt, 4, encryption_key=roster.ads[2].encryption_key)))

    goes_on_without(with_roster(attempt, 0, twice), 0)
    assert attempt.code(0) is Code.PK_DUPLICATE
    own = lab()
    own.up = only(3, Kind.ADVERTISE, lambda _: signed_ad(own, 3, mask_key=own.members[3].ad.encryption_key))  # type: ignore[union-attr]
    goes_on_without(own, 3)
    assert own.refusals() == [(3, Code.PK_DUPLICATE)]


def test_a_second_different_advertisement_is_equivocation_and_the_first_stays() -> None:
    attempt = lab()
    attempt.run(ServerPhase.SHARE)
    first = attempt.server.ads[2]
    attempt.feed(From(2, Kind.ADVERTISE, signed_ad(attempt, 2, mask_key=shared.public_bytes(sha("other")))))
    attempt.feed(From(2, Kind.ADVERTISE, first.data))
    assert attempt.refusals() == [(2, Code.EQUIVOCATION)]
    assert attempt.server.ads[2] == first
    goes_on_without(attempt)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: with_ad(r, 0, dataclasses.replace(r.ads[0], mask_key=shared.public_bytes(sha("server's")))),
        lambda r: dataclasses.replace(r, ads=r.ads[1:]),
    ],
    ids=["altered", "dropped"],
)
def test_row_12_a_client_refuses_a_roster_without_its_own_keys(
    change: Callable[[RosterMessage], RosterMessage],
) -> None:
    attempt = with_roster(lab(), 0, change)
    goes_on_without(attempt, 0)
    assert attempt.code(0) is Code.OWN_KEYS


# ------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    "changes",
    [{"t": 3}, {"T": 3}, {"T": 5}, {"k": 3}, {"k": 2, "t": 3}, {"c": 0}, {"c": 2}, {"c": 0, "T": 3, "t": 3}, {"t": 5}],
    ids=str,
)
def test_row_13_parameters_that_are_not_secure_are_refused(changes: dict[str, int]) -> None:
    attempt = with_roster(lab(), 0, lambda r: dataclasses.replace(r, **changes))  # type: ignore[arg-type]
    goes_on_without(attempt, 0)
    assert attempt.code(0) is Code.PARAM_MISMATCH


RING = propose(129, 100_000, 100_000, Profile.MALICIOUS)


@pytest.mark.parametrize(
    "wrong",
    [
        dataclasses.replace(RING, t=RING.t - 1),
        dataclasses.replace(RING, k=RING.k + 1),
        dataclasses.replace(RING, k=RING.k - 2, t=RING.t - 2),
        dataclasses.replace(RING, k=0),
        dataclasses.replace(RING, k=2, t=2),
        dataclasses.replace(RING, t=RING.k // 2 + 1),
        dataclasses.replace(RING, t=RING.k + 2),
        dataclasses.replace(RING, T=RING.T - 1),
        dataclasses.replace(RING, c=0),
        dataclasses.replace(RING, k=65_535, t=65_535),
    ],
    ids=str,
)
def test_row_13_rings_that_are_not_secure_are_refused(ring: Lab, wrong: Parameters) -> None:
    roster = ring.server.roster
    assert roster is not None
    check_parameters(ring.context, roster)
    with pytest.raises(FaultError) as caught:
        check_parameters(ring.context, dataclasses.replace(roster, **dataclasses.asdict(wrong)))
    assert caught.value.fault.code is Code.PARAM_MISMATCH


def test_row_13_a_client_of_a_ring_checks_its_parameters(ring: Lab) -> None:
    roster = ring.server.roster
    assert roster is not None
    worse = dataclasses.replace(roster, t=roster.t - 1)
    state, _ = client.receive(ring.members[0], Kind.ROSTER, worse.data, ring.random[0])
    assert state.phase is Phase.ABORTED
    assert state.secrets is None


def test_a_roster_below_the_smallest_cohort_is_refused() -> None:
    attempt = lab(min_cohort=5)
    with_roster(attempt, 0, lambda r: dataclasses.replace(r, ads=r.ads[:4], T=3, t=3, k=3))
    attempt.run()
    assert attempt.code(0) is Code.TOO_FEW
    assert not attempt.revealed(0)


# ------------------------------------------------------------------- a ring's seed


@pytest.fixture(scope="module")
def ring() -> Lab:
    """129 members who advertised, and wait for the roster."""
    made = Lab(129)
    made.run(ServerPhase.REVEAL)
    return made


def revealed(ring: Lab, member: int = 0) -> ClientState:
    """A member that has seen the roster and revealed its part."""
    roster = ring.server.roster
    assert roster is not None
    checked, actions = client.receive(ring.members[member], Kind.ROSTER, roster.data, ring.random[member])
    assert checked.phase is Phase.REVEALED
    assert len(actions) == 1
    return checked


def seeds(ring: Lab) -> tuple[bytes, ...]:
    return tuple(state.secrets.ring_seed for _, state in sorted(ring.members.items()) if state.secrets is not None)


def code(state: ClientState, kind: Kind, data: bytes, ring: Lab) -> Code:
    ended, actions = client.receive(state, kind, data, ring.random[state.member.id])
    assert ended.phase is Phase.ABORTED
    assert ended.secrets is None
    assert not ended.held
    abort = messages.Abort.decode(actions[0].data)  # type: ignore[union-attr]
    assert [action.kind for action in actions if hasattr(action, "kind")] == [Kind.ABORT]
    return abort.code


def test_rows_14_and_15_a_client_refuses_seeds_that_are_missing_or_not_what_was_committed_to(ring: Lab) -> None:
    state, values, ctx = revealed(ring), seeds(ring), ring.context.ctx
    assert code(state, Kind.SEEDS, SeedSet(ctx, values[:-1]).data, ring) is Code.SEED_INCOMPLETE
    other = (*values[:5], sha("chosen late"), *values[6:])
    assert code(state, Kind.SEEDS, SeedSet(ctx, other).data, ring) is Code.SEED_REVEAL
    assert code(state, Kind.SEEDS, SeedSet(sha("ctx"), values).data, ring) is Code.CTX_MISMATCH


def test_row_14_a_server_aborts_where_one_seed_is_missing_and_names_who_withheld_it(ring: Lab) -> None:
    attempt, values = ring.server, seeds(ring)
    for member, value in list(enumerate(values))[:-1]:
        attempt, _ = server.apply(attempt, From(member, Kind.SEED, SeedReveal(ring.context.ctx, member, value).data))
    ended, actions = server.apply(attempt, TimeUp())
    assert ended.phase is ServerPhase.ABORTED
    assert actions[-1].fault.code is Code.SEED_INCOMPLETE  # type: ignore[union-attr]
    assert actions[-1].absent == (128,)  # type: ignore[union-attr]
    left, actions = server.apply(
        attempt, From(128, Kind.ABORT, messages.Abort(ring.context.ctx, Code.PARAM_MISMATCH).data)
    )
    assert left.phase is ServerPhase.ABORTED
    assert actions[-1].absent == (128,)  # type: ignore[union-attr]


def test_row_14_who_has_not_revealed_yet_when_another_leaves_is_not_taken_for_one_that_withholds(ring: Lab) -> None:
    """Or one partner that leaves at once would have put out everybody that is slower."""
    attempt, _ = server.apply(ring.server, From(0, Kind.SEED, SeedReveal(ring.context.ctx, 0, seeds(ring)[0]).data))
    left, actions = server.apply(attempt, From(7, Kind.ABORT, messages.Abort(ring.context.ctx, Code.STATE).data))
    assert left.phase is ServerPhase.ABORTED
    assert actions[-1].fault.code is Code.SEED_INCOMPLETE  # type: ignore[union-attr]
    assert actions[-1].absent == (7,)  # type: ignore[union-attr]


def test_row_15_a_server_refuses_a_reveal_that_does_not_open_its_commitment(ring: Lab) -> None:
    for message, wanted in (
        (SeedReveal(ring.context.ctx, 3, sha("late")), Code.SEED_REVEAL),
        (SeedReveal(sha("ctx"), 3, seeds(ring)[3]), Code.CTX_MISMATCH),
        (SeedReveal(ring.context.ctx, 4, seeds(ring)[4]), Code.CTX_MISMATCH),
    ):
        with pytest.raises(FaultError) as caught:
            server.apply(ring.server, From(3, Kind.SEED, message.data))
        assert caught.value.fault.code is wanted


def test_a_seed_is_bound_to_its_member_and_its_context(ring: Lab) -> None:
    roster, values = ring.server.roster, seeds(ring)
    assert roster is not None
    assert roster.ads[3].seed_commit == digest(Name.SEED_COMMIT, ring.context.ctx, u32(3), values[3])
    assert len(set(values)) == 129


# ------------------------------------------------------------------- shares


@pytest.mark.parametrize(
    "change",
    [
        lambda keys: dataclasses.replace(keys, boxes=(keys.boxes[0], keys.boxes[0], *keys.boxes[2:])),
        lambda keys: dataclasses.replace(keys, boxes=keys.boxes[1:]),
        lambda keys: dataclasses.replace(keys, boxes=(*keys.boxes[:-1], (77, keys.boxes[-1][1]))),
        lambda keys: dataclasses.replace(keys, boxes=((0, keys.boxes[0][1]), *keys.boxes[1:])),
        lambda keys: dataclasses.replace(keys, boxes=(keys.boxes[1], keys.boxes[0], *keys.boxes[2:])),
        lambda keys: dataclasses.replace(keys, commits=keys.commits[1:]),
    ],
    ids=["duplicate", "missing", "foreign", "itself", "out of order", "a commitment short"],
)
def test_rows_16_to_18_share_keys_for_other_holders_are_refused(change: Callable[[ShareKeys], ShareKeys]) -> None:
    attempt = dealt(lab(), 0, change)
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.SHARE_SET)


def test_share_keys_of_another_session_or_with_a_wrong_signature_are_refused() -> None:
    attempt = dealt(lab(), 0, lambda keys: dataclasses.replace(keys, sid=sha("sid")))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.CTX_MISMATCH)
    attempt = dealt(lab(), 0, lambda keys: dataclasses.replace(keys, id=1))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.CTX_MISMATCH)
    attempt = lab(up=only(0, Kind.SHARES, lambda data: flip(data, 8 * len(data) - 20)))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.SHARE_SIG)
    attempt = lab(up=only(0, Kind.SHARES, lambda data: flip(data, 8 * 40)))
    goes_on_without(attempt, 0)
    assert attempt.refusals()[0] == (0, Code.SHARE_SIG)


def swapped(message: ShareDelivery) -> ShareDelivery:
    (one, box), (other, second), *rest = message.boxes
    return dataclasses.replace(message, boxes=((one, second), (other, box), *rest))


def with_box(message: ShareDelivery, box: bytes) -> ShareDelivery:
    return dataclasses.replace(message, boxes=((message.boxes[0][0], box), *message.boxes[1:]))


def test_row_20_boxes_swapped_between_dealers_do_not_open() -> None:
    attempt = delivered(4, swapped)
    goes_on_without_input(attempt, 4)
    assert attempt.code(4) is Code.SHARE_DECRYPT


def goes_on_without_input(attempt: Lab, lost: int) -> None:
    """Four of five survive: T of five is four."""
    goes_on_without(attempt, lost)
    assert len(attempt.survivors) == 4


def test_row_19_a_box_for_another_receiver_does_not_open() -> None:
    source = lab()
    source.run(ServerPhase.INPUT)
    box = dict(source.server.keys[0].boxes)[3]
    assert box != dict(source.server.keys[0].boxes)[4]
    attempt = delivered(4, lambda message: with_box(message, box))
    goes_on_without_input(attempt, 4)
    assert attempt.code(4) is Code.SHARE_DECRYPT
    assert attempt.faults[4].blamed == (0,)


@pytest.mark.parametrize("other", [{"round": 6}, {"attempt": 1}])
def test_row_21_a_box_of_another_session_does_not_open(other: dict[str, int]) -> None:
    """Even where the dealer's keys are the same, as the seeded lab draws them for another round."""
    source = lab(**other)
    source.run(ServerPhase.INPUT)
    attempt = delivered(4, lambda message: with_box(message, dict(source.server.keys[0].boxes)[4]))
    goes_on_without_input(attempt, 4)
    assert attempt.code(4) is Code.SHARE_DECRYPT


@pytest.mark.parametrize("bit", [0, 95, 96, 8 * 50, 8 * 91 + 7])
def test_row_21_a_box_with_one_bit_flipped_does_not_open(bit: int) -> None:
    attempt = delivered(4, lambda message: with_box(message, flip(message.boxes[0][1], bit)))
    goes_on_without_input(attempt, 4)
    assert attempt.code(4) is Code.SHARE_DECRYPT


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("value", [P, 2**256 - 1])
def test_row_22_a_share_outside_the_field_is_refused_and_the_dealer_named(place: int, value: int) -> None:
    attempt = lab()

    def lie(keys: ShareKeys) -> ShareKeys:
        state = attempt.members[0]
        cipher, bound = client._box_key(state, shared.private_key(state.secrets.encryption), 0, 4)  # type: ignore[union-attr]
        halves = [bytes(32), bytes(32)]
        halves[place] = value.to_bytes(32, "big")
        box = bytes(12) + cipher.encrypt(bytes(12), b"".join(halves), bound)
        return dataclasses.replace(keys, boxes=(*keys.boxes[:-1], (4, box)))

    goes_on_without_input(dealt(attempt, 0, lie), 4)
    assert attempt.code(4) is Code.SHARE_RANGE
    assert attempt.faults[4].blamed == (0,)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda m: dataclasses.replace(m, sharers=(0, 1, 4), boxes=m.boxes[:2]), Code.TOO_FEW),
        (lambda m: dataclasses.replace(m, sharers=(0, 1, 2, 3)), Code.SHARE_SET),
        (lambda m: dataclasses.replace(m, boxes=m.boxes[1:]), Code.SHARE_SET),
        (lambda m: dataclasses.replace(m, sharers=(0, 1, 2, 4)), Code.SHARE_SET),
        (lambda m: dataclasses.replace(m, sid=sha("sid")), Code.CTX_MISMATCH),
    ],
    ids=["too few", "without itself", "a box short", "a box too many", "another session"],
)
def test_row_23_a_delivery_that_does_not_fit_its_sharers_is_refused(
    change: Callable[[ShareDelivery], ShareDelivery], wanted: Code
) -> None:
    attempt = delivered(4, change)
    goes_on_without_input(attempt, 4)
    assert attempt.code(4) is wanted


def test_row_23_the_smallest_cohort_binds_where_it_is_above_the_quorum() -> None:
    attempt = delivered(4, lambda m: dataclasses.replace(m, sharers=(1, 2, 3, 4), boxes=m.boxes[1:]), min_cohort=5)
    attempt.run()
    assert attempt.code(4) is Code.TOO_FEW


def test_row_23_in_a_ring_a_member_wants_t_of_its_neighbours_among_sharers_and_survivors(ring: Lab) -> None:
    state, _ = client.receive(revealed(ring), Kind.SEEDS, SeedSet(ring.context.ctx, seeds(ring)).data, ring.random[0])
    assert state.phase is Phase.SHARED
    attempt = state.attempt
    assert attempt is not None
    near, t = sorted(state.near - {0}), attempt.roster.t
    few = frozenset(range(129)) - frozenset(near[t - 2 :])
    assert len(few & state.near) == t - 1
    assert len(few) >= attempt.least
    short = ShareDelivery(attempt.sid, tuple(sorted(few)), (), 129)
    assert code(state, Kind.DELIVERY, short.data, ring) is Code.NEIGHBOURS
    masked = dataclasses.replace(state, phase=Phase.MASKED, sharers=frozenset(range(129)))
    request = messages.SurvivorRequest(attempt.sid, tuple(sorted(few)), (), 129)
    assert code(masked, Kind.SURVIVORS, request.data, ring) is Code.NEIGHBOURS


def _unopenable(attempt: Lab, *holders: int) -> Callable[[ShareKeys], ShareKeys]:
    def change(keys: ShareKeys) -> ShareKeys:
        boxes = tuple((holder, flip(box, 300) if holder in holders else box) for holder, box in keys.boxes)
        return dataclasses.replace(keys, boxes=boxes)

    return change


def test_a_dealer_whom_more_blame_than_may_lie_is_guilty_and_one_accuser_proves_nothing() -> None:
    """c is 1: of two accusers one is honest. A dealer can fail every attempt so, and is not missing from any."""
    attempt = lab()
    dealt(attempt, 0, _unopenable(attempt, 1, 2, 3, 4)).run()
    while attempt.server.phase < ServerPhase.DONE:
        attempt.time_up()
        attempt.run()
    assert attempt.ended is not None
    assert 0 not in attempt.ended.absent
    assert attempt.server.guilty == (0,)
    single = lab()
    dealt(single, 0, _unopenable(single, 1)).run()
    assert single.server.accused == {0: frozenset({1})}
    assert single.server.guilty == ()
