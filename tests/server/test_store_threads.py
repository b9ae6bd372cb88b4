"""A store of models that hangs keeps those waiting who ask for its models, and nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.origin import Origin
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, SubmitHeader
from aimass.server.readings import Readings
from aimass.server.reports import Reports
from aimass.server.store_threads import StoreThreads
from aimass.server.submission import Submission
from aimass.server.transfers import Transfers
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench

DIGEST = Blob(MODEL).digest
ORIGIN = Origin(data_set="heart@3", manifest="a" * 64, shards=4, rounds=2, engine="2 processes")


class _Hanging(FileBlobs):
    """Answers nobody until it is over."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.over = threading.Event(), threading.Event()

    def has(self, digest: str) -> bool:
        self.asked.set()
        self.over.wait(30)
        return super().has(digest)


@dataclasses.dataclass
class _Open:
    """A gate through which this one asks."""

    role: Role
    name: str

    async def admit(self, context: object, name: str) -> Peer:
        return Peer(self.role, self.name, 1, b"", math.inf)


Asks = Callable[[Bench, _Hanging], Coroutine[Any, Any, Any]]


def _transfers(bench: Bench, blobs: _Hanging, role: Role, name: str) -> Transfers:
    gate: Any = _Open(role, name)
    return Transfers(
        bench.contributions, bench.readings, blobs, bench.spool, gate, 1 << 20, lambda: None, bench.differences
    )


def _sends(bench: Bench, blobs: _Hanging) -> Coroutine[Any, Any, Any]:
    context: Any = None
    header = SubmitHeader(kind="model", size=len(MODEL), digest=DIGEST)
    return _transfers(bench, blobs, Role.OPERATOR, "olga").authorise_submit(context, header)


async def _fetches(bench: Bench, blobs: _Hanging) -> None:
    context: Any = None
    run_id = await bench.submit(bench.plan(rounds=1, deadline_s=1e6))
    await bench.join(run_id)
    await bench.until(run_id, lambda run: "0" in run.open)
    request = FetchRequest(digest=DIGEST, run_id=run_id)
    await _transfers(bench, blobs, Role.PARTNER, "north").authorise_fetch(context, request)


def _reports(bench: Bench, blobs: _Hanging) -> Coroutine[Any, Any, Any]:
    reports = Reports(bench.engine, bench.store, blobs, lambda: bench.roster, lambda: None)
    return reports.begin(bench.plan(2), "anna:offline", ORIGIN, "anna")


def _submits(bench: Bench, blobs: _Hanging) -> Coroutine[Any, Any, Any]:
    submission = Submission(bench.engine, bench.store, blobs, lambda: bench.roster, lambda: None)
    return submission.submit(bench.plan(2), "anna:federated", "anna")


async def _reads(bench: Bench, blobs: _Hanging) -> None:
    run_id = await bench.submit(bench.plan(rounds=2, deadline_s=1e6))
    await bench.join(run_id)
    await bench.until(run_id, lambda run: "0" in run.open)
    for partner in bench.partners:
        await bench.send(run_id, partner, 0)
    await bench.until(run_id, lambda run: "1" in run.open)
    await Readings(bench.engine, bench.store, blobs, bench.outbox, lambda: 0).run_view(run_id)


@pytest.mark.parametrize("asks", [_sends, _fetches, _reports, _submits, _reads])
def test_whoever_asks_a_store_that_hangs_takes_no_thread_from_anybody_else(tmp_path: Path, asks: Asks) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        bench.blobs.put([MODEL])
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        blobs, watching = _Hanging(tmp_path / "blobs"), StoreThreads(1, "test")
        asking = asyncio.create_task(asks(bench, blobs))
        try:
            async with asyncio.timeout(10):
                await watching.run(blobs.asked.wait, 10)
                assert await asyncio.to_thread(bench.blobs.has, DIGEST)
                assert await bench.engine.on_disk(lambda: True)
            assert not asking.done()
        finally:
            blobs.over.set()
            await asking
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_who_stops_waiting_before_its_turn_asks_the_store_nothing() -> None:
    async def scenario() -> None:
        threads, over, asked = StoreThreads(1, "test"), threading.Event(), list[int]()
        first = asyncio.create_task(threads.run(over.wait, 30))
        second = asyncio.create_task(threads.run(asked.append, 2))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        over.set()
        assert await first
        await threads.run(asked.append, 3)
        assert asked == [3]

    asyncio.run(asyncio.wait_for(scenario(), 60))
