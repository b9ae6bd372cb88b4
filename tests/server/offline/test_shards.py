"""Shards as files: what is being fetched ahead is not fetched once more by who needs it meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aimass.proto.data_sets import ShardEntry
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from aimass.server.datasets.replicas import Replicas
from aimass.server.offline.shards import Shards
from tests.support.dealt_sets import registered
from tests.support.simulations import shards_of


def test_a_shard_that_is_on_its_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/store"
    dealt = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=2, seed=2))
    shard = registered(open_objects(url), "heart", dealt).shards[0]
    shards = Shards("heart", (url,), tmp_path / "cache", 1 << 30)
    begun, fetch = threading.Event(), Replicas.fetch

    def slow(replicas: Replicas, one: ShardEntry, path: Path) -> Path:
        begun.set()
        threading.Event().wait(0.2)  # time enough for the other to begin as well
        return fetch(replicas, one, path)

    def held() -> bytes:
        with shards.held(shard) as path:
            return path.read_bytes()

    monkeypatch.setattr(Replicas, "fetch", slow)
    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(held)
        assert begun.wait(10)
        assert pool.submit(held).result(10) == ahead.result(10)
    assert shards.fetched().bytes_read == shard.size
