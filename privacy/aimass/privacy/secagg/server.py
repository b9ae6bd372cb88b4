"""The aggregation server in one attempt, as a pure machine over messages; payloads and the accumulator stay outside.

It draws nothing and keeps no clock, so its state follows from the events that it accepted, in order: whoever logs each
accepted event before performing what follows, and feeds the log again after a crash, goes on in the same phase of the
same attempt. A message that fails its check is refused by name and changes nothing.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, Fault, FaultError, fail
from aimass.privacy.secagg.field import decode_scalar
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import (
    SECRET,
    SELF,
    Abort,
    Advertise,
    MaskedInput,
    Proof,
    RosterMessage,
    RoundStart,
    SeedReveal,
    SeedSet,
    ShareDelivery,
    ShareKeys,
    SurvivorRequest,
    SurvivorSignature,
    Unmask,
    UnmaskRequest,
)
from aimass.privacy.secagg.packing import packed_bytes
from aimass.privacy.secagg.parameters import Profile, propose
from aimass.privacy.secagg.server_state import (
    Action,
    Deliver,
    Ended,
    Event,
    Finish,
    Freeze,
    From,
    GiveUp,
    Input,
    Outcome,
    Phase,
    ServerState,
    TimeUp,
)
from aimass.privacy.secagg.unmasking import rebuild

__all__ = ["apply", "begin", "check_input"]

_NO_LONGER_NEEDED = frozenset({Kind.SIGNATURE, Kind.UNMASK, Kind.ABORT})
"""An honest member may send these after others' were enough: they are dropped, not refused."""


# ------------------------------------------------------------------- phases


def begin(context: RoundContext, identities: Mapping[int, bytes], key: Ed25519PrivateKey) -> Outcome:
    """Sign the context and send it to the members that it names."""
    start = RoundStart(context.data, shared.sign(key, Name.CONTEXT, context.ctx)).data
    state = ServerState(Phase.ADVERTISE, context, dict(identities), start)
    return _say(state, dict.fromkeys(context.ids, (Kind.START, start)))


def _say(state: ServerState, messages: Mapping[int, tuple[Kind, bytes]], *before: Action) -> Outcome:
    told = {member: (message,) for member, message in messages.items()}
    state = dataclasses.replace(state, last={**state.last, **told})
    return state, (*before, *(Deliver(member, kind, data) for member, (kind, data) in sorted(messages.items())))


def apply(state: ServerState, event: Event) -> Outcome:
    """Take one event. Raises `FaultError` for a message that is refused: the state is as it was, and goes on.

    The same message again changes nothing: it was acknowledged before.
    """
    if state.phase in (Phase.DONE, Phase.ABORTED):
        if isinstance(event, TimeUp | GiveUp) or (isinstance(event, From) and event.kind in _NO_LONGER_NEEDED):
            return state, ()
        raise fail(Code.LATE, "this attempt is over", state.phase.name)
    match event:
        case TimeUp():
            return _time_up(state)
        case GiveUp():
            return _abort(state, Fault(Code.STATE, event.what), ())
        case Input():
            return _input(state, event)
        case From():
            return _message(state, event)


def _message(state: ServerState, event: From) -> Outcome:
    if event.id not in state.context.members:
        raise fail(Code.ROSTER, "a message of somebody who is not invited", event.id)
    if event.kind is Kind.ABORT:
        return _left(state, event)
    match event.kind:
        case Kind.ADVERTISE:
            return _advertised(state, event)
        case Kind.SEED:
            return _revealed(state, event)
        case Kind.SHARES:
            return _shared(state, event)
        case Kind.SIGNATURE:
            return _signed(state, event)
        case Kind.UNMASK:
            return _unmasked(state, event)
        case _:
            raise fail(Code.STATE, f"a member does not send a {event.kind}", event.id)


def _fresh(state: ServerState, phase: Phase, held: object, new: object, member: int) -> bool:
    """Whether a message is new here: False for a repeat; raises E_EQUIVOCATION or E_LATE."""
    if held is not None:
        if held == new:
            return False
        raise fail(Code.EQUIVOCATION, "a second, different message of one phase", member, blamed=(member,))
    if state.phase is not phase:
        raise fail(Code.LATE if state.phase > phase else Code.STATE, "not now", state.phase.name, phase.name)
    return True


def _left(state: ServerState, event: From) -> Outcome:
    """A member gave up this attempt: nobody waits for it any more. What it sent before stays."""
    said = Abort.decode(event.data)
    if said.about not in (state.context.ctx, state.attempt.sid if state.attempt is not None else None):
        raise fail(Code.CTX_MISMATCH, "an abort of another attempt", event.id)
    if event.id in state.gone:
        return state, ()
    accused = {member: state.accused.get(member, frozenset()) | {event.id} for member in said.blamed}
    return _settled(dataclasses.replace(state, gone=state.gone | {event.id}, accused={**state.accused, **accused}))


def _settled(state: ServerState) -> Outcome:
    """Close the phase where everybody has come that still can."""
    attempt = state.attempt
    match state.phase:
        case Phase.ADVERTISE:
            ids = state.context.ids
            return _close_advertise(state) if _came(state, len(ids), ids, state.ads) else (state, ())
        case Phase.REVEAL:
            if lost := frozenset(state.ads) & state.gone - frozenset(state.reveals):
                return _incomplete(state, lost)  # who has not revealed yet, and is still here, withheld nothing
            return _close_reveal(state) if len(state.reveals) == len(state.ads) else (state, ())
        case _:
            assert attempt is not None  # noqa: S101  (later phases have one)
    match state.phase:
        case Phase.SHARE:
            return _close_shares(state) if _came(state, attempt.n, attempt.ids, state.keys) else (state, ())
        case Phase.INPUT:
            sharers = (attempt.ids[index] for index in state.sharers)
            return _close_inputs(state) if _came(state, len(state.sharers), sharers, state.inputs) else (state, ())
        case Phase.SIGN:
            return _close_signatures(state)
        case Phase.UNMASK:
            return _close_unmask(state)
        case _:
            return state, ()


def _came(state: ServerState, count: int, wanted: Iterable[int], held: Mapping[int, object]) -> bool:
    """Whether the `count` members of `wanted` are here or gone: counted first, since it is asked at each message."""
    return len(held) + len(state.gone) >= count and all(member in held or member in state.gone for member in wanted)


def _advertised(state: ServerState, event: From) -> Outcome:
    ad = Advertise.decode(event.data)
    if ad.id != event.id:
        raise fail(Code.ROSTER, "an advertisement in another member's name", ad.id, event.id)
    if not _fresh(state, Phase.ADVERTISE, state.ads.get(ad.id), ad, ad.id):
        return state, ()
    shared.check_ads(state.context, [ad], state.identities, state.ad_keys)
    keys = {**state.ad_keys, ad.encryption_key: ad.id, ad.mask_key: ad.id}
    return _settled(dataclasses.replace(state, ads={**state.ads, ad.id: ad}, ad_keys=keys))


def _close_advertise(state: ServerState) -> Outcome:
    context, ads = state.context, tuple(ad for _, ad in sorted(state.ads.items()))
    absent = tuple(sorted(set(context.ids) - set(state.ads)))
    try:
        chosen = propose(len(ads), context.gamma_ppm, context.delta_ppm, context.profile)
    except ValueError:
        return _abort(state, Fault(Code.TOO_FEW, "too few members advertised", len(ads)), absent)
    least = max(chosen.T if context.profile is Profile.MALICIOUS else chosen.t, context.min_cohort)
    if len(ads) < least:
        return _abort(state, Fault(Code.TOO_FEW, "too few members advertised", len(ads), least), absent)
    roster = RosterMessage(context.ctx, chosen.k, chosen.t, chosen.T, chosen.c, ads)
    state = dataclasses.replace(state, roster=roster)
    if shared.needs_reveal(context.profile, chosen.k, len(ads)):
        state = dataclasses.replace(state, phase=Phase.REVEAL)
    else:
        state = dataclasses.replace(state, phase=Phase.SHARE, attempt=Attempt(context, roster))
    return _say(state, {ad.id: (Kind.ROSTER, roster.data) for ad in ads})


def _revealed(state: ServerState, event: From) -> Outcome:
    message = SeedReveal.decode(event.data)
    ad = state.ads.get(event.id)
    if message.ctx != state.context.ctx or message.id != event.id or ad is None:
        raise fail(Code.CTX_MISMATCH, "a reveal of another round, or in another member's name", event.id)
    if not _fresh(state, Phase.REVEAL, state.reveals.get(event.id), message.value, event.id):
        return state, ()
    if digest(Name.SEED_COMMIT, state.context.ctx, u32(event.id), message.value) != ad.seed_commit:
        raise fail(Code.SEED_REVEAL, "a revealed seed is not what was committed to", event.id, blamed=(event.id,))
    return _settled(dataclasses.replace(state, reveals={**state.reveals, event.id: message.value}))


def _close_reveal(state: ServerState) -> Outcome:
    if absent := set(state.ads) - set(state.reveals):
        return _incomplete(state, absent)
    assert state.roster is not None  # noqa: S101  (the phase says so)
    seeds = SeedSet(state.context.ctx, tuple(value for _, value in sorted(state.reveals.items())))
    attempt = Attempt(state.context, state.roster, seeds.values)
    state = dataclasses.replace(state, phase=Phase.SHARE, attempt=attempt)
    return _say(state, dict.fromkeys(state.ads, (Kind.SEEDS, seeds.data)))


def _incomplete(state: ServerState, absent: Iterable[int]) -> Outcome:
    """No subset: who withholds its part would choose among graphs."""
    return _abort(state, Fault(Code.SEED_INCOMPLETE, "not every member revealed its seed"), sorted(absent))


def _in(state: ServerState, member: int) -> tuple[Attempt, int]:
    """The attempt and a member's index in it."""
    if state.attempt is None or member not in state.attempt.index:
        raise fail(Code.STATE, "this attempt has no such member now", member)
    return state.attempt, state.attempt.index[member]


def _shared(state: ServerState, event: From) -> Outcome:
    attempt, index = _in(state, event.id)
    message = ShareKeys.decode(event.data, attempt.roster.k)
    if message.sid != attempt.sid or message.id != event.id:
        raise fail(Code.CTX_MISMATCH, "shares of another attempt, or in another member's name", event.id)
    if not _fresh(state, Phase.SHARE, state.keys.get(event.id), message, event.id):
        return state, ()
    body = digest(Name.SHARES_BODY, message.body)
    if not shared.verify(state.identities[event.id], Name.SHARES, body, message.signature):
        raise fail(Code.SHARE_SIG, "the signature of share keys does not hold", event.id, blamed=(event.id,))
    if [holder for holder, _ in message.boxes] != [attempt.ids[other] for other in attempt.neighbours[index]]:
        raise fail(Code.SHARE_SET, "the boxes are not for the neighbours", event.id, blamed=(event.id,))
    return _settled(dataclasses.replace(state, keys={**state.keys, event.id: message}))


def _holders(attempt: Attempt, dealer: int, among: frozenset[int]) -> frozenset[int]:
    return among & frozenset({dealer, *attempt.neighbours[dealer]})


def _enough(attempt: Attempt, members: frozenset[int], among: frozenset[int]) -> bool:
    """Whether the set may go on: large enough, and everybody of `members` has t holders in it."""
    return len(among) >= attempt.least and all(
        len(_holders(attempt, dealer, among)) >= attempt.roster.t for dealer in members
    )


def _close_shares(state: ServerState) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    sharers = frozenset(attempt.index[member] for member in state.keys)
    if not _enough(attempt, sharers, sharers):
        absent = tuple(member for member in attempt.ids if member not in state.keys)
        return _abort(state, Fault(Code.TOO_FEW, "too few members shared", len(sharers), attempt.least), absent)
    boxes = {member: dict(keys.boxes) for member, keys in state.keys.items()}
    everybody, messages = tuple(sorted(sharers)), {}
    for member in state.keys:
        dealers = sorted(sharers & frozenset(attempt.neighbours[attempt.index[member]]))
        addressed = tuple((attempt.ids[dealer], boxes[attempt.ids[dealer]][member]) for dealer in dealers)
        delivery = ShareDelivery(attempt.sid, everybody, addressed, attempt.n)
        messages[member] = (Kind.DELIVERY, delivery.data)
    return _say(dataclasses.replace(state, phase=Phase.INPUT, sharers=sharers), messages)


# ------------------------------------------------------------------- inputs


def check_input(state: ServerState, member: int, data: bytes) -> MaskedInput:
    """Whether a payload may come now, from its header alone; raises `FaultError` before a byte of it is read."""
    attempt, index = _in(state, member)
    header = MaskedInput.decode(data)
    if header.sid != attempt.sid or header.id != member or index not in state.sharers:
        raise fail(Code.CTX_MISMATCH, "an input of another attempt, or in another member's name", member)
    wanted = packed_bytes(state.context.lanes, state.context.bits)
    if header.length != wanted:
        raise fail(Code.INPUT_LEN, "an input of another length than the round's", header.length, wanted)
    if header.sharers_digest != attempt.set_digest(Name.SHARERS, state.sharers):
        raise fail(Code.INPUT_U1, "an input that was masked for other sharers", member, blamed=(member,))
    body = MaskedInput.signed(attempt.sid, member, header.sharers_digest, header.payload_digest)
    if not shared.verify(state.identities[member], Name.INPUT, body, header.signature):
        raise fail(Code.INPUT_SIG, "the signature of an input does not hold", member, blamed=(member,))
    _fresh(state, Phase.INPUT, state.inputs.get(member), header, member)
    return header


def _input(state: ServerState, event: Input) -> Outcome:
    header = check_input(state, event.id, event.header)
    if event.id in state.inputs:
        return state, ()
    if event.length != header.length or not event.padded:
        raise fail(Code.INPUT_LEN, "an input whose length or padding is wrong", event.length, header.length)
    if event.payload_digest != header.payload_digest:
        raise fail(Code.INPUT_SIG, "a payload that is not the one that was signed", event.id)
    return _settled(dataclasses.replace(state, inputs={**state.inputs, event.id: header}))


def _close_inputs(state: ServerState) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    survivors = frozenset(attempt.index[member] for member in state.inputs)
    if not _enough(attempt, state.sharers, survivors):
        absent = tuple(attempt.ids[index] for index in sorted(state.sharers - survivors))
        return _abort(state, Fault(Code.TOO_FEW, "too few inputs came", len(survivors), attempt.least), absent)
    lies = state.context.profile is Profile.MALICIOUS
    state = dataclasses.replace(state, phase=Phase.SIGN if lies else Phase.UNMASK, survivors=survivors)
    everybody, messages = tuple(sorted(survivors)), {}
    for member in state.inputs:
        near = sorted(survivors & frozenset(attempt.neighbours[attempt.index[member]])) if lies else []
        proofs = tuple(_proof(state.inputs[attempt.ids[index]]) for index in near)
        request = SurvivorRequest(attempt.sid, everybody, proofs, attempt.n)
        messages[member] = (Kind.SURVIVORS, request.data)
    return _say(state, messages, Freeze(tuple(attempt.ids[index] for index in sorted(survivors))))


def _proof(header: MaskedInput) -> Proof:
    return Proof(header.id, header.payload_digest, header.signature)


def _signed(state: ServerState, event: From) -> Outcome:
    attempt, index = _in(state, event.id)
    message = SurvivorSignature.decode(event.data)
    if message.sid != attempt.sid or message.id != event.id:
        raise fail(Code.CTX_MISMATCH, "a signature of another attempt, or in another member's name", event.id)
    if state.phase is Phase.UNMASK and event.id not in state.signatures:
        return state, ()  # beyond what was needed
    if not _fresh(state, Phase.SIGN, state.signatures.get(event.id), message.signature, event.id):
        return state, ()
    sharers = attempt.set_digest(Name.SHARERS, state.sharers)
    body = SurvivorSignature.signed(attempt.sid, sharers, attempt.set_digest(Name.SURVIVORS, state.survivors))
    if index not in state.survivors or not shared.verify(
        state.identities[event.id], Name.SURVIVORS_SIGNED, body, message.signature
    ):
        raise fail(Code.QUORUM_SIG, "a survivor's signature does not hold", event.id, blamed=(event.id,))
    return _settled(dataclasses.replace(state, signatures={**state.signatures, event.id: message.signature}))


def _close_signatures(state: ServerState) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    if len(state.signatures) < attempt.roster.T:
        if not state.gone:
            return state, ()
        to_come = {attempt.ids[index] for index in state.survivors} - state.gone - set(state.signatures)
        if len(state.signatures) + len(to_come) >= attempt.roster.T:
            return state, ()
        # Who has not signed yet, and is still here, was not waited for in vain.
        return _timed_out(state, "too many survivors left before they signed", state.gone)
    request = UnmaskRequest(attempt.sid, tuple(sorted(state.signatures.items())))
    asked = state.last
    survivors = {attempt.ids[index] for index in state.survivors}
    state, actions = _say(
        dataclasses.replace(state, phase=Phase.UNMASK), dict.fromkeys(survivors, (Kind.QUORUM, request.data))
    )
    # Who did not sign may not have seen the survivors yet: told again, it needs both, in order.
    late = {member: (*asked[member], *state.last[member]) for member in survivors - state.signatures.keys()}
    return dataclasses.replace(state, last={**state.last, **late}), actions


# ------------------------------------------------------------------- unmasking


def _unmasked(state: ServerState, event: From) -> Outcome:
    attempt, index = _in(state, event.id)
    message = Unmask.decode(event.data)
    if message.sid != attempt.sid or message.id != event.id or index not in state.survivors:
        raise fail(Code.CTX_MISMATCH, "shares of another attempt, or in another member's name", event.id)
    if not _fresh(state, Phase.UNMASK, state.unmasked.get(event.id), message, event.id):
        return state, ()
    _check_shares(state, attempt, index, message)
    good, faults = _good_shares(state, attempt, index, message)
    state = dataclasses.replace(
        state,
        unmasked={**state.unmasked, event.id: message},
        shares={**state.shares, index: good},
        counts={**state.counts, **{dealer: state.counts.get(dealer, 0) + 1 for dealer in good}},
        set_aside=state.set_aside + faults,
    )
    return _settled(state)


def _close_unmask(state: ServerState) -> Outcome:
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    if all(state.counts.get(dealer, 0) >= attempt.roster.t for dealer in state.sharers):
        return _finish(state, attempt)
    survivors = (attempt.ids[index] for index in state.survivors)
    came = _came(state, len(state.survivors), survivors, state.unmasked)
    return _few(state, attempt) if came else (state, ())


def _check_shares(state: ServerState, attempt: Attempt, index: int, message: Unmask) -> None:
    dealers = [item.dealer for item in message.shares]
    if len(set(dealers)) != len(dealers):
        raise fail(Code.BOTH_SHARES, "two shares for one dealer", message.id, blamed=(message.id,))
    wanted = [
        (attempt.ids[dealer], SELF if dealer in state.survivors else SECRET)
        for dealer in sorted(_holders(attempt, index, state.sharers))
    ]
    if [(item.dealer, item.kind) for item in message.shares] != wanted:
        raise fail(Code.UNMASK_SET, "not the shares that were asked for", message.id, blamed=(message.id,))


def _good_shares(
    state: ServerState, attempt: Attempt, holder: int, message: Unmask
) -> tuple[dict[int, int], tuple[Fault, ...]]:
    """A holder's shares by dealer (index) that fit their commitments, and the faults of those that do not."""
    good: dict[int, int] = {}
    faults = []
    for item in message.shares:
        dealer = attempt.index[item.dealer]
        committed = state.keys[item.dealer].commits[_place(attempt, dealer, holder)][item.kind == SELF]
        try:
            value = decode_scalar(item.share)
        except ValueError:
            value = None
        kind = "b" if item.kind == SELF else "s"
        if value is not None and attempt.share_commit(item.dealer, message.id, kind, value) == committed:
            good[dealer] = value
        else:
            what = "a share does not fit its commitment: its dealer or its holder lies"
            faults.append(Fault(Code.SHARE_COMMIT, what, blamed=(item.dealer, message.id)))
    return good, tuple(faults)


def _place(attempt: Attempt, dealer: int, holder: int) -> int:
    """Where a holder's commitments stand among a dealer's."""
    return bisect_left(attempt.neighbours[dealer], holder) + (dealer < holder)


def _few(state: ServerState, attempt: Attempt) -> Outcome:
    short = tuple(attempt.ids[d] for d in sorted(state.sharers) if state.counts.get(d, 0) < attempt.roster.t)
    absent = tuple(attempt.ids[i] for i in sorted(state.survivors) if attempt.ids[i] not in state.unmasked)
    what = "too few shares came to rebuild every mask"
    blamed = tuple(sorted({member for fault in state.set_aside for member in fault.blamed}))
    return _abort(state, Fault(Code.RECON_FEW, what, short, attempt.roster.t, blamed), absent)


def _finish(state: ServerState, attempt: Attempt) -> Outcome:
    by_dealer: dict[int, dict[int, int]] = {dealer: {} for dealer in state.sharers}
    for holder, good in state.shares.items():
        for dealer, value in good.items():
            by_dealer[dealer][holder] = value
    try:
        plus, minus = rebuild(attempt, state.keys, state.sharers, state.survivors, by_dealer)
    except FaultError as error:
        return _abort(state, error.fault, ())
    survivors = tuple(attempt.ids[index] for index in sorted(state.survivors))
    return dataclasses.replace(state, phase=Phase.DONE), (Finish(tuple(plus), tuple(minus), survivors),)


# ------------------------------------------------------------------- ends


def _time_up(state: ServerState) -> Outcome:
    match state.phase:
        case Phase.ADVERTISE:
            return _close_advertise(state)
        case Phase.REVEAL:
            return _close_reveal(state)
        case Phase.SHARE:
            return _close_shares(state)
        case Phase.INPUT:
            return _close_inputs(state)
        case Phase.SIGN:
            return _timed_out(state, "too few survivors signed in time", state.context.members)
        case _:
            attempt = state.attempt
            assert attempt is not None  # noqa: S101
            return _few(state, attempt)


def _timed_out(state: ServerState, what: str, among: frozenset[int]) -> Outcome:
    """No quorum: absent are the survivors of `among` that did not sign."""
    attempt = state.attempt
    assert attempt is not None  # noqa: S101
    unsigned = among & {attempt.ids[index] for index in state.survivors} - state.signatures.keys()
    return _abort(state, Fault(Code.TIMEOUT, what, len(state.signatures), attempt.roster.T), sorted(unsigned))


def _abort(state: ServerState, fault: Fault, absent: Sequence[int]) -> Outcome:
    about = state.attempt.sid if state.attempt is not None else state.context.ctx
    message = Abort(about, fault.code, tuple(sorted(set(fault.blamed)))).data
    state = dataclasses.replace(state, phase=Phase.ABORTED)
    told = _members(state)
    state, actions = _say(state, dict.fromkeys(told, (Kind.ABORT, message)))
    return state, (*actions, Ended(fault, tuple(absent)))


def _members(state: ServerState) -> Iterable[int]:
    return state.attempt.ids if state.attempt is not None else state.context.ids
