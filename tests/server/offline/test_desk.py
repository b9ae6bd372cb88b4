"""Runs that are submitted over data sets of stores that hang: they wait for each other, and nobody else does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from aimass.proto.data_sets import DataSetManifest, DataSetName
from aimass.proto.errors import LimitExceeded, Unavailable
from aimass.proto.objects import open_objects
from aimass.proto.plan import decode_plan, encode_plan
from aimass.server.offline.desk import OfflineDesk
from aimass.server.reports import Reports
from aimass.server.settings import OfflineSettings
from tests.support.boosting import Grove, plan_of
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench
from tests.support.stores import SCHEMA, stored


class _Hanging(OfflineDesk):
    """Its stores answer nobody until it is over."""

    over = threading.Event()

    def _found(self, name: DataSetName) -> DataSetManifest:
        self.over.wait(30)
        raise Unavailable(f"nobody knows of {name.name}", code="store.hangs")


def test_submits_to_a_store_that_hangs_take_no_thread_from_anybody_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        reports = Reports(bench.engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
        settings = OfflineSettings(stores=("file:///store",))
        desk = _Hanging(reports, settings, "file:///out", ManualClock())
        plan = encode_plan(plan_of(Grove(), rounds=1))
        submits = [asyncio.create_task(desk.submit(plan, f"anna:{i}", "ward", "anna")) for i in range(20)]
        try:
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                assert not await asyncio.to_thread(bench.blobs.has, "1" * 64)
        finally:
            desk.over.set()
            ended = await asyncio.gather(*submits, return_exceptions=True)
        assert {type(each) for each in ended} == {Unavailable}
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_one_person_has_so_many_open_runs_and_others_theirs(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        bench.blobs.put([MODEL])
        reports = Reports(bench.engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
        settings = OfflineSettings(stores=(f"file://{tmp_path}/store",), most_open=2)
        stored(open_objects(settings.stores[0]), "t", [b"rows"])
        desk = OfflineDesk(reports, settings, "file:///out", ManualClock())
        plan = encode_plan(msgspec.structs.replace(decode_plan(bench.plan(2)), data_schema=SCHEMA.name))
        first = await desk.submit(plan, "anna:1", "t", "anna")
        await desk.submit(plan, "anna:2", "t", "anna")
        with pytest.raises(LimitExceeded) as told:
            await desk.submit(plan, "anna:3", "t", "anna")
        assert told.value.code == "offline.most_open"
        assert await desk.submit(plan, "anna:1", "t", "anna") == first, "the same key is the same run"
        await desk.submit(plan, "bert:1", "t", "bert")
        await reports.end(first, "stopped", "enough")
        await desk.submit(plan, "anna:3", "t", "anna")
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))
