"""Drivers as child processes: what they come to is recorded, and deaths, stops and restarts of the server lose nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.clock import SystemClock
from aimass.proto.origin import Origin
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import encode_numpy
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.audit import audit_run, gather
from aimass.server.offline import supervisor
from aimass.server.offline.order import FIRST, WORK
from aimass.server.offline.supervisor import LOG, Supervisor
from aimass.server.reported import MOST_DEATHS
from aimass.server.reports import Reports
from aimass.server.simulation.folder import Committed
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench

ORIGIN = Origin(data_set="heart@1", manifest="a" * 64, shards=2, rounds=3)

DRIVER = """
import os, pathlib, sys, time
folder, lines, then = pathlib.Path(sys.argv[1]), sys.argv[2:-1], sys.argv[-1]
(folder / "lives").open("a").write("x")
with (folder / "steps").open("a") as steps:
    told = len((folder / "steps").read_text().splitlines())
    for line in lines[told:told + 1 if then == "die" else None]:
        steps.write(line + chr(10))
        steps.flush()
if then == "finish":
    (folder / "end").touch()
elif then == "hang":
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)
else:
    sys.exit("no memory")
"""


@dataclasses.dataclass(frozen=True)
class Written:
    """What the fake driver of a folder has written."""

    folder: Path
    blobs: FileBlobs

    def steps(self, first: int) -> Sequence[Committed]:
        held = self.folder / "steps"
        lines = held.read_bytes().splitlines(keepends=True) if held.exists() else []
        return [decode_json(Committed, line, "a step") for line in lines if line.endswith(b"\n")][first:]

    def model(self, digest: str) -> memoryview:
        return self.blobs.open(digest)

    def end(self) -> tuple[RunState, str] | None:
        return (RunState.FINISHED, "3 rounds") if (self.folder / "end").exists() else None


class House:
    """A server's engine with a supervisor whose drivers do as they are told here."""

    def __init__(self, folder: Path, then: str, course: type[Written] = Written) -> None:
        self.folder, self.then, self.course = folder, then, course
        (folder / "store").mkdir(exist_ok=True)
        self.models = FileBlobs(folder / "models")
        digests = [self.models.put([encode_numpy({"w": np.full(4, value, np.float32)})]) for value in range(1, 4)]
        self.steps = [
            Committed(index=i, kind=StepKind.TRAIN, round=i + 1, asked=2, counted=2, seconds=1.0, model=digest)
            for i, digest in enumerate(digests)
        ]
        self.bench: Bench
        self.run_id = ""
        self.told = Path()

    def _command(self, run: runs.Run, offline: runs.Offline, folder: Path) -> Sequence[str]:
        lines = [canonical_json(step).decode() for step in self.steps]
        self.told = folder
        return [sys.executable, "-c", DRIVER, str((self.folder / "store").absolute()), *lines, self.then]

    async def start(self) -> None:
        self.bench = await Bench.start(self.folder, ManualClock())
        engine, bench = self.bench.engine, self.bench
        self.reports = Reports(engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
        engine.programs = Supervisor(
            engine, self.reports, bench.blobs, self.folder / "offline", self._command,
            lambda out, _: self.course(Path(out), self.models), _Hasty(),
        )  # fmt: skip
        for live in engine.lives():
            engine.programs.changed(live)

    async def submit(self) -> None:
        self.bench.blobs.put([MODEL])
        job = runs.Job(stores=(), out=str(self.folder / "store"))
        standing = await self.reports.begin(self.bench.plan(3), "anna:offline", ORIGIN, "anna", lambda _: job)
        self.run_id = standing.run_id

    async def until(self, state: RunState, steps: int) -> runs.Run:
        return await self.bench.until(self.run_id, lambda run: run.state is state and run.next_index >= steps)

    @property
    def lives(self) -> int:
        return len((self.folder / "store" / "lives").read_text())


class _Hasty(SystemClock):
    """Waits no longer than a moment."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def test_what_a_driver_comes_to_is_recorded_with_its_models(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "finish")
        await house.start()
        await house.submit()
        run = await house.until(RunState.FINISHED, 3)
        assert run.model == house.steps[-1].model
        assert all(house.bench.blobs.has(step.model) for step in house.steps)
        assert house.lives == 1
        await house.bench.stop()

    _run(scenario())


def _worked(house: House) -> tuple[Path, Path]:
    """What a driver leaves on the disk: a shard, and its first model."""
    folder = house.folder / "offline" / house.run_id
    shard, first = folder / WORK / "shards" / "a", folder / FIRST
    shard.parent.mkdir(parents=True)
    for path in (shard, first):
        path.write_bytes(b"much")
    return shard, first


def _wait_for_the_end_of(paths: Sequence[Path]) -> None:
    until = time.monotonic() + 20
    while any(path.exists() for path in paths):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_driver_works_in_its_own_folder_though_the_servers_was_named_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `aimass server start --dir server` names it."""
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()

    async def scenario() -> None:
        house = House(Path("here"), "finish")
        await house.start()
        await house.submit()
        await house.until(RunState.FINISHED, 3)
        assert house.told == tmp_path / "here" / "offline" / house.run_id
        await house.bench.stop()

    _run(scenario())


@pytest.mark.parametrize("paused", [False, True])
def test_what_was_fetched_for_a_run_goes_with_its_end(tmp_path: Path, paused: bool) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "hang")
        await house.start()
        await house.submit()
        await house.until(RunState.RUNNING, 3)
        left = _worked(house)
        if paused:
            tended = house.bench.engine.programs._tended[house.run_id]  # type: ignore[union-attr]
            await house.bench.engine.change(house.run_id, "pause", "anna")
            await asyncio.wait({tended})
            assert all(path.exists() for path in left), "it goes on with it"
        await house.bench.engine.change(house.run_id, "stop", "anna")
        await asyncio.to_thread(_wait_for_the_end_of, left)
        assert (house.folder / "offline" / house.run_id / LOG).is_file()
        await house.bench.stop()

    _run(scenario())


def test_a_driver_that_dies_after_a_step_is_started_again_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "die")
        await house.start()
        await house.submit()
        run = await house.until(RunState.PAUSED, 3)
        assert house.lives == 2 + MOST_DEATHS, "each death after a step is the first again"
        assert "no memory" in run.reason
        house.then = "finish"
        await house.bench.engine.change(house.run_id, "resume", "anna")
        await house.until(RunState.FINISHED, 3)
        await house.bench.stop()

    _run(scenario())


@pytest.mark.parametrize(("change", "state"), [("pause", RunState.PAUSED), ("stop", RunState.STOPPED)])
def test_a_run_that_is_paused_or_stopped_has_no_driver(tmp_path: Path, change: str, state: RunState) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "hang")
        await house.start()
        await house.submit()
        await house.until(RunState.RUNNING, 3)
        pid = int((tmp_path / "store" / "pid").read_text())
        tended = house.bench.engine.programs._tended[house.run_id]  # type: ignore[union-attr]
        await house.bench.engine.change(house.run_id, change, "anna")
        await asyncio.wait({tended})
        assert house.bench.engine.live(house.run_id).row.run.state is state
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        await house.bench.stop()

    _run(scenario())


def test_a_server_that_stops_takes_its_drivers_along_and_starts_them_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "hang")
        await house.start()
        await house.submit()
        await house.until(RunState.RUNNING, 3)
        pid = int((tmp_path / "store" / "pid").read_text())
        await house.bench.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        house.then = "finish"
        await house.start()
        await house.until(RunState.FINISHED, 3)
        await house.bench.stop()

    _run(scenario())


def test_a_model_that_its_store_has_let_go_is_left_out_of_the_record(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "finish")
        house.models.delete(house.steps[0].model)
        await house.start()
        await house.submit()
        await house.until(RunState.FINISHED, 3)
        view = await house.bench.readings.run_view(house.run_id)
        assert [step.model for step in view.steps] == [step.model for step in house.steps]
        assert [model.step for model in await house.bench.readings.models()] == [2, 1]
        assert view.steps[1].summary is None, "the model before it never came: its change is not known"
        assert view.steps[2].summary is not None
        (row,) = house.bench.store.runs()
        assert audit_run(gather(house.bench.store, row, house.bench.roster)).faults == ()
        await house.bench.stop()

    _run(scenario())


class _Stuck(Written):
    """In a store that answers nobody until it is over."""

    over = threading.Event()

    def steps(self, first: int) -> Sequence[Committed]:
        self.over.wait(30)
        return super().steps(first)


def test_a_run_whose_store_hangs_takes_no_thread_from_anybody_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House(tmp_path, "finish", _Stuck)
        await house.start()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await house.submit()
        try:
            for _ in range(20):
                await asyncio.sleep(0.02)  # its driver starts, and its store is looked at
                async with asyncio.timeout(10):
                    await asyncio.to_thread(int)
        finally:
            _Stuck.over.set()
        await house.until(RunState.FINISHED, 3)
        await house.bench.stop()

    _run(scenario())


def test_what_a_driver_said_last_is_why_it_died(tmp_path: Path) -> None:
    path = tmp_path / LOG
    path.write_text("starting\nkilled: out of memory\n")
    assert supervisor._last_line(path) == "killed: out of memory"
