"""Runs that are submitted over data sets of stores that hang: they wait for each other, and nobody else does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aimass.proto.data_sets import DataSetManifest, DataSetName
from aimass.proto.errors import Unavailable
from aimass.proto.plan import encode_plan
from aimass.server.offline.desk import OfflineDesk
from aimass.server.reports import Reports
from aimass.server.settings import OfflineSettings
from tests.support.boosting import Grove, plan_of
from tests.support.clock import ManualClock
from tests.support.engines import Bench


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
