"""The parts of a version on their way into a store: checked, and each sent once under its digest."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from aimass.proto.errors import IntegrityError, NotFound
from aimass.proto.hashing import digest_of, file_digest
from aimass.proto.objects import CHUNK_BYTES, ObjectStore
from aimass.proto.registry.entries import ModelVersion, Part
from aimass.proto.registry.layout import parameters_key, report_key
from aimass.proto.storage import map_file
from aimass.proto.tensors import Blob

__all__ = ["Publication", "check", "part_of", "parts_of", "require", "send"]


@dataclasses.dataclass(frozen=True, slots=True)
class Publication:
    """What is to be a version: `version` but for its number, time, author and card; its file; its reports by digest."""

    version: ModelVersion
    parameters: Path
    reports: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def part_of(data: bytes) -> Part:
    """A report by its digest and size."""
    return Part(digest=hashlib.sha256(data).hexdigest(), bytes=len(data))


def parts_of(version: ModelVersion) -> dict[str, Part]:
    """What a version refers to, by key."""
    reports = {report_key(version.name, part.digest): part for part in (version.manifest, version.smoke) if part}
    return {parameters_key(version.name, version.parameters.digest): version.parameters} | reports


def check(publication: Publication) -> None:
    """Raise `IntegrityError` as `registry.parts` unless every part is what the version names, `BadInput` for a file
    that is no safetensors."""
    version = publication.version
    named = {part.digest for part in (version.manifest, version.smoke) if part is not None}
    held = {digest for digest, data in publication.reports.items() if part_of(data).digest == digest}
    found = Part(digest=file_digest(publication.parameters), bytes=publication.parameters.stat().st_size)
    if named != held or found != version.parameters:
        raise IntegrityError(
            "a part of the version is not what the version says",
            code="registry.parts",
            value=f"{found.digest}, {found.bytes} bytes",
            limit=f"{version.parameters.digest}, {version.parameters.bytes} bytes",
            cure="Nothing was published. Fetch the model again.",
        )
    Blob(map_file(publication.parameters))


def require(store: ObjectStore, version: ModelVersion) -> None:
    """Raise `NotFound` as `registry.collected` where a part of the version is not there any more."""
    for key in parts_of(version):
        try:
            store.head(key)
        except NotFound as error:
            raise NotFound(
                "a part of this version is not kept any more",
                code="registry.collected",
                value=f"{version.name}@{version.number}: {key} at {store.url}",
                cure="aimass model gc deletes those of old versions. Publish the same again, or take a newer one.",
            ) from error


def send(store: ObjectStore, publication: Publication) -> None:
    """Store all parts, in bounded memory; one that stands there already in its own bytes is not sent again."""
    name, parameters = publication.version.name, publication.version.parameters
    _keep(store, parameters_key(name, parameters.digest), parameters, _read(publication.parameters))
    for digest, data in publication.reports.items():
        _keep(store, report_key(name, digest), part_of(data), iter((data,)))


def _keep(store: ObjectStore, key: str, part: Part, chunks: Iterator[bytes]) -> None:
    """Other bytes under the part's name are replaced: nobody could use them."""
    try:
        if store.head(key).size == part.bytes and digest_of(store.stream(key)) == part.digest:
            return
    except NotFound:
        pass
    store.write(key, chunks)


def _read(path: Path) -> Iterator[bytes]:
    """A file's bytes; by reading and not through a map, whose pages would all count as this process's memory."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
