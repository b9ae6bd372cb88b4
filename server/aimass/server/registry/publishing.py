"""Puts a version of a model into a registry: its parts first, each by its digest, then the document that names them.

The document is the commit: who reads sees a version whole or not at all. Of two who publish at once each gets a number
of its own. Broken off, the same publication takes up what it has sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from aimass.proto.errors import Conflict
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.layout import Reference, versions_prefix
from aimass.proto.registry.reader import RegistryReader, Resolved, read_signed
from aimass.proto.registry.trust import Kind, Trust
from aimass.server.keeping import held
from aimass.server.registry.authors import Author
from aimass.server.registry.cards import card_of
from aimass.server.registry.parts import Publication, check, send

__all__ = ["Publisher"]

_LONGEST_S: Final = 86_400.0
"""Who was killed while it published keeps what is there from being collected for so long."""


class Publisher:
    """Commits versions as `author`, whom `trust` has to believe: what nobody would load is not published."""

    def __init__(self, store: ObjectStore, trust: Trust, author: Author, now: Callable[[], float]) -> None:
        self._store, self._trust, self._author, self._now = store, trust, author, now
        self._reader = RegistryReader(store, trust)

    def publish(self, publication: Publication) -> Resolved:
        """The version that stands, verified as any reader would. Published before, by the same run, it is that one.

        Raises `IntegrityError` for parts that are not what the version names, `BadInput` for a file that is no
        safetensors, `Unauthenticated` or `Refused` where the trust file does not let the author publish, and
        `WrongState` while parts are collected, or as `Numbered.following`.
        """
        check(publication)
        wanted = publication.version
        self._envelope(wanted, 1)  # who may not publish is told before anything is sent
        with held(self._store, wanted.name, self._now, _LONGEST_S) as hold:
            before = self._published(wanted)
            send(self._store, publication)
            hold.keep()
            number = self._commit(wanted) if before is None else before.version.number
        return self._reader.resolve(Reference(wanted.name, number=number))

    def _published(self, wanted: ModelVersion) -> Resolved | None:
        """The version that an earlier try has committed: the same model of the same run."""
        if wanted.run is None:
            return None
        believed = (found for _, found in self._reader.every(wanted.name) if isinstance(found, Resolved))
        made = (wanted.parameters, wanted.run)
        return next((found for found in believed if (found.version.parameters, found.version.run) == made), None)

    def _commit(self, wanted: ModelVersion) -> int:
        document = Numbered(self._store, versions_prefix(wanted.name))
        number = max(document.numbers(), default=0)
        while True:
            number = document.following(number)
            try:
                document.commit(number, self._envelope(wanted, number))
            except Conflict as error:
                if not is_taken(error):
                    raise
                continue  # taken by somebody faster, or by one whom the store lists late
            return number

    def _envelope(self, wanted: ModelVersion, number: int) -> bytes:
        bare = msgspec.structs.replace(wanted, number=number, created_at=self._now(), by=self._author.name, card="")
        whole = msgspec.structs.replace(bare, card=card_of(bare))
        data = self._author.signed(Kind.VERSION, whole)
        read_signed(self._trust, Kind.VERSION, data, f"{wanted.name}@{number}")
        return data
