"""Reads a registry for serving, explanation and commands: nothing that is not verified is ever returned.

Each document is checked to the end: canonical bytes, a signature that the trust file believes, and that it is what its
place in the store says. Parameters and reports are checked against the digest that a verified document names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aimass.proto.errors import AimassError, BadInput, IntegrityError, NotFound, Refused, Unauthenticated
from aimass.proto.fetching import fetch
from aimass.proto.hashing import digest_of
from aimass.proto.model_manifest import ModelManifest, decode_manifest
from aimass.proto.model_manifest import Reference as Spread
from aimass.proto.numbered import Document, Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import Alias, ModelVersion, Part, Signed, SmokeInputs
from aimass.proto.registry.layout import (
    Reference,
    alias_prefix,
    aliases_prefix,
    parameters_key,
    read_reference,
    report_key,
    versions_prefix,
)
from aimass.proto.registry.trust import Kind, Trust
from aimass.proto.values import canonical_json, decode_canonical_json, decode_json

__all__ = ["UNVERIFIED", "RegistryReader", "Resolved", "Verified", "check_registry", "read_signed"]

UNVERIFIED: Final = (BadInput, IntegrityError, Refused, Unauthenticated)
"""What a document raises that is not to be believed."""
_AT_ONCE: Final = 8
"""Documents on their way at once: a store far away answers each in tens of milliseconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """What a document's envelope came to: its exact bytes, their SHA-256, and the name of who signed."""

    data: bytes
    digest: str
    signer: str


@dataclasses.dataclass(frozen=True, slots=True)
class Resolved:
    """A verified version with its digest and publisher, and the verified alias that led to it, where one did."""

    version: ModelVersion
    digest: str
    signer: str
    alias: Alias | None = None
    promoter: str = ""

    @property
    def seen(self) -> int:
        """The alias's number, for `RegistryReader.newer`; 0 without one."""
        return self.alias.number if self.alias else 0

    def __str__(self) -> str:
        return f"{self.version.name}@{self.version.number}"


class RegistryReader:
    """The registry at one store, as `trust` believes it. For any number of threads."""

    def __init__(self, store: ObjectStore, trust: Trust) -> None:
        self._store, self._trust = store, trust

    def names(self) -> tuple[str, ...]:
        """Models with a version, in order."""
        folders = (info.key.split("/") for info in self._store.list())
        return tuple(dict.fromkeys(parts[0] for parts in folders if len(parts) == 3 and parts[1] == "versions"))

    def versions(self, name: str) -> tuple[int, ...]:
        """The numbers of a model's versions, ascending; none where there is no such model."""
        return Numbered(self._store, versions_prefix(name)).numbers()

    def aliases(self, name: str) -> tuple[str, ...]:
        """The names of a model's aliases, in order."""
        prefix = f"{aliases_prefix(name)}/"
        found = (info.key.removeprefix(prefix).split("/") for info in self._store.list(prefix))
        return tuple(dict.fromkeys(parts[0] for parts in found if len(parts) == 2))

    def resolve(self, reference: str | Reference) -> Resolved:
        """The version that NAME (its champion), NAME@ALIAS or NAME@N names now.

        Raises `NotFound` as `registry.no_version` or `registry.no_alias`, and what an unverified document raises.
        """
        wanted = read_reference(reference) if isinstance(reference, str) else reference
        if wanted.number:
            return self._version(wanted.name, wanted.number)
        newest = Numbered(self._store, alias_prefix(wanted.name, wanted.alias)).newest()
        if newest is None:
            raise self._no_alias(wanted)
        return self._through(wanted, newest)

    def newer(self, reference: str | Reference, seen: int) -> Resolved | None:
        """What an alias names now, if its number is beyond `seen`: one request for the next number where it is not.

        Always None for a version by number, which never changes. Raises as `resolve`.
        """
        wanted = read_reference(reference) if isinstance(reference, str) else reference
        if wanted.number:
            return None
        document = Numbered(self._store, alias_prefix(wanted.name, wanted.alias))
        try:
            document.read(seen + 1)
        except NotFound:
            return None
        newest = document.newest(seen + 1)
        return None if newest is None else self._through(wanted, newest)

    def history(self, name: str, alias: str, last: int = 100) -> tuple[Alias, ...]:
        """The `last` states of an alias, oldest first, without those that the trust file does not believe any more."""
        document = Numbered(self._store, alias_prefix(name, alias))

        def believed(number: int) -> Alias | None:
            try:
                return self._alias(name, alias, Document(number, document.read(number)))[0]
            except UNVERIFIED:
                return None

        with ThreadPoolExecutor(_AT_ONCE, "aimass-registry") as pool:
            found = pool.map(believed, document.numbers()[-last:])
            return tuple(state for state in found if state is not None)

    def every(self, name: str) -> Iterator[tuple[int, Resolved | AimassError]]:
        """All versions of a model, newest first, some of them read at once: each, or why it is not believed."""
        numbers = self.versions(name)[::-1]
        with ThreadPoolExecutor(_AT_ONCE, "aimass-registry") as pool:
            for start in range(0, len(numbers), _AT_ONCE):
                some = numbers[start : start + _AT_ONCE]
                yield from zip(some, pool.map(lambda number: self._tried(name, number), some), strict=True)

    def parameters(self, version: ModelVersion, folder: Path) -> Path:
        """Its safetensors file in `folder`, named by its digest, verified; a fetch that broke off goes on.

        Raises `IntegrityError` for other bytes, `OutOfSpace`, and what the store raises: never half a file.
        """
        part = version.parameters
        try:
            return fetch(self._store, parameters_key(version.name, part.digest), part.digest, part.bytes, folder)
        except NotFound as error:
            raise NotFound(
                "the parameters of this version are not kept any more",
                code="registry.collected",
                value=f"{version.name}@{version.number}, {part.digest} at {self._store.url}",
                cure="aimass model gc deletes those of old versions. Publish the same file again, or take a newer one.",
            ) from error

    def report(self, version: ModelVersion, part: Part) -> bytes:
        """A report of a version, verified; raises `IntegrityError` as `registry.report` for other bytes."""
        key = report_key(version.name, part.digest)
        data = self._store.read(key, 0, part.bytes + 1)
        if digest_of((data,)) != part.digest:
            raise IntegrityError(
                "a report has other bytes than its version names",
                code="registry.report",
                value=f"{key} at {self._store.url}",
                cure="It is not used. Put back the object that was published: publishing the same again does.",
            )
        return data

    def smoke(self, version: ModelVersion) -> SmokeInputs | None:
        """The rows to try it with and what it has to say of them; None where it was published without."""
        if version.smoke is None:
            return None
        return decode_canonical_json(SmokeInputs, self.report(version, version.smoke), "the smoke inputs")

    def manifest(self, version: ModelVersion) -> ModelManifest | None:
        """The manifest that its run ended with; None for what was published without one."""
        if version.manifest is None:
            return None
        return decode_manifest(self.report(version, version.manifest))

    def reference(self, version: ModelVersion) -> Spread:
        """How the columns of its training rows are spread; empty, with the reason, where nobody knows."""
        manifest = self.manifest(version)
        return Spread(reason="published without a run's manifest") if manifest is None else manifest.reference

    # ---------------------------------------------------------------- documents

    def _tried(self, name: str, number: int) -> Resolved | AimassError:
        try:
            return self._version(name, number)
        except UNVERIFIED as error:
            return error

    def _through(self, wanted: Reference, newest: Document) -> Resolved:
        alias, promoter = self._alias(wanted.name, wanted.alias, newest)
        found = self._version(wanted.name, alias.version)
        if found.digest != alias.version_digest:
            raise _elsewhere(f"{wanted}, number {alias.number}", alias.version_digest, found.digest)
        return dataclasses.replace(found, alias=alias, promoter=promoter)

    def _alias(self, name: str, alias: str, document: Document) -> tuple[Alias, str]:
        key = Numbered(self._store, alias_prefix(name, alias)).key(document.number)
        verified = read_signed(self._trust, Kind.ALIAS, document.data, key)
        said = decode_canonical_json(Alias, verified.data, key)
        if (said.model, said.alias, said.number) != (name, alias, document.number):
            raise _elsewhere(key, f"{name}@{alias} {document.number}", f"{said.model}@{said.alias} {said.number}")
        check_registry(self._trust, said.registry, key)
        return said, verified.signer

    def _version(self, name: str, number: int) -> Resolved:
        document = Numbered(self._store, versions_prefix(name))
        key = document.key(number)
        try:
            data = document.read(number)
        except NotFound:
            raise self._no_version(name, number) from None
        verified = read_signed(self._trust, Kind.VERSION, data, key)
        said = decode_canonical_json(ModelVersion, verified.data, key)
        if (said.name, said.number) != (name, number):
            raise _elsewhere(key, f"{name}@{number}", f"{said.name}@{said.number}")
        return Resolved(said, verified.digest, verified.signer)

    def _no_version(self, name: str, number: int) -> NotFound:
        held = ", ".join(map(str, self.versions(name)[-20:]))
        return NotFound(
            "the registry has no such version",
            code="registry.no_version",
            value=f"{name}@{number} at {self._store.url}",
            limit=held or "no version of this name",
            cure="aimass model list --registry URL shows what there is.",
        )

    def _no_alias(self, wanted: Reference) -> NotFound:
        return NotFound(
            "the registry has no such alias",
            code="registry.no_alias",
            value=f"{wanted} at {self._store.url}",
            limit=", ".join(self.aliases(wanted.name)) or "no alias of this name",
            cure=f"aimass model promote {wanted.name}@N --alias {wanted.alias} makes one.",
        )


def read_signed(trust: Trust, kind: Kind, data: bytes, where: str) -> Verified:
    """The document in an envelope, verified. Raises `BadInput` for what is no envelope, and as `Trust.verify`."""
    signed = decode_json(Signed, data, where)
    if canonical_json(signed) != data:
        raise BadInput(f"{where} is not in canonical form", code="value.not_canonical", cure="It is not used.")
    document = bytes(signed.document)
    return Verified(document, digest_of((document,)), trust.verify(kind, signed, where))


def check_registry(trust: Trust, named: str, where: str) -> None:
    """That a document was signed for the registry which is meant, where one is; raises `IntegrityError`."""
    if trust.registry and named != trust.registry:
        raise IntegrityError(
            "a signed document is meant for another registry",
            code="registry.other_registry",
            value=f"{named or 'no registry by name'} at {where}",
            limit=f"{trust.registry}, as the trust file says",
            cure="Nothing of it is used: somebody may have copied it here. If it shall hold here, promote again with a "
            "trust file that names this registry: aimass model trust registry NAME.",
        )


def _elsewhere(where: str, wanted: str, found: str) -> IntegrityError:
    return IntegrityError(
        "a signed document is not what its place says",
        code="registry.elsewhere",
        value=f"{found} at {where}",
        limit=wanted,
        cure="Somebody copied, renamed or replaced it: nothing of it is used. Put back what was committed there.",
    )
