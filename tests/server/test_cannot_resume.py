"""A run that cannot go on after a restart: it ends as failed with the reason, and hinders neither start nor other runs."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import NotFound
from aimass.proto.plan import Stage, decode_plan, encode_plan
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import FetchRequest
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import RunState
from aimass.server.drivers.averaging import Averaging
from aimass.server.drivers.base import Driver, find_driver
from aimass.server.engine import InstalledDrivers
from aimass.server.transfers import Transfers
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench, update

OTHER_MODEL = encode_numpy({"w": np.full(4, 50.0, np.float32)})


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


class _Visiting(InstalledDrivers):
    """The installed drivers, and one more that is here for a while."""

    def __getitem__(self, name: str) -> Driver:
        return Averaging() if name == "visiting" else super().__getitem__(name)


def _plan(bench: Bench, *drivers: str, model: bytes = MODEL) -> bytes:
    stages = tuple(Stage(driver=name, options={"rounds": 2}) for name in drivers)
    return encode_plan(msgspec.structs.replace(decode_plan(bench.plan()), stages=stages, model=Blob(model).digest))


async def _begun(bench: Bench, plan: bytes) -> str:
    """A run in its second step, to which north has sent."""
    run_id = await bench.submit(plan)
    await bench.join(run_id)
    for partner in bench.partners:
        await bench.send(run_id, partner)
    await bench.until(run_id, lambda run: "1" in run.open)
    await bench.send(run_id, "north", 1)
    return run_id


def _driver_gone(_: Bench, __: str) -> None:
    pass


def _newest_model_gone(bench: Bench, run_id: str) -> None:
    bench.blobs.delete(bench.engine.live(run_id).row.run.model)


def _first_model_gone(bench: Bench, run_id: str) -> None:
    bench.blobs.delete(bench.engine.live(run_id).row.run.plan.model)


def _contribution_changed(bench: Bench, run_id: str) -> None:
    bench.spool.path(f"{run_id}-1-north").write_bytes(update(777.0))


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
@pytest.mark.parametrize(
    ("drivers", "damage", "code"),
    [
        (("visiting",), _driver_gone, "driver.unknown"),
        (("averaging", "visiting"), _driver_gone, "driver.unknown"),
        (("averaging",), _newest_model_gone, "model.missing"),
        (("averaging",), _first_model_gone, "model.missing"),
    ],
    ids=["driver", "driver of a later stage", "newest model", "first model"],
)
def test_a_run_that_cannot_go_on_fails_at_the_start_by_name_and_the_others_go_on(
    tmp_path: Path, drivers: tuple[str, ...], damage: Callable[[Bench, str], None], code: str, *, paused: bool
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), drivers=_Visiting())
        bench.blobs.put([OTHER_MODEL])
        lost = await _begun(bench, _plan(bench, *drivers, model=OTHER_MODEL))
        good = await _begun(bench, _plan(bench, "averaging"))
        if paused:
            await bench.engine.change(lost, "pause", "olga")
        held = bench.engine.live(lost).chain
        damage(bench, lost)
        await bench.stop()

        again = await Bench.start(tmp_path, ManualClock(), drivers=InstalledDrivers())
        run = again.engine.live(lost).row.run
        assert (run.state, run.open, run.reason.partition(":")[0]) == (RunState.FAILED, {}, code)
        assert again.engine.live(lost).chain.entries == held.entries + 1, "its end is in the history"
        assert not again.spool.has(f"{lost}-1-north")
        await again.desk.connected("north", [pb.RunMark(run_id=lost, entries=held.entries, head=held.head)])
        assert "end_run" in again.outbox.heard("north")
        view = await again.readings.run_view(lost)
        assert view.summary.reason == run.reason
        await again.send(good, "south", 1)
        assert (await again.finished(good)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


def test_a_contribution_that_changed_ends_its_run_frees_its_place_and_leaves_the_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        lost, good = [await _begun(bench, bench.plan(rounds=2)) for _ in "ab"]
        _contribution_changed(bench, lost)
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock())
        for run_id in (lost, good):
            await again.send(run_id, "south", 1)
        assert (await again.finished(good)).state is RunState.FINISHED
        run = await again.finished(lost)
        assert run.reason.startswith("contribution.changed: the contribution of north has changed in the spool")
        await again.stop()
        assert list((tmp_path / "spool").iterdir()) == []

    _run(scenario())


class _Entry:
    name = "broken"

    def load(self) -> Driver:
        raise ImportError("its library is gone")


def test_a_driver_that_cannot_be_imported_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [_Entry()])
    with pytest.raises(NotFound) as caught:
        find_driver("broken")
    assert (caught.value.code, caught.value.value) == ("driver.broken", "ImportError")


_CONTEXT: Any = None


class _Gate:
    async def admit(self, context: object, name: str) -> Peer:
        return Peer(Role.PARTNER, "north", 1, b"", 2e9)


@pytest.mark.parametrize("needed", [True, False], ids=["open step's", "late work's"])
def test_a_model_that_goes_while_the_server_runs_ends_the_run_that_needs_it_and_blames_no_partner(
    tmp_path: Path, *, needed: bool
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        plan = decode_plan(bench.plan(rounds=3, quorum=1, deadline_s=10.0))
        late = msgspec.structs.replace(plan.cohort, late="next", late_rounds=9)
        run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=late)))
        await bench.join(run_id)
        for partner in bench.partners:
            await bench.send(run_id, partner)
        old = (await bench.until(run_id, lambda run: "1" in run.open)).model
        await bench.send(run_id, "south", 1)
        bench.clock.advance(11.0)
        run = await bench.until(run_id, lambda run: "2" in run.open)
        assert run.open["2"].carried["north"].inputs == (old,)
        digest = run.model if needed else old
        bench.blobs.delete(digest)
        with pytest.raises(NotFound) as caught:
            await _transfers(bench).authorise_fetch(_CONTEXT, FetchRequest(digest=digest, run_id=run_id))
        assert caught.value.code == "model.not_kept"
        run = bench.engine.live(run_id).row.run
        if needed:
            assert (run.state, run.reason.partition(":")[0]) == (RunState.FAILED, "server.input")
        else:
            assert run.state is RunState.RUNNING
        await bench.stop()

    _run(scenario())


def _transfers(bench: Bench) -> Transfers:
    gate: Any = _Gate()
    return Transfers(
        bench.contributions, bench.readings, bench.blobs, bench.spool, gate, 1 << 20, lambda: None, bench.differences
    )
