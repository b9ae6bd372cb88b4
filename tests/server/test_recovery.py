"""What a run outlives: every change in every state, clocks that jump, a store that somebody else has locked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from aimass.proto.errors import WrongState
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import run_machine, runs, steps, store
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Models, StepResult
from tests.server.test_run_machine import DRIVERS, NAMES, World, finish, joined, new_run, stored
from tests.support.clock import ManualClock
from tests.support.engines import Bench


def _run(scenario: Coroutine[object, object, None], seconds: float = 40.0) -> None:
    asyncio.run(asyncio.wait_for(scenario, seconds))


def _waiting() -> World:
    return World(new_run())


def _running() -> World:
    world = World(new_run())
    for name in NAMES:
        world.feed(joined(name))
    return world


def _closing() -> World:
    """A step is closed and being summed."""
    world = _running()
    world.run, _ = run_machine.apply(world.run, stored("east", 0), DRIVERS, 100.0)
    world.run, _ = run_machine.apply(world.run, stored("west", 0), DRIVERS, 100.0)
    time_up = runs.InStep(index=0, event=steps.TimeUp())
    world.run, _ = run_machine.apply(world.run, time_up, DRIVERS, 200.0)
    return world


def _paused() -> World:
    world = _running()
    world.feed(runs.Change(change="pause", reason="lunch"))
    return world


def _ended(change: str) -> World:
    world = _running()
    world.feed(runs.Change(change=change, reason="enough"))
    return world


def _finished() -> World:
    world = World(new_run())
    finish(world)
    return world


STATES: dict[str, Callable[[], World]] = {
    "waiting": _waiting, "running": _running, "closing": _closing, "paused": _paused, "finished": _finished,
    "failed": lambda: _ended("fail"), "stopped": lambda: _ended("stop"),
}  # fmt: skip
OUTCOMES = {
    "waiting": {"pause": None, "resume": None, "stop": "stopped", "fail": "failed"},
    "running": {"pause": "paused", "resume": None, "stop": "stopped", "fail": "failed"},
    "closing": {"pause": "paused", "resume": None, "stop": "stopped", "fail": "failed"},
    "paused": {"pause": None, "resume": "running", "stop": "stopped", "fail": "failed"},
    "finished": dict.fromkeys(("pause", "resume", "stop", "fail")),
    "failed": dict.fromkeys(("pause", "resume", "stop", "fail")),
    "stopped": dict.fromkeys(("pause", "resume", "stop", "fail")),
}


@pytest.mark.parametrize(
    ("state", "change", "after"),
    [(state, change, after) for state, row in OUTCOMES.items() for change, after in row.items()],
)
def test_each_change_in_each_state_does_what_the_table_says_or_is_refused_by_name(
    state: str, change: str, after: str | None
) -> None:
    run = STATES[state]().run
    event = runs.Change(change=change, reason="somebody")
    if after is None:
        with pytest.raises(WrongState) as caught:
            run_machine.apply(run, event, DRIVERS, 300.0)
        assert caught.value.code == "run.state"
        return
    changed, actions = run_machine.apply(run, event, DRIVERS, 300.0)
    assert changed.state == after
    if changed.state.final:
        assert changed.open == {}
        assert [type(action) for action in actions].count(runs.End) == 1
        asked = [s for held in run.open.values() for s in held.slots.values() if s.state is SlotState.ASKED]
        assert [type(action) for action in actions].count(runs.TellClosed) == len(asked)
    else:
        assert changed.open == run.open


@pytest.mark.parametrize("state", list(STATES))
def test_the_deadline_in_each_state_closes_what_is_open_and_nothing_else(state: str) -> None:
    run = STATES[state]().run
    after, _ = run_machine.apply(run, runs.InStep(index=0, event=steps.TimeUp()), DRIVERS, 300.0)
    if state in ("running", "paused"):  # nobody has answered: the quorum is missed, paused or not
        assert after.state is RunState.FAILED
        assert "0 of 2 contributions" in after.reason
    else:
        assert after == run


def _without(world: World, *gone: str) -> runs.Run:
    for name in gone:
        world.feed(runs.Removed(partner=name, reason="revoked"))
    return world.run


@pytest.mark.parametrize("gone", [("north",), ("north", "west")], ids=len)
@pytest.mark.parametrize("state", list(STATES))
def test_a_partner_that_is_removed_is_waited_for_in_no_state_and_what_is_being_summed_stays(
    state: str, gone: tuple[str, ...]
) -> None:
    before = STATES[state]().run
    run = _without(STATES[state](), *gone)
    assert run.state is before.state
    if before.state.final:
        assert run == before
        return
    assert all(run.participants[name].state is ParticipantState.REMOVED for name in gone)
    if state == "closing":
        assert run.open == before.open
    for held in run.open.values():
        asked = [name for name, slot in held.slots.items() if slot.state is SlotState.ASKED]
        assert not set(asked) & set(gone)


@pytest.mark.parametrize("state", ["waiting", "running", "paused"])
def test_a_run_that_loses_all_its_partners_fails_by_name_in_each_state(state: str) -> None:
    run = _without(STATES[state](), *NAMES)
    assert run.state is RunState.FAILED
    assert "revoked" in run.reason


@pytest.mark.parametrize("resumed", [False, True], ids=["paused", "resumed"])
@pytest.mark.parametrize("event", ["deadline", "removal"])
def test_a_deadline_and_a_removal_close_the_step_of_a_paused_run_and_the_next_one_waits_for_a_person(
    tmp_path: Path, event: str, *, resumed: bool
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=2, quorum=1))
        await bench.join(run_id)
        await bench.send(run_id, "north")
        await bench.engine.change(run_id, "pause", "olga")
        if resumed:
            await bench.engine.change(run_id, "resume", "olga")
        if event == "deadline":
            bench.clock.advance(101.0)
        else:
            await bench.desk.outside(frozenset({"north"}), "revoked")
        run = await bench.until(run_id, lambda run: "0" not in run.open)
        assert (run.state, list(run.open)) == ((RunState.RUNNING, ["1"]) if resumed else (RunState.PAUSED, []))
        if not resumed:
            await bench.engine.change(run_id, "resume", "olga")
        run = bench.engine.live(run_id).row.run
        assert set(run.open["1"].slots) == ({"north", "south"} if event == "deadline" else {"north"})
        await bench.send(run_id, "north", 1)
        bench.clock.advance(101.0)
        assert (await bench.finished(run_id)).state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("state", ["waiting", "running", "paused"])
def test_an_engine_stops_a_run_in_each_state_and_takes_the_next_one(tmp_path: Path, state: str) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        if state != "waiting":
            await bench.join(run_id)
        if state == "paused":
            await bench.engine.change(run_id, "pause", "olga")
        await bench.engine.change(run_id, "stop", "olga")
        assert (await bench.finished(run_id)).state is RunState.STOPPED
        assert bench.outbox.heard("north")[-1] == "end_run"
        assert list((tmp_path / "spool").iterdir()) == []
        other = await bench.submit()
        await bench.join(other)
        for name in bench.partners:
            await bench.send(other, name)
        assert (await bench.finished(other)).state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


def test_a_paused_run_goes_on_after_a_restart_only_when_it_is_resumed(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=2))
        await bench.join(run_id)
        await bench.engine.change(run_id, "pause", "olga")
        for name in bench.partners:
            await bench.send(run_id, name, 0)
        await bench.until(run_id, lambda run: not run.open)
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock())
        assert again.engine.live(run_id).row.run.state is RunState.PAUSED
        await again.engine.change(run_id, "resume", "olga")
        for name in again.partners:
            await again.send(run_id, name, 1)
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


class _Lost(Averaging):
    """A driver whose state cannot be taken further."""

    def receive(self, state: AveragingState, result: StepResult, models: Models, context: Context) -> AveragingState:
        raise RuntimeError("no way on")


def test_a_run_that_cannot_go_on_after_a_restart_ends_with_the_reason_and_frees_its_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock(), drivers={"averaging": _Lost()})
        await again.send(run_id, "south")
        run = await again.finished(run_id)
        assert run.state is RunState.FAILED
        assert run.reason.startswith("driver.failed")
        assert list((tmp_path / "spool").iterdir()) == []
        await again.stop()
        last = await Bench.start(tmp_path, ManualClock())
        assert last.engine.live(run_id).row.run.state is RunState.FAILED
        other = await last.submit()
        await last.join(other)
        for name in last.partners:
            await last.send(other, name)
        assert (await last.finished(other)).state is RunState.FINISHED
        await last.stop()

    _run(scenario())


@pytest.mark.parametrize("jump_s", [30 * 86_400.0, -30 * 86_400.0])
def test_a_clock_that_jumps_while_the_server_is_away_costs_no_partner_its_step(tmp_path: Path, jump_s: float) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        await bench.stop()
        clock = ManualClock(bench.clock.now() + jump_s)
        again = await Bench.start(tmp_path, clock)
        clock.advance(1)
        await asyncio.sleep(0)
        assert "0" in again.engine.live(run_id).row.run.open
        await again.send(run_id, "south")
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


def test_a_clock_that_is_set_back_while_the_server_runs_prolongs_no_deadline(tmp_path: Path) -> None:
    """Who sleeps was told how long, not until when: a step opened before the jump ends when it would have."""

    class Jumping(ManualClock):
        shift_s = 0.0

        def now(self) -> float:
            return super().now() + self.shift_s

    async def scenario() -> None:
        clock = Jumping()
        bench = await Bench.start(tmp_path, clock)
        run_id = await bench.submit(bench.plan(deadline_s=100.0))
        await bench.join(run_id)
        await bench.until(run_id, lambda run: "0" in run.open)
        clock.shift_s = -86_400.0
        await asyncio.sleep(0)
        clock.advance(101)
        run = await asyncio.wait_for(bench.finished(run_id), 5)
        assert run.state is RunState.FAILED
        assert "step.late" in run.reason
        await bench.stop()

    _run(scenario())


class Telling(ManualClock):
    """Says when somebody waits for as long as the engine does before it tries again."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds == 5.0:
            self.waits.set()
        await super().sleep(seconds)


def test_a_store_that_another_process_has_locked_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, clock := Telling())
        with bench.store.engine.connect() as connection:  # the wait of a real one is ten seconds
            connection.exec_driver_sql("PRAGMA busy_timeout = 50")
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        other = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")  # a copy, a shell, a virus scanner: somebody holds the write lock
        sending = asyncio.create_task(bench.send(run_id, "south"))
        await clock.waits.wait()
        assert not sending.done()
        assert bench.engine.live(run_id).row.run.state is RunState.RUNNING
        other.execute("COMMIT")
        other.close()
        bench.clock.advance(5)
        await sending
        assert (await bench.finished(run_id)).state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


def test_a_server_that_starts_while_its_store_is_locked_goes_on_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LOCK_WAIT_S", 0)

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        await bench.stop()
        other = sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        again = await Bench.start(tmp_path, clock := Telling())
        sending = asyncio.create_task(again.send(run_id, "south"))
        await clock.waits.wait()
        assert not sending.done()
        other.execute("ROLLBACK")
        other.close()
        again.clock.advance(5.0)
        await sending
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())
