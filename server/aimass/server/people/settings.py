"""`[people]` of a service: whose tokens count, which services may bring them, and which role they give."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from aimass.proto.errors import BadInput, Refused
from aimass.proto.loopback import is_loopback
from aimass.proto.names import Name
from aimass.proto.values import Value

__all__ = ["PEOPLE_TEMPLATE", "Algorithm", "PeopleSettings", "PersonRole", "check_people"]

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]
"""Signatures by a private key alone: with a symmetric one whoever checks tokens could make them, and `none` is none."""

PersonRole = Literal["operator", "scientist", "analyst"]
"""Nobody becomes a partner, a service or the server by a token: those have keys of their own."""

_NEEDED: Final = ("audience", "keys", "services", "roles")


class PeopleSettings(Value, frozen=True):
    """Without `issuer` no token counts.

    `keys` is the provider's set of public keys (a JWKS): an https URL, checked against the machine's roots or those of
    the file `ca`, or a file; paths begin at the service's folder. `services` are the names of certificates that may
    bring tokens. `roles` turns what stands in the claim `role_claim` (dots go into objects) into a role; of several the
    widest counts. The claim `name` names a person, as `VALUE@REALM`, and must never be given to somebody else.
    `clients` are applications whose tokens count (`azp`); without them it is the audience itself. Clocks may differ by
    `leeway_s`, and no token counts that lives longer than `most_life_s`.
    """

    issuer: str = ""
    audience: str = ""
    keys: str = ""
    ca: str = ""
    services: tuple[Name, ...] = ()
    roles: dict[str, PersonRole] = {}
    role_claim: Annotated[str, msgspec.Meta(min_length=1)] = "groups"
    name: Annotated[str, msgspec.Meta(min_length=1)] = "sub"
    realm: Annotated[Name, msgspec.Meta(max_length=20)] = "people"
    clients: tuple[str, ...] = ()
    algorithms: Annotated[tuple[Algorithm, ...], msgspec.Meta(min_length=1)] = ("RS256", "ES256")
    leeway_s: Annotated[float, msgspec.Meta(ge=0, le=300)] = 30.0
    most_life_s: Annotated[float, msgspec.Meta(gt=0)] = 86_400.0


def check_people(settings: PeopleSettings, *, by_services: bool = True) -> PeopleSettings:
    """`settings`, if they are whole; raises `BadInput` or `Refused` for what would admit nobody, or anybody.

    Not `by_services` is a service to which people bring their tokens themselves.
    """
    if not settings.issuer:
        if settings != PeopleSettings():
            raise BadInput(
                "[people] names no issuer, so no token would count",
                code="people.settings",
                value="issuer",
                cure="Name the identity provider as its discovery document does, or leave [people] out.",
            )
        return settings
    needed = _NEEDED if by_services else tuple(name for name in _NEEDED if name != "services")
    if absent := [name for name in needed if not getattr(settings, name)]:
        raise BadInput(
            "[people] is not whole", code="people.settings", value=", ".join(absent), cure="See docs/operator.md."
        )
    _check_url(settings.issuer, "people.issuer")
    if "://" in settings.keys:
        _check_url(settings.keys, "people.keys")
    return settings


def _check_url(url: str, setting: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname and not parts.username and not parts.password:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname or "") and not parts.username:
        return
    raise Refused(
        "an identity provider is reached over TLS",
        code="people.url",
        value=f"{setting} at {parts.scheme}://{parts.hostname}",
        limit="https://HOST/..., without a password in it; http:// on the loopback alone",
    )


PEOPLE_TEMPLATE: Final = """
# People who come through a service with a token of an identity provider (OpenID Connect): docs/operator.md.
# [people]
# issuer = "https://login.example.org"       # as its /.well-known/openid-configuration says, to the letter
# audience = "aimass"                        # whom tokens are for: often the app's client id
# keys = "https://login.example.org/jwks"    # its jwks_uri, or a file
# services = ["explainer"]                   # whose certificates (role service) may bring tokens
# realm = "example"                          # people are VALUE@example here
# role_claim = "groups"
# [people.roles]                             # what stands in that claim, and what it makes of somebody
# "aimass-analysts" = "analyst"
"""
"""What a first settings file says of it."""
