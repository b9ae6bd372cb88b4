"""Frozen models that tasks build on, each named by the digest of its blob and found on this machine's own disk.

A base never crosses the wire with updates: a run's parameters are what a task trains on top of it (see `frozen`).
Whoever builds the task's model must hold the very bytes, by their SHA-256: partner, simulation, submission, serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec

from aimass.proto.cache import cache_folder
from aimass.proto.durable import UNINTERRUPTED, Durability, fsync_folder, make_folder, write_file
from aimass.proto.errors import AimassError, BadInput, Conflict, IntegrityError, NotFound, Refused
from aimass.proto.hashing import digest_of
from aimass.proto.names import Digest, Name
from aimass.proto.storage import FileBlobs, Spool, map_file
from aimass.proto.tensors import Blob, blob_parts, read_arrays
from aimass.proto.values import Value, canonical_json, convert, decode_json, decode_toml

__all__ = ["Base", "BaseFolder", "Bases", "HeldBase", "another", "base_in", "check_planned", "own_bases"]

FILE: Final = "base.toml"
_COMING: Final = "coming"


class Base(Value, frozen=True):
    """A base by name, for people, and by the SHA-256 and size of its canonical safetensors blob, which decide."""

    name: Name
    digest: Digest
    bytes: Annotated[int, msgspec.Meta(ge=8)]


def base_in(package: Path) -> Base | None:
    """The base that a task's package names in `base.toml`, which is read without running any of it; None for none."""
    path = package / FILE
    return decode_toml(Base, path.read_text("utf-8"), str(path)) if path.is_file() else None


def check_planned(planned: Base | None, named: Base | None) -> None:
    """Raise `Refused` where a plan has another base than its task names."""
    if planned != named:
        raise Refused(
            "the plan has another base than its task",
            code="task.base",
            value="none" if planned is None else f"{planned.name} {planned.digest}",
            limit="none" if named is None else f"{named.name} {named.digest}",
            cure="Leave it to `aimass run submit`, which takes it from the task.",
        )


class Bases(Protocol):
    """Where a task finds its base."""

    def open(self, base: Base) -> Blob:
        """The base, mapped read-only where that is possible; raises `NotFound` where it is not here."""
        ...


class HeldBase:
    """One base that is open already: what a training child is handed, and verifies over the bytes that it maps."""

    def __init__(self, base: Base, data: memoryview) -> None:
        """Raises `IntegrityError` for other bytes than the base's."""
        self._base, self._blob = base, Blob(data)
        if self._blob.digest != base.digest:
            raise IntegrityError(
                f"the file of the base {base.name} has changed on the disk",
                code="base.changed",
                value=self._blob.digest,
                limit=base.digest,
                cure=f"aimass client base remove {base.digest[:16]}; then add it again, or let it be fetched.",
            )

    def open(self, base: Base) -> Blob:
        """It, if it is the one; raises `Conflict` for any other."""
        if base.digest != self._base.digest:
            raise another(base, self._base)
        return self._blob


class BaseFolder:
    """A folder of bases: each blob in a file, and beside it a note of what it is, written last."""

    def __init__(self, folder: Path, durability: Durability = UNINTERRUPTED) -> None:
        self._folder, self._durability = folder, durability

    def open(self, base: Base) -> Blob:
        """The base, verified the first time that this process opens it.

        Raises `NotFound` where it is not here, `Conflict` where one of its name is that is another, `IntegrityError`
        where its file has changed.
        """
        self.require(base)
        return Blob(self.blobs.open(base.digest))

    def require(self, base: Base) -> None:
        """Raise as `open` does where it is not here."""
        held = list(self.all())
        if base.digest in {each.digest for each in held}:
            return
        if named := [each for each in held if each.name == base.name]:
            raise another(base, named[0])
        raise NotFound(
            f"the base {base.name} is not here",
            code="base.absent",
            value=base.digest,
            limit=", ".join(f"{each.name} {each.digest[:16]}" for each in held) or "none",
            cure="Add its file: aimass client base add FILE. `aimass client base list` shows what is here.",
        )

    def has(self, base: Base) -> bool:
        """Whether it is here."""
        return self._note(base.digest).is_file() and self.blobs.has(base.digest)

    def path(self, base: Base) -> Path:
        """Its file, for another process, which verifies what it maps; raises as `require` does."""
        self.require(base)
        return self.blobs.path(base.digest)

    def add(self, name: str, file: Path) -> Base:
        """Take a safetensors file, written canonically: whoever adds the same tensors has the same base.

        Raises `BadInput` for a file or a name that is none.
        """
        try:
            layout, parts = blob_parts(read_arrays(map_file(file)))
        except BadInput as error:
            raise BadInput(
                "this is no safetensors file that can be a base",
                code="base.file",
                value=file,
                cure="Give the weights as safetensors; aimass data get encoder brings such a file.",
            ) from error
        base = convert(Base, {"name": name, "digest": digest_of(parts), "bytes": layout.total_bytes}, "the base")
        self.blobs.put(parts)
        self._keep(base)
        return base

    def adopt(self, base: Base, path: Path) -> None:
        """Take a file of the same disk whose digest was verified."""
        self.blobs.adopt(path, base.digest)
        self._keep(base)

    def _keep(self, base: Base) -> None:
        # Nobody writes to it any more: who was handed it could not open it anew for that either.
        self.blobs.path(base.digest).chmod(0o444)
        write_file(self._note(base.digest), canonical_json(base), self._durability, "base.note", 0o644)

    def spool(self) -> Spool:
        """Where one that is fetched grows, and is gone on with after a restart."""
        return Spool(make_folder(self._folder / _COMING), self._durability)

    def all(self) -> Iterator[Base]:
        """Those that are here, by digest."""
        for path in sorted(self._folder.glob("*.json")):
            yield decode_json(Base, path.read_bytes(), str(path))

    def find(self, named: str) -> Base:
        """The base of this name, or whose digest begins so; raises `NotFound` for none, `Conflict` for several."""
        held = list(self.all())
        found = [base for base in held if base.name == named or base.digest.startswith(named)]
        told = ", ".join(f"{base.name} {base.digest[:16]}" for base in found or held) or "none"
        if not found:
            raise NotFound("no such base is here", code="base.absent", value=named, limit=told)
        if len(found) > 1:
            raise Conflict(
                "several bases are named so", code="base.several", value=named, limit=told, cure="Name its digest."
            )
        return found[0]

    def remove(self, base: Base) -> None:
        """Delete a base, the note first: what a kill leaves is no base any more."""
        self._note(base.digest).unlink(missing_ok=True)
        fsync_folder(self._folder)
        self.blobs.delete(base.digest)

    @cached_property
    def blobs(self) -> FileBlobs:
        """The blobs, made with the folder when the first one is wanted."""
        return FileBlobs(self._folder, self._durability)

    def _note(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"


def another(wanted: Base, found: Base) -> AimassError:
    """What is said where a base is here that is not the one that is wanted."""
    return Conflict(
        f"the base {wanted.name} is another here",
        code="base.other",
        value=f"{found.name} {found.digest}",
        limit=wanted.digest,
        cure="Add the base that the task is made for; several can lie side by side: aimass client base add FILE.",
    )


def own_bases() -> BaseFolder:
    """The person's own, in the cache folder: for whoever submits, simulates or predicts."""
    return _folder(cache_folder() / "bases")


@lru_cache(maxsize=8)
def _folder(path: Path) -> BaseFolder:
    """One for each path: what it has verified it does not verify with each model that is built."""
    return BaseFolder(path)
