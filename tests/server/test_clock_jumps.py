"""The machine's clock is set while the server runs or is away: deadlines and grace last as long as the plan says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import pytest

from aimass.proto.plan import decode_plan, encode_plan
from aimass.proto.views import RunState
from tests.support.clock import ManualClock
from tests.support.engines import Bench

HOUR = 3600.0
JUMPS = pytest.mark.parametrize("jump_s", [HOUR, -HOUR], ids=["forward", "back"])


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def _running(folder: Path, clock: ManualClock, grace_s: float = 0.0, rounds: int = 2) -> tuple[Bench, str]:
    """A run whose first step has 100 s, quorum 1, and has north's contribution already unless there is grace."""
    bench = await Bench.start(folder, clock)
    plan = decode_plan(bench.plan(rounds=rounds, quorum=1))
    cohort = msgspec.structs.replace(plan.cohort, grace_s=grace_s)
    run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=cohort)))
    await bench.join(run_id)
    if not grace_s:
        await bench.send(run_id, "north")
    return bench, run_id


async def _settled(bench: Bench, run_id: str) -> None:
    """What was due has been done: whoever woke has asked the store by now, and it answers in order."""
    for _ in range(20):
        await asyncio.sleep(0)
        await bench.engine.on_disk(bench.store.chain, run_id)


@JUMPS
def test_a_step_is_open_as_long_as_the_plan_says_when_the_clock_is_set_meanwhile(tmp_path: Path, jump_s: float) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench, run_id = await _running(tmp_path, clock)
        clock.set_by(jump_s)
        clock.advance(99.0)
        await _settled(bench, run_id)
        assert list(bench.engine.live(run_id).row.run.open) == ["0"]
        clock.advance(2.0)
        await bench.until(run_id, lambda run: "1" in run.open)
        for partner in bench.partners:
            await bench.send(run_id, partner, 1)
        assert (await bench.finished(run_id)).state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


@JUMPS
def test_grace_is_as_long_as_the_plan_says_when_the_clock_was_set_before_it(tmp_path: Path, jump_s: float) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench, run_id = await _running(tmp_path, clock, grace_s=50.0)
        clock.set_by(jump_s)
        clock.advance(101.0)
        run = await bench.until(run_id, lambda run: run.open["0"].graced)
        assert run.open["0"].deadline_at == clock.now() + 50.0
        clock.advance(49.0)
        await _settled(bench, run_id)
        assert bench.engine.live(run_id).row.run.state is RunState.RUNNING
        clock.advance(2.0)
        assert (await bench.finished(run_id)).state is RunState.FAILED
        await bench.stop()

    _run(scenario())


@JUMPS
def test_the_time_to_join_is_as_long_as_the_plan_says_when_the_clock_is_set_meanwhile(
    tmp_path: Path, jump_s: float
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock)
        run_id = await bench.submit(bench.plan(quorum=1))
        await _settled(bench, run_id)
        clock.set_by(jump_s)
        await bench.join(run_id, "north")
        clock.advance(99.0)
        await _settled(bench, run_id)
        assert bench.engine.live(run_id).row.run.state is RunState.WAITING
        clock.advance(2.0)
        await bench.until(run_id, lambda run: run.state is RunState.RUNNING)
        await bench.stop()

    _run(scenario())


@JUMPS
def test_a_clock_that_was_set_while_the_server_was_away_closes_no_step_at_once_and_prolongs_none(
    tmp_path: Path, jump_s: float
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench, run_id = await _running(tmp_path, clock)
        clock.advance(60.0)
        await bench.stop()
        clock.set_by(jump_s)
        again = await Bench.start(tmp_path, clock)
        await _settled(again, run_id)
        clock.advance(99.0)
        await _settled(again, run_id)
        assert list(again.engine.live(run_id).row.run.open) == ["0"]
        clock.advance(2.0)
        await again.until(run_id, lambda run: "1" in run.open)
        await again.stop()

    _run(scenario())


def test_a_run_keeps_its_newest_models_when_the_clock_is_set_back_in_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, keep=2)
        run_id = await bench.submit(bench.plan(rounds=4))
        await bench.join(run_id)
        made = []
        for step in range(4):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            clock.set_by(-HOUR)
            for partner in bench.partners:
                await bench.send(run_id, partner, step)
            made.append((await bench.until(run_id, lambda run, step=step: str(step) not in run.open)).model)  # type: ignore[misc]
        await bench.finished(run_id)
        await _settled(bench, run_id)
        models = await bench.readings.models(run_id=run_id)
        assert [model.digest for model in models] == made[::-1]
        assert [model.kept for model in models] == [True, True, False, False]
        await bench.stop()

    _run(scenario())
