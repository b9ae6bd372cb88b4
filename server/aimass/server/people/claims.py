"""Who a token's claims say that somebody is: pure, over claims whose signature has been checked.

Sources: OpenID Connect Core 1.0, section 3.1.3.7; RFC 7519 (claims), RFC 9068 (access tokens), RFC 8725 (practice).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from aimass.privacy.pki import Role
from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.proto.names import PERSON_MOST
from aimass.server.people.settings import PeopleSettings

__all__ = ["Person", "read_person"]

Claims = Mapping[str, Any]
_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_WIDEST: Final = (Role.OPERATOR, Role.SCIENTIST, Role.ANALYST)
_LATEST: Final = 1e11
_AGAIN: Final = "Log in again."


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """`name` holds an @, which no certificate's does: no token can be taken for a member. Until Unix time `until`."""

    name: str
    role: Role
    until: float


def read_person(claims: Claims, rules: PeopleSettings, now: float) -> Person:
    """Whom the token is about; raises `Unauthenticated` for a token that is not for us or not now, `Refused` for
    somebody who has no role here."""
    if "events" in claims:  # a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4) is signed as well
        raise _bad("this is no token of a person", "people.kind", "events")
    _check_issuer(claims, rules)
    _check_audience(claims, rules)
    until = _check_times(claims, rules, now)
    name = _name(claims, rules)
    return Person(name, _role(claims, rules, name), until)


def _check_issuer(claims: Claims, rules: PeopleSettings) -> None:
    if claims.get("iss") != rules.issuer:
        raise _bad("another issuer", "people.issuer", claims.get("iss"), rules.issuer)


def _check_audience(claims: Claims, rules: PeopleSettings) -> None:
    """For us, and made for an application that is ours: a provider signs tokens for everybody else's too."""
    said = claims.get("aud")
    audience = [said] if isinstance(said, str) else said
    if not isinstance(audience, list) or rules.audience not in audience:
        raise _bad("the token is for somebody else", "people.audience", said, rules.audience)
    party = claims.get("azp")
    ours = rules.clients or (rules.audience,)
    if party is None and len(audience) == 1 and not rules.clients:
        return
    if party not in ours:
        raise _bad(
            "the token was made for another application",
            "people.party",
            f"azp {party}",
            ", ".join(ours),
            "If that application is yours, name it in people.clients.",
        )


def _check_times(claims: Claims, rules: PeopleSettings, now: float) -> float:
    """Until when the token counts."""
    ends, issued = _time(claims, "exp"), _time(claims, "iat")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if now >= ends + rules.leeway_s:
        raise _bad("the token has expired", "people.expired", f"{now - ends:.0f} s ago", cure=_AGAIN)
    if max(begins, issued) > now + rules.leeway_s:
        raise _bad(
            "the token is of the future",
            "people.not_yet",
            f"in {max(begins, issued) - now:.0f} s",
            f"{rules.leeway_s:g} s",
            "Set the clocks of this machine and of the identity provider.",
        )
    if not 0 < ends - issued <= rules.most_life_s:
        raise _bad(
            "the token lives too long",
            "people.life",
            f"{ends - issued:.0f} s",
            f"{rules.most_life_s:g} s",
            "Have the identity provider make shorter ones, or raise people.most_life_s.",
        )
    return ends + rules.leeway_s


def _time(claims: Claims, claim: str) -> float:
    said = claims.get(claim)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < _LATEST or not math.isfinite(said):
        raise _bad("a token lacks a time, or it is none", "people.time", claim)
    return float(said)


def _name(claims: Claims, rules: PeopleSettings) -> str:
    said = claims.get(rules.name)
    most = PERSON_MOST - len(rules.realm) - 1
    if not isinstance(said, str) or len(said) > most or not _VALUE.fullmatch(said):
        raise _bad(
            "the token does not name a person in a way that can be used here",
            "people.name",
            f"{rules.name} {said!a}",
            f"1 to {most} letters, digits and ._@-",
            "Choose another claim of the provider's as people.name.",
        )
    if rules.name == "email" and claims.get("email_verified") is not True:
        raise _bad("the provider does not vouch for this address", "people.email", said, "email_verified")
    return f"{said}@{rules.realm}"


def _role(claims: Claims, rules: PeopleSettings, name: str) -> Role:
    said: Any = claims
    for part in rules.role_claim.split("."):
        said = said.get(part) if isinstance(said, Mapping) else None
    values = said if isinstance(said, list) else [said]
    given = {rules.roles[value] for value in values if isinstance(value, str) and value in rules.roles}
    for role in _WIDEST:
        if role in given:
            return role
    raise Refused(
        "the identity provider gives this person no role here",
        code="people.no_role",
        value=name,
        limit=f"what people.roles names, in {rules.role_claim}",  # names of groups are not for everybody
        cure="Ask the operator which group gives a role, and whoever runs the identity provider for it.",
    )


def _bad(what: str, code: str, value: object = None, limit: object = None, cure: str = "") -> AimassError:
    return Unauthenticated(what, code=code, value=value, limit=limit, cure=cure)
