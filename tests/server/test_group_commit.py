"""Group commit in the engine: one transaction for all that waits, nobody told before it, each its own outcome."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from aimass.privacy.signing import Label, sign
from aimass.proto.errors import WrongState
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import RunState
from aimass.server import runs, steps
from aimass.server.store import Commit, Store
from tests.support.clock import ManualClock
from tests.support.engines import Bench

PARTNERS = tuple(f"p{index:02}" for index in range(20))


class _Disk:
    """Counts the store's transactions, and holds the one that is under way while `free` is not set."""

    def __init__(self) -> None:
        self.transactions = 0
        self.reached, self.free = threading.Event(), threading.Event()
        self.free.set()

    def reached_point(self) -> None:
        self.reached.set()
        self.free.wait(20)

    def hold(self) -> None:
        self.reached.clear()
        self.free.clear()

    def __call__(self, point: str) -> None:
        if point in ("store.save.write", "store.commit.write"):
            self.transactions += 1
            self.reached_point()


class _Points:
    def __init__(self, disk: _Disk) -> None:
        self._disk = disk

    def reached(self, point: str) -> None:
        self._disk(point)


async def _begun(folder: Path, disk: _Disk, **plan: float) -> tuple[Bench, str]:
    bench = await Bench.start(folder, ManualClock(), PARTNERS, _Points(disk))
    run_id = await bench.submit(bench.plan(quorum=int(plan.get("quorum", 2))))
    await bench.join(run_id)
    bench.outbox.said.clear()
    return bench, run_id


def _stored(partner: str) -> runs.InStep:
    return runs.InStep(index=0, event=steps.Stored(partner=partner, digest="1" * 64))


async def _turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_comes_while_a_commit_is_on_its_way_is_one_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        disk.transactions = 0
        disk.hold()
        first = asyncio.create_task(bench.engine.apply(run_id, _stored(PARTNERS[0])))
        await asyncio.to_thread(disk.reached.wait, 20)
        others = [asyncio.create_task(bench.engine.apply(run_id, _stored(name))) for name in PARTNERS[1:-1]]
        await _turns()
        assert not first.done()
        assert not any(other.done() for other in others)
        disk.free.set()
        await asyncio.gather(first, *others)
        assert disk.transactions == 2
        slots = bench.engine.live(run_id).row.run.open["0"].slots
        assert [slots[name].digest for name in PARTNERS] == ["1" * 64] * 19 + [""]
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_nobody_is_told_before_the_transaction_is_on_the_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        disk.hold()
        stop = asyncio.create_task(bench.engine.change(run_id, "stop", "anna"))
        await asyncio.to_thread(disk.reached.wait, 20)
        await _turns()
        assert bench.outbox.said == []
        assert bench.engine.live(run_id).row.run.state is RunState.RUNNING
        disk.free.set()
        await stop
        assert {kind for name in PARTNERS for kind in bench.outbox.heard(name)} == {"history", "close_step", "end_run"}
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_each_that_waits_has_its_own_outcome(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        done = await asyncio.gather(
            bench.engine.apply(run_id, _stored(PARTNERS[0])),
            bench.engine.change(run_id, "resume", "anna"),
            bench.engine.apply(run_id, _stored(PARTNERS[1])),
            return_exceptions=True,
        )
        assert isinstance(done[0], runs.Run)
        assert isinstance(done[1], WrongState)
        assert isinstance(done[2], runs.Run)
        # Each sees the run as it was after its own event.
        assert [one.open["0"].slots[PARTNERS[1]].digest for one in (done[0], done[2])] == ["", "1" * 64]
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_who_stops_waiting_for_an_event_does_not_stop_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        disk.hold()
        impatient = asyncio.create_task(bench.engine.apply(run_id, _stored(PARTNERS[0])))
        await asyncio.to_thread(disk.reached.wait, 20)
        impatient.cancel()
        other = asyncio.create_task(bench.engine.apply(run_id, _stored(PARTNERS[1])))
        await _turns()
        disk.free.set()
        slots = (await other).open["0"].slots
        assert [slots[name].digest for name in PARTNERS[:2]] == ["1" * 64] * 2
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_stop_between_the_transaction_and_the_word_leaves_what_was_stored(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        for name in PARTNERS:  # what is stored has its file: without it a start asks again
            bench.spool.path(f"{run_id}-0-{name}").touch()
        disk.hold()
        waiting = [asyncio.create_task(bench.engine.apply(run_id, _stored(name))) for name in PARTNERS]
        await asyncio.to_thread(disk.reached.wait, 20)
        stopping = asyncio.create_task(bench.stop())
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done)  # nobody was told that it is stored
        disk.free.set()
        await stopping
        assert bench.outbox.said == []
        again = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        state = again.engine.live(run_id).row.run.open["0"]
        assert state.counted == PARTNERS
        await again.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


class _Picky(Store):
    """Cannot store what one partner says."""

    def save(self, run: runs.Run, change: Commit) -> None:
        if any(slot.reason == "unstorable" for state in run.open.values() for slot in state.slots.values()):
            raise ValueError("cannot be stored")
        super().save(run, change)


def test_an_event_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _begun(tmp_path, _Disk())
        bench.store.__class__ = _Picky
        bad = runs.InStep(index=0, event=steps.Failed(partner=PARTNERS[1], reason="unstorable"))
        done = await asyncio.gather(
            bench.engine.apply(run_id, _stored(PARTNERS[0])),
            bench.engine.apply(run_id, bad),
            bench.engine.apply(run_id, _stored(PARTNERS[2])),
            return_exceptions=True,
        )
        assert [type(one) for one in done] == [runs.Run, ValueError, runs.Run]
        slots = bench.engine.live(run_id).row.run.open["0"].slots
        assert [slots[name].digest for name in PARTNERS[:3]] == ["1" * 64, "", "1" * 64]
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


class _NoResults(Store):
    """Cannot store what a step came to."""

    def save(self, run: runs.Run, change: Commit) -> None:
        if change.models:
            raise ValueError("UNIQUE constraint failed: transcript.run_id, transcript.entry")
        super().save(run, change)


def test_a_result_that_cannot_be_stored_ends_its_run_by_name(tmp_path: Path) -> None:
    """The step is closing: no deadline ends it, and a run that waits for ever tells nobody why."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        bench.store.__class__ = _NoResults
        for partner in bench.partners:
            await bench.send(run_id, partner)
        async with asyncio.timeout(5):
            run = await bench.finished(run_id)
        assert run.state is RunState.FAILED
        assert run.reason.startswith("server.commit: ")
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_what_partners_signed_is_stored_with_the_next_commit_and_is_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        disk.transactions = 0
        chain = bench.engine.live(run_id).chain
        body = bytes.fromhex(run_id) + chain.entries.to_bytes(4, "big") + bytes.fromhex(chain.head)
        for name in PARTNERS:
            signature = sign(bench.keys[name], Label.HEAD_SEEN, body)
            seen = pb.HeadSeen(run_id=run_id, partner=name, entries=chain.entries, head=chain.head, signature=signature)
            await bench.desk.head_seen(name, seen)
        assert disk.transactions == 0
        assert bench.store.heads(run_id) == []
        await bench.engine.apply(run_id, _stored(PARTNERS[0]))
        assert disk.transactions == 1
        assert [partner for partner, _, _ in bench.store.heads(run_id)] == list(PARTNERS)
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        assert set(again.engine.live(run_id).heads) == set(PARTNERS)
        await again.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_who_connects_is_told_the_history_and_so_signs_it_again(tmp_path: Path) -> None:
    """What a crash lost of the signed heads comes back by itself, also where nothing is new."""

    async def scenario() -> None:
        bench, run_id = await _begun(tmp_path, _Disk())
        entries = bench.engine.live(run_id).chain.entries
        await bench.desk.connected("p00", [pb.RunMark(run_id=run_id, entries=entries)])
        assert "history" in bench.outbox.heard("p00")
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("change", ["pause", "stop"])
def test_a_person_is_answered_while_contributions_wait(tmp_path: Path, change: str) -> None:
    async def scenario() -> None:
        disk = _Disk()
        bench, run_id = await _begun(tmp_path, disk)
        await asyncio.gather(
            *(bench.engine.apply(run_id, _stored(name)) for name in PARTNERS[:5]),
            bench.engine.change(run_id, change, "anna"),
            *(bench.engine.apply(run_id, _stored(name)) for name in PARTNERS[5:10]),
        )
        state = bench.engine.live(run_id).row.run.state
        assert state is (RunState.PAUSED if change == "pause" else RunState.STOPPED)
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 30))
