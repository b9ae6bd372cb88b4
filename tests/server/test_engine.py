"""The engine between machine, store and disk: what it acknowledges, what it waits for, what ends a run and what not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import sqlalchemy as sa

from aimass.proto.errors import BadInput, OutOfSpace, WrongState
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.tensors import Blob, Layout
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import ParticipantState, RunState
from aimass.server import runs, steps
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, ExpectedGroups, Models, StepResult
from tests.support.clock import ManualClock
from tests.support.engines import Bench, update

T = TypeVar("T")


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_run_of_two_rounds_ends_in_the_weighted_means_and_leaves_no_spool(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=2))
        await bench.join(run_id)
        for step in (0, 1):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            await bench.send(run_id, "south", step, value=4.0, weight=3.0)
            await bench.send(run_id, "north", step, value=0.0, weight=1.0)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED
        np.testing.assert_array_equal(Blob(bench.blobs.open(run.model)).numpy("w"), np.full(4, 6.0, np.float32))
        await bench.stop()
        assert list((tmp_path / "spool").iterdir()) == []
        kinds = bench.outbox.heard("north")
        assert (kinds.count("receipt"), kinds.count("open_step"), kinds[-1]) == (2, 2, "end_run")

    _run(scenario())


class _Slow(Averaging):
    """Holds the check of a contribution until the test lets it go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        if threading.current_thread() is not threading.main_thread():
            self.reached.set()
            self.go.wait(20)
        return super().expects(step, layout, plan)


def test_a_contribution_whose_step_closes_while_it_is_checked_is_not_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = _Slow()
        bench = await Bench.start(tmp_path, ManualClock(), drivers={"averaging": slow})
        slow.go.set()
        run_id = await bench.submit(bench.plan(quorum=1))
        await bench.join(run_id)
        await bench.send(run_id, "north")
        slow.go.clear()
        slow.reached.clear()
        sending = asyncio.create_task(bench.send(run_id, "south"))
        await asyncio.to_thread(slow.reached.wait, 20)
        await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
        slow.go.set()
        with pytest.raises(WrongState) as caught:
            await sending
        assert caught.value.code in ("submit.late", "submit.step_closed")
        await bench.finished(run_id)
        await bench.stop()
        assert list((tmp_path / "spool").iterdir()) == []

    _run(scenario())


class _Broken(Averaging):
    def receive(self, state: AveragingState, result: StepResult, models: Models, context: Context) -> AveragingState:
        raise ZeroDivisionError


def test_a_driver_that_breaks_ends_its_run_with_a_reason_and_no_other_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, drivers={"averaging": _Broken()})
        broken, other = await bench.submit(), await bench.submit()
        for run_id in (broken, other):
            await bench.join(run_id)
        for partner in bench.partners:
            await bench.send(broken, partner)
        run = await bench.finished(broken)
        assert (run.state, run.reason[:14]) == (RunState.FAILED, "driver.failed:")
        assert bench.engine.live(other).row.run.state is RunState.RUNNING
        await bench.stop()

    _run(scenario())


def test_a_deadline_that_passed_while_the_server_was_away_leaves_time_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock)
        run_id = await bench.submit(bench.plan(deadline_s=100.0))
        await bench.join(run_id)
        await bench.send(run_id, "north")
        await bench.stop()
        clock.advance(5_000.0)
        again = await Bench.start(tmp_path, clock)
        await asyncio.sleep(0)
        assert again.engine.live(run_id).row.run.state is RunState.RUNNING
        await again.send(run_id, "south")
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


def test_the_grace_after_a_restart_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock)
        run_id = await bench.submit(bench.plan(deadline_s=100.0))
        await bench.join(run_id)
        await bench.stop()
        clock.advance(5_000.0)
        again = await Bench.start(tmp_path, clock)
        finished = asyncio.create_task(again.finished(run_id))
        while not finished.done():
            clock.advance(101.0)
            await asyncio.sleep(0)
        assert (await finished).reason.startswith("step 0 has 0 of 2")
        await again.stop()

    _run(scenario())


def test_a_participant_key_cannot_change_during_a_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(quorum=1))
        await bench.join(run_id)
        digest = bench.engine.live(run_id).row.plan_digest
        with pytest.raises(BadInput) as caught:
            await bench.desk.joined("south", pb.Joined(run_id=run_id, plan_digest=digest, participant="other"))
        assert caught.value.code == "run.participant_key"
        member = bench.engine.live(run_id).row.run.participants["south"]
        assert (member.state, member.key) == (ParticipantState.REMOVED, "south")
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("key", ["", "North", "a\n", "x" * 64, "../x"])
def test_a_participant_key_that_is_no_name_is_refused(tmp_path: Path, key: str) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        digest = bench.engine.live(run_id).row.plan_digest
        with pytest.raises(BadInput):
            await bench.desk.joined("south", pb.Joined(run_id=run_id, plan_digest=digest, participant=key))
        await bench.stop()

    _run(scenario())


class _FullDisk:
    """Every kind of durable effect finds the disk full twice before it has room."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}

    def reached(self, point: str) -> None:
        if point.endswith(".write"):
            self.tries[point] = self.tries.get(point, 0) + 1
            if self.tries[point] <= 2:
                raise OutOfSpace("no space left", code="disk.full")


def test_a_full_disk_is_waited_for_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        full = _FullDisk()
        bench = await Bench.start(tmp_path, clock, durability=full)

        async def with_room(make: Callable[[], Coroutine[object, object, T]]) -> T:
            """Repeat what is told that the disk is full, as both sides do, and let time pass for what waits."""
            while True:
                task = asyncio.create_task(make())
                while not task.done():
                    clock.advance(1.0)
                    await asyncio.to_thread(int)  # the store's thread goes on meanwhile
                try:
                    return task.result()
                except OutOfSpace:
                    continue

        plan = bench.plan(deadline_s=1e6)
        run_id = await with_room(lambda: bench.submit(plan))
        await with_room(lambda: bench.join(run_id))
        for partner in bench.partners:
            await with_room(lambda partner=partner: bench.send(run_id, partner, value=2.0))  # type: ignore[misc]
        await with_room(lambda: bench.finished(run_id))
        run = bench.engine.live(run_id).row.run
        assert run.state is RunState.FINISHED
        np.testing.assert_array_equal(Blob(bench.blobs.open(run.model)).numpy("w"), np.full(4, 2.0, np.float32))
        assert {"store.commit.write", "store.save.write", "spool.write", "blobs.write"} <= set(full.tries)
        await bench.stop()

    _run(scenario())


def test_a_contribution_for_another_step_or_of_a_stranger_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        data = update(1.0)
        header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id, step=7)
        with pytest.raises(WrongState, match="not open"):
            bench.contributions.key("north", header)
        with pytest.raises(Exception, match="not a participant"):
            bench.contributions.key("nobody", header)
        await bench.stop()

    _run(scenario())


def test_a_partner_that_saw_the_last_entry_still_gets_its_receipt(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        for partner in bench.partners:
            await bench.send(run_id, partner)
        await bench.finished(run_id)
        bench.outbox.said.clear()
        # It died between the step's entry (the second) and its receipt.
        head = bench.store.head(run_id, 2)
        await bench.desk.connected("north", [pb.RunMark(run_id=run_id, entries=2, head=head)])
        assert "receipt" in bench.outbox.heard("north")
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("missed", [0, 1, 2])
def test_who_comes_back_is_brought_up_to_date_by_one_reading_of_the_store(tmp_path: Path, missed: int) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=5))
        await bench.join(run_id)
        for step in range(3):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            for partner in bench.partners:
                await bench.send(run_id, partner, step)
        await bench.until(run_id, lambda run: "3" in run.open)
        await bench.housekeeping.after_commit(run_id)  # the commit's own, which began before, reads the store too
        whole = bench.store.transcript(run_id)
        seen = whole[-1 - missed].chain
        reads: list[object] = []
        sa.event.listen(bench.store.engine, "checkout", lambda *_: reads.append(_))
        bench.outbox.said.clear()
        await bench.desk.connected("north", [pb.RunMark(run_id=run_id, entries=seen.entries, head=seen.head)])
        assert len(reads) == 1
        told = [message for name, message in bench.outbox.said if name == "north"]
        (history,) = [message.history for message in told if message.WhichOneof("body") == "history"]
        assert list(history.entries) == [entry.data for entry in whole[seen.entries :]]
        assert bench.outbox.heard("north").count("receipt") == missed + 1
        assert bench.outbox.heard("north")[-1] == "open_step"
        await bench.stop()

    _run(scenario())


def test_a_view_whose_state_is_final_has_all_steps(tmp_path: Path) -> None:
    """The run ends between the two reads of a view."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        read, ended = asyncio.Event(), asyncio.Event()
        on_disk = bench.engine.on_disk

        async def slow(function: Callable[..., T], *args: object) -> T:
            found = await on_disk(function, *args)
            if not read.is_set():
                read.set()
                await ended.wait()
            return found

        bench.engine.on_disk = slow  # type: ignore[method-assign]
        viewing = asyncio.create_task(bench.readings.run_view(run_id))
        await read.wait()
        await bench.send(run_id, "south")
        await bench.finished(run_id)
        ended.set()
        view = await viewing
        assert not view.summary.state.final or view.steps[-1].state == "committed"
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_model_that_the_server_lost_ends_the_run_and_blames_no_partner(tmp_path: Path, damage: str) -> None:
    async def scenario() -> None:
        first = await Bench.start(tmp_path, ManualClock())
        run_id = await first.submit()
        await first.join(run_id)
        await first.stop()
        bench = await Bench.start(tmp_path, ManualClock())
        model = next((tmp_path / "blobs").glob("??/*"))
        model.unlink() if damage == "gone" else model.write_bytes(b"other bytes")
        with pytest.raises(WrongState) as caught:
            await bench.send(run_id, "north")
        assert caught.value.code == "server.input"
        run = await bench.finished(run_id)
        assert (run.state, run.reason[:13]) == (RunState.FAILED, "server.input:")
        view = await bench.readings.run_view(run_id)
        assert "refused" not in {slot for step in view.steps for slot in step.slots.values()}
        await bench.stop()

    _run(scenario())
