"""People at a serving process: whom a token of the identity provider names, and what their role may."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import BadInput, Refused
from aimass.proto.secret import Secret
from aimass.proto.values import Value
from aimass.server.people.reading import TokenReader
from aimass.server.people.settings import PeopleSettings, check_people
from aimass.server.serving.access import Caller
from aimass.server.serving.tokens import May

__all__ = ["PeopleMay", "ServedPeople", "check_served_people", "is_of_person"]

_PARTS: Final = 2
"""Dots of a signed token (RFC 7515, section 3.1); tokens of a serving process have none."""


class PeopleMay(Value, frozen=True):
    """What people of each role may ask, of all models. Nobody loads or unloads models by a token that a page holds."""

    operator: tuple[May, ...] = ("see",)
    scientist: tuple[May, ...] = ("see",)
    analyst: tuple[May, ...] = ()

    def of(self, role: str) -> tuple[May, ...]:
        """What one role may; nothing for one that is no person's."""
        return {"operator": self.operator, "scientist": self.scientist, "analyst": self.analyst}.get(role, ())


def is_of_person(token: bytes | None) -> bool:
    """Whether a token has the form of an identity provider's, and not that of one of our own."""
    return token is not None and token.count(b".") == _PARTS


class ServedPeople:
    """Admits people by tokens that this process verifies itself."""

    def __init__(self, settings: PeopleSettings, may: PeopleMay, clock: Clock) -> None:
        self._reader, self._may = TokenReader(settings, Path(), clock), may

    async def admit(self, token: bytes, may: May) -> Caller:
        """The person as a caller. Raises what `TokenReader.person` does, and `Refused` where the role does not."""
        person = await self._reader.person(Secret(token))
        allowed = self._may.of(person.role)
        if may not in allowed:
            raise Refused(
                f"this role may not {may} here",
                code="serve.role",
                value=f"{person.name}, {person.role}",
                limit=", ".join(allowed) or "nothing",
                cure="Whoever runs the server says in [people_may] what people of a role may.",
            )
        return Caller(person.name)


def check_served_people(settings: PeopleSettings, may: PeopleMay, *, private: bool, tls: bool) -> None:
    """Raise a named error for what would admit nobody or anybody, or let others read tokens on their way."""
    if settings.services:
        raise BadInput(
            "who shows a token to a serving process is not asked for the certificate of a service",
            code="serve.people_services",
            value=", ".join(settings.services),
            cure="Leave `services` out of [people]; a token counts by its signature and audience.",
        )
    check_people(settings, by_services=False)
    if not settings.issuer:
        return
    if not (private or tls):
        raise Refused(
            "tokens of people would come over a link that others can read",
            code="serve.people_tls",
            cure="Give the server a certificate in [tls], or let it listen on this machine alone.",
        )
    for role in ("operator", "scientist", "analyst"):
        if "manage" in may.of(role):
            raise Refused(
                "people do not manage models by a token that a page holds",
                code="serve.people_manage",
                value=role,
                limit="infer, see",
                cure="Make a token for it: aimass serve token add NAME --may manage.",
            )
