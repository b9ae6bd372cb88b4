"""Models at a partner: one file for a model, however many runs want it at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aimass.client.model_cache import ModelCache
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.grpc_env import grpc
from aimass.proto.transfer import FetchRequest, fetch
from tests.proto.test_transfer import DATA, DIGEST, Side, over_the_wire


def test_runs_that_want_one_model_at_once_get_it_whole(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        cache, fetches = ModelCache(tmp_path / "cache", UNINTERRUPTED), 0

        async def get() -> Path:
            nonlocal fetches
            fetches += 1
            return await fetch(channel, FetchRequest(digest=DIGEST), cache.spool, 10 << 20)

        async def step(run_id: str) -> bytes:
            cache.hold(run_id, (DIGEST,))
            return (await cache.fetched(DIGEST, get)).read_bytes()

        assert await asyncio.gather(*(step(f"run {number}") for number in range(4))) == [DATA] * 4
        assert fetches == 1
        again = ModelCache(tmp_path / "cache", UNINTERRUPTED)
        again.sweep({"run 0": (DIGEST,)})
        assert (await again.fetched(DIGEST, get)).read_bytes() == DATA
        assert fetches == 1, "what is whole is not fetched again after a restart"
        again.release("run 0")
        assert not again.spool.has(DIGEST)

    over_the_wire(tmp_path, work)
