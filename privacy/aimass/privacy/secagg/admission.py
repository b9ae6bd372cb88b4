"""Whether a partner takes part in an attempt at all: what the server signed, against what this partner computed itself.

Nothing is drawn and nothing is sent before every check has passed.
"""

from __future__ import annotations

import dataclasses

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.client_state import (
    ClientState,
    Expected,
    History,
    Kind,
    Limits,
    Member,
    Outcome,
    Persist,
    Phase,
    Randomness,
    Record,
    Secrets,
    Send,
    answered,
)
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.context import RoundContext, decode_context
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.field import P
from aimass.privacy.secagg.labels import DIGEST_BYTES, KEY_BYTES, Name, digest
from aimass.privacy.secagg.messages import Abort, Advertise, RoundStart
from aimass.privacy.secagg.parameters import COMPLETE_TO, MAX_ATTEMPTS, Profile

__all__ = ["restarted", "start"]


def start(member: Member, expected: Expected, history: History, data: bytes, random: Randomness) -> Outcome:
    """Check the start of a round and advertise. Raises `FaultError`: nothing was drawn or sent then."""
    message = RoundStart.decode(data)
    context = decode_context(message.context)
    if context.server_key != member.server_key or not shared.verify(
        member.server_key, Name.CONTEXT, context.ctx, message.signature
    ):
        raise fail(Code.SERVER_SIG, "the roster's server did not sign this round")
    if context.roster_digest != member.roster_digest:
        raise fail(
            Code.ROSTER, "the round pins another roster", context.roster_digest.hex(), member.roster_digest.hex()
        )
    if member.id not in context.members or not context.members <= member.identities.keys():
        raise fail(Code.ROSTER, "the round invites somebody whom the roster does not name, or not this partner")
    _check_policy(context, member.limits)
    _check_expected(context, expected)
    _check_history(context, history, member.limits)
    secrets = Secrets(
        random.token(KEY_BYTES),
        random.below(P),
        random.below(P),
        random.token(DIGEST_BYTES) if _may_be_ring(context) else b"",
    )
    ad = _advertise(member, context, secrets)
    record = Record(context.run_id, context.round, context.attempt, Phase.ADVERTISED, context.ctx, context.model_digest)
    state = ClientState(Phase.ADVERTISED, member, context, record, secrets, ad)
    return answered(state, Kind.START, data, (Persist(record), Send(Kind.ADVERTISE, ad.data)))


def _check_expected(context: RoundContext, expected: Expected) -> None:
    if context.model_digest != expected.model_digest:
        raise fail(
            Code.MODEL_DIGEST, "the round is on another model than this partner loaded", context.model_digest.hex(),
            expected.model_digest.hex(),
        )  # fmt: skip
    for name in (
        "run_id", "round", "plan_digest", "layout_digest", "dp_digest", "lanes", "profile", "gamma_ppm", "delta_ppm",
        "min_cohort",
    ):  # fmt: skip
        if getattr(context, name) != getattr(expected, name):
            raise fail(Code.PLAN, f"the round's {name} is not what this partner computed")
    if len(context.ids) * expected.largest > (1 << context.bits - 1) - 1:
        raise fail(
            Code.OVERFLOW, "the sum of all inputs would not fit its lanes", f"{len(context.ids)} x {expected.largest}",
            (1 << context.bits - 1) - 1,
        )  # fmt: skip


def _check_policy(context: RoundContext, limits: Limits) -> None:
    for name, value, least in (
        ("cohort", context.min_cohort, limits.min_cohort),
        ("share of colluders (ppm)", context.gamma_ppm, limits.gamma_ppm),
        ("profile", context.profile, limits.profile),
    ):
        if value < least:
            raise fail(Code.POLICY, f"the partner's policy demands a larger {name}", int(value), f"from {int(least)}")


def _check_history(context: RoundContext, history: History, limits: Limits) -> None:
    held = history.record
    if context.attempt >= MAX_ATTEMPTS:
        # A ring's seed is drawn anew in each: whoever may try often enough finds a graph that helps.
        raise fail(Code.ROUND_CLOSED, "too many attempts of one round", context.attempt, f"below {MAX_ATTEMPTS}")
    if held is not None and (held.signed or held.attempt >= context.attempt):
        raise fail(
            Code.ROUND_CLOSED, "this partner has signed in this round, or begun this attempt before", context.attempt,
            "no further attempt" if held.signed else f"after {held.attempt}",
        )  # fmt: skip
    if history.signed_on_model >= limits.contributions_per_model:
        raise fail(
            Code.REPEAT_MODEL, "too many inputs of this run on one model", history.signed_on_model,
            limits.contributions_per_model,
        )  # fmt: skip
    if history.signed_on_data >= limits.contributions_per_data:
        raise fail(
            Code.REPEAT_MODEL, "too many inputs of this data set on one model", history.signed_on_data,
            limits.contributions_per_data,
        )  # fmt: skip
    if not history.reserved:
        raise fail(Code.BUDGET, "no reservation of the privacy ledger covers this attempt")


def _may_be_ring(context: RoundContext) -> bool:
    """Whether the members may come to draw a graph's seed together, which is committed to beforehand."""
    return context.profile is Profile.MALICIOUS and len(context.ids) > COMPLETE_TO


def _advertise(member: Member, context: RoundContext, secrets: Secrets) -> Advertise:
    commit = shared.NO_COMMIT
    if secrets.ring_seed:
        commit = digest(Name.SEED_COMMIT, context.ctx, u32(member.id), secrets.ring_seed)
    ad = Advertise(
        member.id,
        shared.public_bytes(secrets.encryption),
        shared.public_bytes(shared.mask_secret(context, member.id, secrets.mask_seed)),
        commit,
        b"",
    )
    return dataclasses.replace(ad, signature=shared.sign(member.identity, Name.ADVERTISE, context.ctx + ad.body))


def restarted(record: Record) -> Abort:
    """What a process answers that finds an attempt in its records and holds nothing of it in memory."""
    return Abort(record.ctx, Code.RESTARTED)
