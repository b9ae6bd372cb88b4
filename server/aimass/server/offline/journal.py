"""What an offline run leaves in its store: how it was begun, and a numbered commit for each round.

    setup.json                   a `Setup`, created under a condition: the run is begun
    commits/00000001.json        a `Commit`; the highest number is where the run stands
    blobs/                       plan, manifest, models, local states and saved runs by digest
    updates/STEP/                contributions that are too large to go back with an answer
    model.safetensors            the model, once the run has ended

A commit is created under a condition, so of two drivers that go on with one run the second to commit is told. Commits
are small and never deleted: that is what makes the condition hold.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from aimass.proto.data_sets import DataSetManifest, read_data_set
from aimass.proto.errors import AimassError, Conflict, IntegrityError, NotFound
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.objects import ObjectStore, commits, open_objects
from aimass.proto.plan import Plan, decode_plan
from aimass.proto.storage import Blobs
from aimass.proto.stored import open_blobs
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.offline.schedules import Schedule
from aimass.server.simulation.folder import Committed, Saved

__all__ = ["MODEL", "Commit", "Journal", "Setup", "below"]

_SETUP: Final = "setup.json"
_COMMITS: Final = "commits/"
MODEL: Final = "model.safetensors"
_CACHE_BYTES: Final = 4 << 30
"""What a machine keeps of a run's blobs: a few models at once are in use, and states of some shards."""


class Setup(Value, frozen=True):
    """What a run was begun with: blobs of the plan, of the data set's manifest and of the run before its first step;
    the URLs of the stores that hold its shards, the policy of its gate as TOML, the versions of packages that it
    computed with then, and how shards train in a round."""

    run_id: RunId
    plan: Digest
    data_set: Name
    version: Annotated[int, msgspec.Meta(ge=1)]
    manifest: Digest
    first: Digest
    stores: tuple[str, ...]
    policy: str
    software: dict[str, str] = {}
    schedule: Schedule = "averaging"


class Commit(Value, frozen=True):
    """Steps that came to their end together, and the blob of the run as it stands then. `writer` is the driver's own
    mark: by it a driver knows its commit when the answer to its creation was lost."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    told: tuple[Committed, ...]
    saved: Digest
    writer: str


def below(url: str, name: str) -> str:
    """The URL of a part of a store."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


class Journal:
    """One run in one store, for its driver; workers read what it was begun with, and models."""

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """`cache` is the run's folder on this machine for blobs of a store elsewhere; without one, the user's."""
        self.url, self._cache = url, cache
        self.objects: ObjectStore = open_objects(url)
        self._writer, self._next = secrets.token_hex(8), 1

    def blobs(self) -> Blobs:
        """Models, local states and saved runs, by a store that has opened none yet."""
        return open_blobs(below(self.url, "blobs"), self._cache, _CACHE_BYTES)

    @property
    def begun(self) -> bool:
        """Whether a run stands here."""
        try:
            self.objects.head(_SETUP)
        except NotFound:
            return False
        return True

    def begin(self, setup: Setup) -> None:
        """Write down a new run whose blobs are here.

        Raises `Conflict` where one was begun, `Refused` where the store does not keep two drivers apart.
        """
        commits(self.objects)
        try:
            self.objects.create(_SETUP, canonical_json(setup))
        except Conflict as error:
            raise Conflict(
                "an offline run stands in this store",
                code="offline.exists",
                value=self.url,
                cure="Go on with it (--resume), or name another store or prefix (--out).",
            ) from error

    def setup(self) -> Setup:
        """What it was begun with; raises `NotFound` where none was."""
        try:
            data = self.objects.read(_SETUP)
        except NotFound as error:
            raise NotFound(
                "no offline run stands in this store",
                code="offline.absent",
                value=self.url,
                cure="Begin it without --resume, or name its store (--out).",
            ) from error
        return decode_json(Setup, data, below(self.url, _SETUP))

    def plan(self, blobs: Blobs) -> Plan:
        """The plan as it was begun with; raises `IntegrityError` where its blob has changed."""
        return decode_plan(bytes(blobs.open(self.setup().plan)))

    def data_set(self, blobs: Blobs) -> DataSetManifest:
        """The data set's version as it was begun with; raises `IntegrityError` where its blob has changed."""
        digest = self.setup().manifest
        return read_data_set(bytes(blobs.open(digest)), below(self.url, f"blobs/{digest}"))

    def commits(self, first: int = 1) -> Iterator[Commit]:
        """Those from number `first` on, in order; those that a late list leaves out are there too."""
        number = first
        while (commit := self._commit(number)) is not None:
            yield commit
            number += 1

    def newest(self) -> str:
        """The blob of the run as it stands; `commit` goes on after it. Raises `NotFound` where none was begun."""
        setup = self.setup()
        listed = [info.key for info in self.objects.list(_COMMITS)]
        self._next = 1 + (int(max(listed)[len(_COMMITS) : -len(".json")]) if listed else 0)
        while self._commit(self._next) is not None:  # of a store that lists late
            self._next += 1
        if self._next == 1:
            return setup.first
        newest = self._commit(self._next - 1)
        if newest is None:
            raise IntegrityError("a commit of an offline run is gone", code="offline.commits", value=self.url)
        return newest.saved

    def load(self, blobs: Blobs) -> tuple[str, Saved]:
        """The run as it stands, and its blob."""
        digest = self.newest()
        return digest, decode_json(Saved, bytes(blobs.open(digest)), below(self.url, f"blobs/{digest}"))

    def commit(self, saved: Saved, told: tuple[Committed, ...], blobs: Blobs) -> str:
        """Where the run stands from now on; the digest of what was saved.

        Raises `Conflict` where another driver went on with this run meanwhile: nothing of this one counts any more.
        """
        digest = blobs.put([canonical_json(saved)])
        commit = Commit(number=self._next, told=told, saved=digest, writer=self._writer)
        try:
            self.objects.create(_key(self._next), canonical_json(commit))
        except Conflict as error:
            if self._commit(self._next) != commit:
                raise _other_driver(self.url) from error
        self._next += 1
        return digest

    def check_alone(self) -> None:
        """Raise `Conflict` where another driver has gone on with this run, before work is begun that will not count."""
        if self._commit(self._next) is not None:
            raise _other_driver(self.url)

    def _commit(self, number: int) -> Commit | None:
        try:
            data = self.objects.read(_key(number))
        except AimassError as error:
            if error.code == "storage.unknown":
                return None
            raise
        return decode_json(Commit, data, below(self.url, _key(number)))


def _key(number: int) -> str:
    return f"{_COMMITS}{number:08}.json"


def _other_driver(url: str) -> Conflict:
    return Conflict(
        "another driver works on this run",
        code="offline.driver",
        value=url,
        cure="Let that one go on, or stop it and then --resume.",
    )
