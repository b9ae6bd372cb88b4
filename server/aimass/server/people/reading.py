"""Tokens of people checked whole: form, signature by the provider's keys, claims."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.clock import Clock
from aimass.proto.secret import Secret
from aimass.server.people.claims import Person, read_person
from aimass.server.people.keys import KeyRing
from aimass.server.people.settings import PeopleSettings
from aimass.server.people.sources import key_source
from aimass.server.people.tokens import read_header, verified

__all__ = ["TokenReader"]


class TokenReader:
    """One for a service whose settings name an issuer; paths in them begin at `folder`."""

    def __init__(self, settings: PeopleSettings, folder: Path, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._keys = KeyRing(key_source(settings, folder), settings.algorithms, clock)

    async def person(self, token: Secret) -> Person:
        """Whose token it is. Raises `Unauthenticated` for one that does not count, `Refused` for somebody without a
        role, `Unavailable` where the provider's keys cannot be had."""
        header = read_header(token, self._settings.algorithms)
        claims = verified(token, header, await self._keys.key(header.key_id))
        return read_person(claims, self._settings, self._clock.now())
