"""Shards as files: what is being fetched ahead is not fetched once more by who needs it meanwhile."""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pytest

from aimass.proto.data_sets import ShardEntry
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from aimass.server.datasets.replicas import Replicas
from aimass.server.offline.shards import Shards
from tests.support.dealt_sets import registered
from tests.support.simulations import shards_of


class _Watched:
    """A lock that says when somebody comes while another has it."""

    def __init__(self) -> None:
        self.waited_for = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waited_for.set()
            self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()


def test_a_shard_that_is_on_its_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/store"
    dealt = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=2, seed=2))
    shard = registered(open_objects(url), "heart", dealt).shards[0]
    shards = Shards("heart", (url,), tmp_path / "cache", 1 << 30)
    begun, coming, fetch = threading.Event(), _Watched(), Replicas.fetch

    def slow(replicas: Replicas, one: ShardEntry, path: Path) -> Path:
        begun.set()
        assert coming.waited_for.wait(10), "the other fetched it too"
        return fetch(replicas, one, path)

    def held() -> bytes:
        with shards.held(shard) as path:
            return path.read_bytes()

    monkeypatch.setattr(Replicas, "fetch", slow)
    monkeypatch.setattr(shards, "_coming", defaultdict(lambda: coming))
    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(held)
        assert begun.wait(10)
        assert pool.submit(held).result(10) == ahead.result(10)
    assert shards.fetched().bytes_read == shard.size
