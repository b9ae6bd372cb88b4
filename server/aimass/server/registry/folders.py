"""A whole version as one folder, to be carried where no registry is reached, and into another registry.

version.json             the signed document, in the bytes that the registry holds
parameters.safetensors   its parameters
card.md                  its model card, for people; the one that counts stands in the document
reports/SHA256.json      its manifest and smoke inputs
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, fsync_folder, write_file
from aimass.proto.errors import BadInput, Conflict, NotFound
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.layout import Reference, versions_prefix
from aimass.proto.registry.reader import RegistryReader, Resolved, read_signed
from aimass.proto.registry.trust import Kind, Trust
from aimass.proto.values import decode_canonical_json
from aimass.server.registry.parts import Publication, check, send

__all__ = ["export_folder", "import_folder", "read_folder"]

_DOCUMENT: Final = "version.json"
_PARAMETERS: Final = "parameters.safetensors"
_CARD: Final = "card.md"
_REPORTS: Final = "reports"


def export_folder(store: ObjectStore, reader: RegistryReader, found: Resolved, folder: Path) -> None:
    """Write a version to a folder that is not there yet; raises `BadInput` as `registry.folder`, and as the reader."""
    if folder.exists():
        raise BadInput("something stands where the folder would go", code="registry.folder", value=folder)
    version, coming = found.version, folder.with_name(f".{folder.name}.coming")
    coming.mkdir(exist_ok=True)
    fetched = reader.parameters(version, coming / "fetched")
    fetched.replace(coming / _PARAMETERS)
    shutil.rmtree(coming / "fetched")
    (coming / _REPORTS).mkdir(exist_ok=True)
    for part in filter(None, (version.manifest, version.smoke)):
        _write(coming / _REPORTS / f"{part.digest}.json", reader.report(version, part))
    _write(coming / _CARD, version.card.encode())
    _write(coming / _DOCUMENT, Numbered(store, versions_prefix(version.name)).read(version.number))
    coming.rename(folder)
    fsync_folder(folder.parent)


def read_folder(trust: Trust, folder: Path) -> tuple[Publication, bytes]:
    """What stands in a folder, verified, and the signed document itself.

    Raises `NotFound` for a folder that is none, and as `read_signed` and `check` for one that was tampered with.
    """
    try:
        data = (folder / _DOCUMENT).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            "this folder holds no version of a model",
            code="registry.no_folder",
            value=folder,
            cure="aimass model export NAME@N FOLDER --registry URL writes one.",
        ) from None
    verified = read_signed(trust, Kind.VERSION, data, str(folder / _DOCUMENT))
    version = decode_canonical_json(ModelVersion, verified.data, str(folder / _DOCUMENT))
    named = [part.digest for part in (version.manifest, version.smoke) if part is not None]
    reports = {digest: (folder / _REPORTS / f"{digest}.json").read_bytes() for digest in named}
    publication = Publication(version, folder / _PARAMETERS, reports)
    check(publication)
    return publication, data


def import_folder(store: ObjectStore, trust: Trust, folder: Path) -> Resolved:
    """Put a folder's version into a registry under its own number, as it was signed; it may be there already.

    Raises `Conflict` as `registry.number_taken` where another version has that number, and as `read_folder`.
    """
    publication, data = read_folder(trust, folder)
    version = publication.version
    document = Numbered(store, versions_prefix(version.name))
    send(store, publication)
    try:
        store.create(document.key(version.number), data)
    except Conflict as error:
        if not is_taken(error):
            raise
        if document.read(version.number) != data:
            raise Conflict(
                "another version has this number in the registry",
                code="registry.number_taken",
                value=f"{version.name}@{version.number} at {store.url}",
                cure="With --as YOUR_FOLDER it is published under the next number, signed by you.",
            ) from error
    return RegistryReader(store, trust).resolve(Reference(version.name, number=version.number))


def _write(path: Path, data: bytes) -> None:
    write_file(path, data, UNINTERRUPTED, "registry.folder", 0o644)
