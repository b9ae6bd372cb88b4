"""Puts a version of a model into a registry: its parts first, each by its digest, then the document that names them.

The document is the commit: who reads sees a version whole or not at all. Of two who publish at once each gets a number
of its own. Broken off, the same publication takes up what it has sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from aimass.proto.errors import Conflict, IntegrityError, NotFound
from aimass.proto.hashing import digest_of, file_digest
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import CHUNK_BYTES, ObjectStore
from aimass.proto.registry.entries import ModelVersion, Part
from aimass.proto.registry.layout import parameters_key, report_key, versions_prefix
from aimass.proto.registry.reader import RegistryReader, Resolved, read_signed
from aimass.proto.registry.trust import Kind, Trust
from aimass.proto.storage import map_file
from aimass.proto.tensors import Blob
from aimass.server.keeping import Hold, let_go
from aimass.server.registry.authors import Author
from aimass.server.registry.cards import card_of

__all__ = ["Publication", "Publisher", "part_of"]


def part_of(data: bytes) -> Part:
    """A report by its digest and size."""
    return Part(digest=hashlib.sha256(data).hexdigest(), bytes=len(data))


@dataclasses.dataclass(frozen=True, slots=True)
class Publication:
    """What is to be a version: `version` but for its number, time, author and card; its file; its reports by digest."""

    version: ModelVersion
    parameters: Path
    reports: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


class Publisher:
    """Commits versions as `author`, whom `trust` has to believe: what nobody would load is not published."""

    def __init__(self, store: ObjectStore, trust: Trust, author: Author, now: Callable[[], float]) -> None:
        self._store, self._trust, self._author, self._now = store, trust, author, now
        self._reader = RegistryReader(store, trust)

    def publish(self, publication: Publication) -> Resolved:
        """The version that stands, verified as any reader would. Published before, by the same run, it is that one.

        Raises `IntegrityError` for parts that are not what the version names, `BadInput` for a file that is no
        safetensors, `Unauthenticated` or `Refused` where the trust file does not let the author publish, and
        `WrongState` while parts are collected.
        """
        _check(publication)
        wanted = publication.version
        if (before := self._published(wanted)) is not None:
            self._send(publication)
            return before
        self._envelope(wanted, 1)  # who may not publish is told before anything is sent
        hold = Hold(self._store, wanted.name, wanted.parameters.digest, self._now)
        self._send(publication)
        hold.keep()
        number = self._commit(wanted)
        let_go(self._store, wanted.name, wanted.parameters.digest)
        return self._reader.resolve(f"{wanted.name}@{number}")

    def _published(self, wanted: ModelVersion) -> Resolved | None:
        """The version that an earlier try has committed: the same model of the same run."""
        if wanted.run is None:
            return None
        believed = (found for _, found in self._reader.every(wanted.name) if isinstance(found, Resolved))
        made = (wanted.parameters, wanted.run)
        return next((found for found in believed if (found.version.parameters, found.version.run) == made), None)

    def _commit(self, wanted: ModelVersion) -> int:
        document = Numbered(self._store, versions_prefix(wanted.name))
        while True:
            number = max(document.numbers(), default=0) + 1
            try:
                document.commit(number, self._envelope(wanted, number))
            except Conflict as error:
                if not is_taken(error):
                    raise
                continue
            return number

    def _envelope(self, wanted: ModelVersion, number: int) -> bytes:
        bare = msgspec.structs.replace(wanted, number=number, created_at=self._now(), by=self._author.name, card="")
        whole = msgspec.structs.replace(bare, card=card_of(bare))
        data = self._author.signed(Kind.VERSION, whole)
        read_signed(self._trust, Kind.VERSION, data, f"{wanted.name}@{number}")
        return data

    def _send(self, publication: Publication) -> None:
        name, parameters = publication.version.name, publication.version.parameters
        view = map_file(publication.parameters)
        self._keep(parameters_key(name, parameters.digest), parameters, lambda: _chunks(view))
        for digest, data in publication.reports.items():
            part = Part(digest=digest, bytes=len(data))
            self._keep(report_key(name, digest), part, lambda data=data: iter((memoryview(data),)))  # type: ignore[misc]

    def _keep(self, key: str, part: Part, chunks: Callable[[], Iterator[memoryview]]) -> None:
        """Store a part unless it stands there; other bytes under its name are replaced."""
        try:
            if self._store.head(key).size == part.bytes and digest_of(self._store.stream(key)) == part.digest:
                return
        except NotFound:
            pass
        self._store.write(key, chunks())


def _check(publication: Publication) -> None:
    """Raise `IntegrityError` as `registry.parts` unless every part is what the version names."""
    version = publication.version
    named = {part.digest: part.bytes for part in (version.manifest, version.smoke) if part is not None}
    held = {digest: len(data) for digest, data in publication.reports.items() if digest_of((data,)) == digest}
    size = publication.parameters.stat().st_size
    found = Part(digest=file_digest(publication.parameters), bytes=size)
    if named != held or found != version.parameters:
        raise IntegrityError(
            "a part of the version is not what the version says",
            code="registry.parts",
            value=f"{found.digest}, {found.bytes} bytes",
            limit=f"{version.parameters.digest}, {version.parameters.bytes} bytes",
            cure="Nothing was published. Fetch the model again.",
        )
    Blob(map_file(publication.parameters))


def _chunks(view: memoryview) -> Iterator[memoryview]:
    return (view[at : at + CHUNK_BYTES] for at in range(0, len(view), CHUNK_BYTES))
