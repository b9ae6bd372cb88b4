"""The versions that a watcher knows: from the registry, or, while that is away, from this disk. All calls block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from aimass.privacy.model_trust import TRUST_FILE_FAULTS
from aimass.proto.errors import (
    AimassError,
    Conflict,
    DeadlinePassed,
    IntegrityError,
    NotFound,
    OutOfSpace,
    Refused,
    Unavailable,
)
from aimass.proto.model_manifest import Reference as Spread
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.server.serving.watching.last_good import LastGood
from aimass.server.serving.watching.state import Again, Promoted, Release

__all__ = ["Prepared", "Releases", "again_of", "promoted_of", "release_of"]

T = TypeVar("T")
_PASSING: Final = (Conflict, DeadlinePassed, IntegrityError)


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A version on this disk: its parameters, smoke inputs, and how its training rows are spread."""

    found: Resolved
    parameters: Path
    smoke: SmokeInputs | None
    reference: Spread


def release_of(found: Resolved) -> Release:
    """A verified version as decisions know it."""
    version = found.version
    return Release(number=version.number, digest=found.digest, created_at=version.created_at)


def promoted_of(found: Resolved) -> Promoted:
    """What the registry says is to be served."""
    alias = found.alias
    if alias is None:
        return Promoted(release_of(found))
    return Promoted(release_of(found), alias.number, alias.reason, found.promoter)


def again_of(error: AimassError, *, fetching: bool) -> Again:
    """Whether what failed with `error` may succeed later: a full disk, a store that is away, or a trust file that can
    be read again will."""
    if isinstance(error, OutOfSpace) or error.code in TRUST_FILE_FAULTS:
        return Again.ALWAYS
    if isinstance(error, Unavailable):
        return Again.ALWAYS if fetching else Again.SOME
    if isinstance(error, NotFound) and fetching:  # as of a store that is not mounted
        return Again.SOME
    return Again.SOME if isinstance(error, _PASSING) else Again.NEVER


class Releases:
    """Of one model."""

    def __init__(self, reference: Reference, store: ObjectStore, reader: RegistryReader, last_good: LastGood) -> None:
        self._reference, self._store, self._reader, self._last_good = reference, store, reader, last_good
        self._known: dict[str, Resolved] = {}
        self._now: Resolved | None = None
        """What the registry said last, if it could be believed."""
        self._documents: dict[str, dict[str, bytes]] = {}
        """Of the version that was prepared last, by its digest: when it is good the registry may have lost them."""

    def known(self, release: Release) -> Resolved | None:
        """What was verified of a version."""
        return self._known.get(release.digest)

    def kept(self) -> Resolved | None:
        """The version on this disk that was good last."""
        found = self._last_good.kept(self._reference)
        return None if found is None else self._noted(found)

    def resolve(self) -> Resolved:
        """What the registry says now; raises as `RegistryReader.resolve`."""
        self._now = None
        self._now = self._noted(self._reader.resolve(self._reference))
        return self._now

    def newer(self, seen: int) -> Resolved | None:
        """What it says, if that is newer than the alias's state `seen`; raises as `RegistryReader.newer`."""
        found = self._reader.newer(self._reference, seen)
        if found is not None:
            self._now = self._noted(found)
        return found

    def prepare(self, release: Release) -> Prepared:
        """Bring a version to this disk, verified; raises what its documents or its parameters do."""
        now = self._now
        found = now if now is not None and now.digest == release.digest else self._anew(release)
        self._documents = {found.digest: self._last_good.missing(self._store, found)}
        parameters = self._reader.parameters(found.version, self._last_good.parameters)
        smoke = self._either(lambda reader: reader.smoke(found.version))
        spread = self._either(lambda reader: reader.reference(found.version))
        return Prepared(found, parameters, smoke, spread)

    def keep(self, release: Release) -> None:
        """It is good: keep what a start without the registry needs."""
        found = self._known.get(release.digest)
        if found is not None:
            self._last_good.keep(self._documents.pop(release.digest, {}))
            self._last_good.keep(self._last_good.missing(self._store, found))  # where it was promoted again since

    def _anew(self, release: Release) -> Resolved:
        """A version that was good here before: who signed it, and who promoted it, has to be believed still."""
        reference = Reference(self._reference.name, number=release.number)
        found = self._either(lambda reader: reader.resolve(reference))
        if found.digest != release.digest:
            raise IntegrityError(
                "the registry has another version under this number than was good here",
                code="registry.replaced",
                value=found.digest,
                limit=release.digest,
                cure="Versions are never replaced: find out who did it.",
            )
        if self._reference.alias and not self._was_promoted(release):
            raise Refused(
                "no promotion of this version is by somebody whom the trust file believes now",
                code="registry.not_promoted",
                value=f"{self._reference} as version {release.number}",
                cure="It is not served. Promote it again with a key that is believed.",
            )
        return self._noted(found)

    def _was_promoted(self, release: Release) -> bool:
        """Whether a state of the alias, in the registry or on this disk, that is believed now names it."""
        name, alias = self._reference.name, self._reference.alias
        states = self._last_good.reader.history(name, alias)
        if all(state.version_digest != release.digest for state in states):
            states = self._reader.history(name, alias)
        return any(state.version_digest == release.digest for state in states)

    def _either(self, read: Callable[[RegistryReader], T]) -> T:
        """What the registry has, or this disk where it is away or empty: a volume that is not mounted has nothing."""
        try:
            return read(self._reader)
        except (Unavailable, NotFound) as error:
            try:
                return read(self._last_good.reader)
            except NotFound:
                raise error from None

    def _noted(self, found: Resolved) -> Resolved:
        known = self._known.get(found.digest)
        if known is None or found.alias is not None or known.alias is None:
            self._known[found.digest] = found
        return found
