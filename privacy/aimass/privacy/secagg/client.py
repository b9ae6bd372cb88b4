"""A partner in one attempt, as a pure machine: what the server says goes in, what leaves comes out.

The state holds the attempt's secrets, which live in memory alone: a process that was restarted cannot go on with an
attempt, so no mask ever meets a second input. What must survive, that something was advertised, sent or signed, is a
`Record`, persisted before the message that it speaks of. Every check of the protocol that a partner owes itself
stands here; one that fails ends the attempt and erases what it held.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import messages, packing
from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.client_state import (
    Action,
    ClientState,
    Ended,
    Held,
    Kind,
    Outcome,
    Packed,
    Persist,
    Phase,
    Randomness,
    Room,
    Secrets,
    Send,
    SendInput,
    answered,
)
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, Fault, FaultError, fail
from aimass.privacy.secagg.field import decode_scalar, encode_scalar, share
from aimass.privacy.secagg.labels import DIGEST_BYTES, KEY_BYTES, NONCE_BYTES, SCALAR_BYTES, Name, derive, digest, label
from aimass.privacy.secagg.masks import Lanes, Masks, cut, lane_type
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import CHECK_LANES, CheckSums

__all__ = ["abort", "encoded", "receive"]


def receive(state: ClientState, kind: Kind, data: bytes, random: Randomness) -> Outcome:
    """Take one message of the server.

    The same bytes again get the same answer; other bytes for a phase that is past, or a message out of order, end the
    attempt, as every failed check does.
    """
    if state.phase is Phase.ABORTED:
        return state, ()
    key = kind, hashlib.sha256(data).digest()
    if key in state.answers:
        return state, tuple(action for action in state.answers[key] if not isinstance(action, Persist | Ended))
    try:
        return _take(state, kind, data, random)
    except FaultError as error:
        return abort(state, error.fault)


def _take(state: ClientState, kind: Kind, data: bytes, random: Randomness) -> Outcome:
    if kind is Kind.ABORT:
        return _told_to_end(state, messages.Abort.decode(data))
    if kind is Kind.SURVIVORS and state.record.signed:
        raise fail(Code.ALREADY_SIGNED, "this partner has signed another set of survivors")
    if any(answered is kind for answered, _ in state.answers):
        raise fail(Code.EQUIVOCATION, f"the server sent another {kind} for this attempt")
    match kind, state.phase:
        case Kind.ROSTER, Phase.ADVERTISED:
            return _roster(state, data, random)
        case Kind.SEEDS, Phase.REVEALED:
            return _seeds(state, data, random)
        case Kind.DELIVERY, Phase.SHARED:
            return _delivered(state, data)
        case Kind.SURVIVORS, Phase.MASKED:
            return _survivors(state, data)
        case Kind.QUORUM, Phase.SIGNED:
            return _quorum(state, data)
        case _:
            raise fail(Code.STATE, f"a {kind} does not belong here", state.phase.name)


def _told_to_end(state: ClientState, message: messages.Abort) -> Outcome:
    """An abort names this attempt, by its ctx or its sid: one of an earlier attempt does not end this one unnamed."""
    if message.about not in (state.context.ctx, state.attempt.sid if state.attempt is not None else None):
        raise fail(Code.CTX_MISMATCH, "an abort of another attempt")
    ended = Fault(message.code, "the server ended the attempt", blamed=message.blamed)
    return _ended(state, ()), (Ended(ended),)


def abort(state: ClientState, fault: Fault) -> Outcome:
    """End the attempt: say so, erase what was held, keep the record."""
    about = state.attempt.sid if state.attempt is not None else state.context.ctx
    message = Send(Kind.ABORT, messages.Abort(about, fault.code, tuple(sorted(fault.blamed))).data)
    return _ended(state, (message,)), (message, Ended(fault))


def _ended(state: ClientState, last: tuple[Action, ...]) -> ClientState:
    """Nothing is answered any more, so nothing is kept to answer with: neither payload nor shares."""
    return dataclasses.replace(_erased(state), phase=Phase.ABORTED, answers={}, last=last)


def _erased(state: ClientState) -> ClientState:
    return dataclasses.replace(state, secrets=None, held={}, lanes=None)


def _roster(state: ClientState, data: bytes, random: Randomness) -> Outcome:
    message, context = messages.RosterMessage.decode(data), state.context
    if message.ctx != context.ctx:
        raise fail(Code.CTX_MISMATCH, "a roster of another round")
    if state.ad not in message.ads:
        raise fail(Code.OWN_KEYS, "this partner's keys are not in the roster as it advertised them")
    shared.check_ads(context, message.ads, state.member.identities)
    shared.check_parameters(context, message)
    state = dataclasses.replace(state, roster=message)
    if shared.needs_reveal(context.profile, message.k, len(message.ads)):
        secrets = _of(state)
        reveal = messages.SeedReveal(context.ctx, state.member.id, secrets.ring_seed)
        state = dataclasses.replace(state, phase=Phase.REVEALED)
        return answered(state, Kind.ROSTER, data, (Send(Kind.SEED, reveal.data),))
    return _share(dataclasses.replace(state, attempt=Attempt(context, message)), Kind.ROSTER, data, random)


def _of(state: ClientState) -> Secrets:
    if state.secrets is None:
        raise fail(Code.STATE, "the secrets of this attempt are gone")
    return state.secrets


def _seeds(state: ClientState, data: bytes, random: Randomness) -> Outcome:
    assert state.roster is not None  # noqa: S101  (the phase says so)
    ads = state.roster.ads
    message = messages.SeedSet.decode(data, len(ads))
    if message.ctx != state.context.ctx:
        raise fail(Code.CTX_MISMATCH, "seeds of another round")
    for ad, value in zip(ads, message.values, strict=True):
        if digest(Name.SEED_COMMIT, state.context.ctx, u32(ad.id), value) != ad.seed_commit:
            raise fail(Code.SEED_REVEAL, "a revealed seed is not what was committed to", ad.id, blamed=(ad.id,))
    attempt = Attempt(state.context, state.roster, message.values)
    return _share(dataclasses.replace(state, attempt=attempt), Kind.SEEDS, data, random)


# ------------------------------------------------------------------- shares


def _share(state: ClientState, kind: Kind, data: bytes, random: Randomness) -> Outcome:
    """Deal both seeds to the neighbours and to itself, box by box, with a commitment to each share."""
    attempt, secrets = state.attempt, _of(state)
    assert attempt is not None  # noqa: S101
    me, holders, mine = state.index, sorted(state.near), shared.private_key(secrets.encryption)
    dealt = [
        Held(secret, own)
        for secret, own in zip(
            share(secrets.mask_seed, attempt.roster.t, holders, random.below),
            share(secrets.self_seed, attempt.roster.t, holders, random.below),
            strict=True,
        )
    ]
    ids = attempt.ids
    boxes = tuple(
        (ids[holder], _seal(state, mine, holder, held, random))
        for holder, held in zip(holders, dealt, strict=True)
        if holder != me
    )
    commits = tuple(
        (
            attempt.share_commit(ids[me], ids[holder], "s", held.secret),
            attempt.share_commit(ids[me], ids[holder], "b", held.own),
        )
        for holder, held in zip(holders, dealt, strict=True)
    )
    keys = messages.ShareKeys(attempt.sid, ids[me], attempt.self_commit(ids[me], secrets.self_seed), boxes, commits)
    body = digest(Name.SHARES_BODY, keys.body)
    signed = dataclasses.replace(keys, signature=shared.sign(state.member.identity, Name.SHARES, body))
    state = dataclasses.replace(state, phase=Phase.SHARED, held={me: dealt[holders.index(me)]})
    return answered(state, kind, data, (Send(Kind.SHARES, signed.data),))


def _box_key(state: ClientState, mine: X25519PrivateKey, dealer: int, holder: int) -> tuple[AESGCM, bytes]:
    """The key and the bound data of the box that `dealer` makes for `holder` (indices), as either of them knows it."""
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    other = holder if dealer == state.index else dealer
    agreed = shared.exchange(mine, attempt.roster.ads[other].encryption_key)
    pair = u32(attempt.ids[dealer]) + u32(attempt.ids[holder])
    key = derive(agreed, attempt.sid, Name.SHARE_KEY, pair, KEY_BYTES)
    return AESGCM(key), label(Name.SHARE_DATA) + attempt.sid + pair


def _seal(state: ClientState, mine: X25519PrivateKey, holder: int, held: Held, random: Randomness) -> bytes:
    cipher, bound = _box_key(state, mine, state.index, holder)
    nonce = random.token(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, encode_scalar(held.secret) + encode_scalar(held.own), bound)


def _delivered(state: ClientState, data: bytes) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    message = messages.ShareDelivery.decode(data, attempt.n)
    if message.sid != attempt.sid:
        raise fail(Code.CTX_MISMATCH, "a delivery of another attempt")
    sharers, me = frozenset(message.sharers), state.index
    if me not in sharers:
        raise fail(Code.SHARE_SET, "this partner shared, and is not among the sharers")
    if len(sharers) < attempt.least:
        raise fail(Code.TOO_FEW, "too few members shared", len(sharers), attempt.least)
    if len(state.near & sharers) < attempt.roster.t:
        raise fail(Code.NEIGHBOURS, "too few neighbours shared", len(state.near & sharers), attempt.roster.t)
    dealers = [attempt.ids[index] for index in sorted(state.near & sharers - {me})]
    if [dealer for dealer, _ in message.boxes] != dealers:
        raise fail(Code.SHARE_SET, "the boxes are not those of the neighbours that shared")
    held, mine = dict(state.held), shared.private_key(_of(state).encryption)
    for dealer, box in message.boxes:
        held[attempt.index[dealer]] = _opened(state, mine, dealer, box)
    state = dataclasses.replace(state, phase=Phase.DELIVERED, held=held, sharers=sharers)
    state, actions = answered(state, Kind.DELIVERY, data, ())
    if state.lanes is None:
        return state, actions
    return _mask(state)


def _opened(state: ClientState, mine: X25519PrivateKey, dealer: int, box: bytes) -> Held:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    cipher, bound = _box_key(state, mine, attempt.index[dealer], state.index)
    try:
        plain = cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], bound)
    except InvalidTag:
        raise fail(Code.SHARE_DECRYPT, "a share box does not open", dealer, blamed=(dealer,)) from None
    try:
        return Held(decode_scalar(plain[:SCALAR_BYTES]), decode_scalar(plain[SCALAR_BYTES:]))
    except ValueError:
        raise fail(Code.SHARE_RANGE, "a share is no element of the field", dealer, blamed=(dealer,)) from None


# ------------------------------------------------------------------- the input


def encoded(state: ClientState, packed: bytes | bytearray | memoryview, room: Room = bytearray) -> Outcome:
    """The encoded input is ready: lanes modulo 2^b without their check lanes, packed. Masked once, when the shares are
    in: block by block, from where the lanes stand into `room`, which is asked once for as many bytes as are sent.
    """
    if state.phase >= Phase.MASKED:
        return state, ()
    if state.lanes is not None:
        raise ValueError("an input was given already: a mask meets one input")
    state = dataclasses.replace(state, lanes=Packed(packed, room))
    return _mask(state) if state.phase is Phase.DELIVERED else (state, ())


def _mask(state: ClientState) -> Outcome:
    attempt, context = state.attempt, state.context
    assert attempt is not None  # noqa: S101
    assert state.lanes is not None  # noqa: S101
    payload = _masked(state, _checked(context, state.lanes.data), state.lanes.room)
    sharers = attempt.set_digest(Name.SHARERS, state.sharers)
    payload_digest = hashlib.sha256(payload).digest()
    body = messages.MaskedInput.signed(attempt.sid, state.member.id, sharers, payload_digest)
    header = messages.MaskedInput(
        attempt.sid,
        state.member.id,
        sharers,
        len(payload),
        payload_digest,
        shared.sign(state.member.identity, Name.INPUT, body),
    )
    record = dataclasses.replace(state.record, phase=Phase.MASKED, payload_digest=payload_digest)
    state = dataclasses.replace(state, phase=Phase.MASKED, record=record, lanes=None)
    spoken = (SendInput(header.data, payload),)
    # The delivery's answer is the input: asked for again, it is sent again as it was.
    answers = {key: spoken if key[0] is Kind.DELIVERY else held for key, held in state.answers.items()}
    return dataclasses.replace(state, answers=answers, last=spoken), (Persist(record), *spoken)


def _masked(state: ClientState, parts: Iterable[Lanes], room: Room) -> memoryview:
    """y = q + PRG(self) + sum over neighbours above of PRG(pair) - sum over those below, modulo 2^b, packed.

    `parts` are q, to its check lanes; they are masked in place.
    """
    attempt, context, secrets, me = state.attempt, state.context, _of(state), state.index
    assert attempt is not None  # noqa: S101
    mine = shared.private_key(shared.mask_secret(context, state.member.id, secrets.mask_seed))
    plus, minus = [shared.self_mask_key(attempt.sid, state.member.id, secrets.self_seed)], list[bytes]()
    for other in sorted(frozenset(attempt.neighbours[me]) & state.sharers):
        agreed = shared.exchange(mine, attempt.roster.ads[other].mask_key)
        key = shared.pair_mask_key(attempt.sid, agreed, state.member.id, attempt.ids[other])
        (plus if me < other else minus).append(key)
    out = memoryview(room(packing.packed_bytes(context.lanes, context.bits)))
    first, streams = 0, Masks(plus, minus)
    for part in parts:
        streams.add(part)
        cut(part, context.bits)
        packing.pack_into(out, first, part, context.bits)
        first += len(part)
    return out.toreadonly()


def _checked(context: RoundContext, packed: bytes | bytearray | memoryview) -> Iterator[Lanes]:
    """The input's lanes in parts, with its check lanes at the end of the last one."""
    try:
        parts = packing.unpacked(packed, context.lanes - CHECK_LANES, context.bits)
        last, sums = next(parts, np.empty(0, lane_type(context.bits))), CheckSums(context)
    except ValueError as error:
        raise fail(Code.ENCODING, f"the input is not the round's lanes: {error}") from error
    for part in parts:
        sums.add(last)
        yield last
        last = part
    sums.add(last)
    yield np.concatenate((last, sums.lanes()))


# ------------------------------------------------------------------- survivors


def _survivors(state: ClientState, data: bytes) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    message = messages.SurvivorRequest.decode(data, attempt.n)
    if message.sid != attempt.sid:
        raise fail(Code.CTX_MISMATCH, "survivors of another attempt")
    survivors = frozenset(message.survivors)
    if not survivors <= state.sharers or state.index not in survivors:
        raise fail(Code.U2_SET, "the survivors are not among the sharers, or without this partner")
    if len(survivors) < attempt.least:
        raise fail(Code.TOO_FEW, "too few members survived", len(survivors), attempt.least)
    if len(state.near & survivors) < attempt.roster.t:
        raise fail(Code.NEIGHBOURS, "too few neighbours survived", len(state.near & survivors), attempt.roster.t)
    state = dataclasses.replace(state, survivors=survivors)
    sharers = attempt.set_digest(Name.SHARERS, state.sharers)
    signed = sharers + attempt.set_digest(Name.SURVIVORS, survivors)
    record = dataclasses.replace(state.record, phase=Phase.SIGNED, signed=signed)
    if state.context.profile is Profile.HBC:
        state = dataclasses.replace(state, record=record)
        return _unmask(state, Kind.SURVIVORS, data, (Persist(record),))
    _check_proofs(state, message, sharers)
    body = messages.SurvivorSignature.signed(attempt.sid, signed[:DIGEST_BYTES], signed[DIGEST_BYTES:])
    signature = shared.sign(state.member.identity, Name.SURVIVORS_SIGNED, body)
    answer = messages.SurvivorSignature(attempt.sid, state.member.id, signature)
    state = dataclasses.replace(state, phase=Phase.SIGNED, record=record)
    return answered(state, Kind.SURVIVORS, data, (Persist(record), Send(Kind.SIGNATURE, answer.data)))


def _check_proofs(state: ClientState, message: messages.SurvivorRequest, sharers: bytes) -> None:
    """Each neighbour that survived signed its input over this partner's own U1.

    A server that showed different sharers to different members cannot show that: it would have pair masks left out on
    one side.
    """
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    wanted = [attempt.ids[index] for index in sorted(state.near & state.survivors - {state.index})]
    if [proof.id for proof in message.proofs] != wanted:
        raise fail(Code.INP_PROOF, "the proofs are not those of the neighbours that survived")
    for proof in message.proofs:
        body = messages.MaskedInput.signed(attempt.sid, proof.id, sharers, proof.payload_digest)
        if not shared.verify(state.member.identities[proof.id], Name.INPUT, body, proof.signature):
            raise fail(Code.INP_PROOF, "a neighbour's input was not made over the same sharers", proof.id)


def _quorum(state: ClientState, data: bytes) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    message = messages.UnmaskRequest.decode(data)
    if message.sid != attempt.sid:
        raise fail(Code.QUORUM, "signatures of another attempt")
    signed = state.record.signed
    body = messages.SurvivorSignature.signed(attempt.sid, signed[:DIGEST_BYTES], signed[DIGEST_BYTES:])
    names = {attempt.ids[index] for index in state.survivors}
    signers = {
        signer
        for signer, signature in message.signatures
        if signer in names and shared.verify(state.member.identities[signer], Name.SURVIVORS_SIGNED, body, signature)
    }
    if len(signers) < attempt.roster.T:
        raise fail(Code.QUORUM, "too few survivors signed this partner's sets", len(signers), attempt.roster.T)
    return _unmask(state, Kind.QUORUM, data, ())


def _unmask(state: ClientState, kind: Kind, data: bytes, before: tuple[Action, ...]) -> Outcome:
    """For each neighbour that shared, and for itself: a share of the self mask of who survived, else of the secret."""
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    shares = tuple(
        messages.Revealed(attempt.ids[dealer], messages.SELF, encode_scalar(held.own))
        if dealer in state.survivors
        else messages.Revealed(attempt.ids[dealer], messages.SECRET, encode_scalar(held.secret))
        for dealer, held in sorted(state.held.items())
    )
    answer = messages.Unmask(attempt.sid, state.member.id, shares)
    done = dataclasses.replace(_erased(state), phase=Phase.DONE)
    return answered(done, kind, data, (*before, Send(Kind.UNMASK, answer.data), Ended(None)))
