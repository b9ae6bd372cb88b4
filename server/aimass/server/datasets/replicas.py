"""Shards as a reader needs them: true bytes from whichever store has them, and a note of every store that failed.

A store may be away, slow, or hold other bytes than the digest says. Reading goes on with the next one; what was found
is kept for `repair`, and a store that failed is asked last for a while.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from aimass.proto.data_sets import ShardEntry, shard_key
from aimass.proto.durable import disk_errors
from aimass.proto.errors import (
    AimassError,
    Conflict,
    DeadlinePassed,
    IntegrityError,
    NotFound,
    Refused,
    Stopped,
    Unauthenticated,
    Unavailable,
)
from aimass.proto.objects import ObjectStore
from aimass.server.datasets.race import first_good
from aimass.server.datasets.verified import verified

__all__ = ["Fault", "FaultKind", "Patience", "Replicas", "Standing", "fault_of"]

T = TypeVar("T")


class FaultKind(enum.StrEnum):
    """What was wrong with a copy, or with its store."""

    MISSING = "missing"
    FALSE = "false"
    AWAY = "away"
    SLOW = "slow"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One copy that could not be read from one store: the shard's digest, and the error's code."""

    store: str
    sha256: str
    kind: FaultKind
    code: str


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """When a read counts as slow: later than `start_s` plus the time that `least_bytes_per_s` would take. A store that
    failed is asked last for `rest_s`."""

    start_s: float = 5.0
    least_bytes_per_s: int = 4 << 20
    rest_s: float = 60.0

    def seconds(self, size: int) -> float:
        """How long to wait for `size` bytes before another store is asked as well."""
        return self.start_s + size / self.least_bytes_per_s


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Which stores failed lately: until when each is asked last."""

    resting: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def failed(self, store: str, until: float) -> Standing:
        """After a failure."""
        return Standing({**self.resting, store: until})

    def at_rest(self, now: float) -> frozenset[str]:
        """Those that are asked last."""
        return frozenset(url for url, until in self.resting.items() if until > now)

    def order(self, stores: Sequence[str], now: float) -> tuple[str, ...]:
        """`stores` as given, those that rest behind the others."""
        return tuple(sorted(stores, key=lambda url: self.resting.get(url, now) > now))


def fault_of(error: AimassError) -> FaultKind | None:
    """What `error` says of a copy; None where it says nothing of the store that was read."""
    match error:
        case NotFound():
            return FaultKind.MISSING
        case IntegrityError() | Conflict():  # replaced while it was read: no shard ever is
            return FaultKind.FALSE
        case Unavailable() | DeadlinePassed() | Refused() | Unauthenticated():
            return FaultKind.AWAY
        case _:
            return None


class Replicas:
    """The copies of one data set's shards, in the order in which they are preferred. For any number of threads."""

    def __init__(
        self,
        name: str,
        stores: Sequence[ObjectStore],
        now: Callable[[], float],
        patience: Patience = Patience(),
        heard: Callable[[Fault], None] | None = None,
    ) -> None:
        """`heard` is told of each fault when it is found."""
        self._name, self._now, self._patience, self._heard = name, now, patience, heard
        self._stores = {store.url: store for store in stores}
        self._standing = Standing()
        self._faults: dict[Fault, int] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def faults(self) -> Mapping[Fault, int]:
        """What was found so far, and how often."""
        with self._one_at_a_time:
            return self._faults.copy()

    def read(self, shard: ShardEntry) -> bytes:
        """The shard's bytes; raises the last store's error where none has them."""

        def whole(store: ObjectStore, over: threading.Event) -> bytes:
            return b"".join(self._chunks(store, shard, over))

        return self._raced(shard, whole, discard=len)

    def fetch(self, shard: ShardEntry, path: Path) -> Path:
        """The shard's bytes as the file `path`, whole or not at all; raises as `read`, and `OutOfSpace`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self._raced(shard, functools.partial(self._fetched, shard, path), Path.unlink)
        return part.replace(path)

    def _raced(
        self,
        shard: ShardEntry,
        attempt: Callable[[ObjectStore, threading.Event], T],
        discard: Callable[[T], object],
    ) -> T:
        with self._one_at_a_time:
            urls = self._standing.order(tuple(self._stores), self._now())
        attempts = [functools.partial(attempt, self._stores[url]) for url in urls]

        def failed(place: int, error: AimassError | None) -> None:
            self._note(urls[place], shard, error)

        return first_good(attempts, self._patience.seconds(shard.size), failed, discard)

    def _note(self, url: str, shard: ShardEntry, error: AimassError | None) -> None:
        """Keep what was found; raises what is not the store's fault."""
        kind = FaultKind.SLOW if error is None else fault_of(error)
        if kind is None:
            raise error or AssertionError
        fault = Fault(url, shard.sha256, kind, error.code if error is not None else "dataset.slow")
        with self._one_at_a_time:
            self._faults[fault] = self._faults.get(fault, 0) + 1
            if kind is not FaultKind.MISSING:  # one copy less says nothing of the next
                self._standing = self._standing.failed(url, self._now() + self._patience.rest_s)
        if self._heard is not None:
            self._heard(fault)

    def _fetched(self, shard: ShardEntry, path: Path, store: ObjectStore, over: threading.Event) -> Path:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with disk_errors(path.name), part.open("xb") as file:
                for chunk in self._chunks(store, shard, over):
                    file.write(chunk)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return part

    def _chunks(self, store: ObjectStore, shard: ShardEntry, over: threading.Event) -> Iterator[bytes]:
        chunks = store.stream(shard_key(self._name, shard.sha256))
        for chunk in verified(chunks, shard.sha256, shard.size, store.url):
            if over.is_set():
                raise Stopped("another store was faster", code="dataset.slower")
            yield chunk
