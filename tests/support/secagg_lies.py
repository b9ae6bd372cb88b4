"""Lies of partners and servers in the lab: what each of them changes, signed by whoever tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from aimass.privacy.secagg import admission, messages
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.client_state import History, Kind, Limits
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import Advertise, RosterMessage, ShareDelivery, ShareKeys
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from tests.support.secagg import Lab, only


def lab(**more: object) -> Lab:
    """Five members, one of whom may be missing; T is 4, and 3 once only four advertise."""
    return Lab(5, **{"gamma_ppm": 100_000, "delta_ppm": 200_000, **more})  # type: ignore[arg-type]


def goes_on_without(attempt: Lab, *lost: int) -> None:
    """The others come to their sum, without those, who released nothing."""
    attempt.run()
    while attempt.server.phase < ServerPhase.DONE:
        attempt.time_up()
        attempt.run()
    assert attempt.exact()
    assert not set(lost) & set(attempt.survivors)
    assert not any(attempt.revealed(member) for member in lost)


def signed_ad(attempt: Lab, member: int, **changes: bytes) -> bytes:
    """A lying partner's advertisement: changed, and signed by itself."""
    state = attempt.members[member]
    assert state.ad is not None
    ad = dataclasses.replace(state.ad, **changes)  # type: ignore[arg-type]
    return resigned(attempt, ad).data


def resigned(attempt: Lab, ad: Advertise) -> Advertise:
    body = attempt.context.ctx + ad.body
    return dataclasses.replace(ad, signature=shared.sign(attempt.identities[ad.id], Name.ADVERTISE, body))


def with_roster(attempt: Lab, member: int, change: Callable[[RosterMessage], RosterMessage]) -> Lab:
    """A server that shows one member another roster."""
    attempt.down = only(member, Kind.ROSTER, lambda data: change(RosterMessage.decode(data)).data)
    return attempt


def with_ad(roster: RosterMessage, index: int, ad: Advertise) -> RosterMessage:
    return dataclasses.replace(roster, ads=(*roster.ads[:index], ad, *roster.ads[index + 1 :]))


def dealt(attempt: Lab, member: int, change: Callable[[ShareKeys], ShareKeys]) -> Lab:
    """A lying partner's share keys: changed, and signed by itself."""

    def lie(data: bytes) -> bytes:
        keys = change(ShareKeys.decode(data, attempt.n - 1))
        body = digest(Name.SHARES_BODY, keys.body)
        return dataclasses.replace(keys, signature=shared.sign(attempt.identities[member], Name.SHARES, body)).data

    attempt.up = only(member, Kind.SHARES, lie)
    return attempt


def delivered(member: int, change: Callable[[ShareDelivery], ShareDelivery], **more: object) -> Lab:
    """A server that delivers something else to one member."""
    attempt = lab(**more)
    attempt.down = only(member, Kind.DELIVERY, lambda data: change(ShareDelivery.decode(data, attempt.n)).data)
    return attempt


NOTHING_HELD = History()
ANY_POLICY = Limits(min_cohort=2, profile=Profile.HBC)


def started(
    attempt: Lab,
    context: RoundContext,
    *,
    history: History = NOTHING_HELD,
    limits: Limits = ANY_POLICY,
    **changes: Any,
) -> Code | None:
    """The name of the refusal of a start that the server signed; None where the member advertises."""
    signature = shared.sign(attempt.server_identity, Name.CONTEXT, context.ctx)
    member = dataclasses.replace(attempt.member(0), limits=limits)
    expected = dataclasses.replace(attempt.expected(), **changes)
    drawn = len(attempt.random[0].drawn)
    try:
        admission.start(member, expected, history, messages.RoundStart(context.data, signature).data, attempt.random[0])
    except FaultError as error:
        assert len(attempt.random[0].drawn) == drawn
        return error.fault.code
    return None
