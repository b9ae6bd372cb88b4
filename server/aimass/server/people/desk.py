"""Whom a service brings: the person behind a token, as the peer that the gate goes on with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.clock import Clock
from aimass.proto.errors import Refused, Unauthenticated
from aimass.proto.secret import Secret
from aimass.server.people.reading import TokenReader
from aimass.server.people.settings import PeopleSettings

__all__ = ["HEADER", "People", "bearer_of"]

HEADER: Final = "authorization"
"""RFC 6750, section 2.1; metadata of a gRPC call are HTTP/2 headers."""
_SCHEME: Final = "bearer "


class People:
    """One for a service. Without an issuer in its settings nobody comes by a token."""

    def __init__(self, settings: PeopleSettings, folder: Path, clock: Clock) -> None:
        self._settings, self.clock = settings, clock
        self._reader = TokenReader(settings, folder, clock) if settings.issuer else None

    async def person(self, holder: Peer, token: Secret) -> Peer:
        """The person whom `holder` brings, with the role that the token gives. Raises `Refused` where `holder` may
        bring nobody, or the person has no role; `Unauthenticated` for a token that does not count."""
        if self._reader is None:
            raise Refused(
                "this service takes no tokens of people",
                code="people.off",
                value=holder.name,
                cure="The operator writes [people] into its settings: docs/operator.md.",
            )
        if holder.role is not Role.SERVICE or holder.name not in self._settings.services:
            raise Refused(
                "this certificate may not bring the tokens of people",
                code="people.service",
                value=f"{holder.role} {holder.name}",
                limit=", ".join(f"service {name}" for name in self._settings.services),
                cure="Name the service in people.services, or leave the token out.",
            )
        person = await self._reader.person(token)
        until = min(person.until, holder.not_after)
        return dataclasses.replace(holder, role=person.role, name=person.name, not_after=until, via=holder.name)


def bearer_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Secret | None:
    """The token that a call brings, if it brings one; raises `Unauthenticated` for several, or another scheme."""
    found = [value for key, value in metadata or () if key == HEADER]
    if not found:
        return None
    text = found[0] if isinstance(found[0], str) else found[0].decode("latin-1")
    if len(found) > 1 or text[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(
            "a call brings one token, as Bearer", code="people.bearer", value=f"{len(found)} authorization headers"
        )
    return Secret(text[len(_SCHEME) :].strip().encode("latin-1", "replace"))
