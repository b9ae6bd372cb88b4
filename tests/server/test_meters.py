"""What the server counts of a run, and that no label grows with runs, partners or what they send."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import pytest

from aimass.proto.errors import AimassError
from aimass.proto.meters import Spread, meters_of
from aimass.server.meters import ServerMeters
from tests.support.clock import ManualClock
from tests.support.engines import Bench


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_run_is_counted_from_its_submission_to_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock)
        meters = bench.engine.meters
        run_id = await bench.submit(bench.plan(rounds=2))
        await bench.join(run_id)
        for step in range(2):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            clock.advance(3.0)
            for partner in ("north", "south"):
                await bench.send(run_id, partner, step)
        await bench.finished(run_id)
        assert meters.runs_submitted.read() == {(): 1}
        assert meters.runs_ended.read() == {("finished",): 1}
        assert meters.steps_opened.read() == {("train",): 2}
        assert meters.steps_ended.read() == {("train", "committed"): 2}
        assert meters.slots.read() == {("train", "counted"): 4}
        assert meters.contributions.read() == {("stored", ""): 4}
        counts, total = meters.step_seconds.read()["train",]
        assert sum(counts) == 2
        assert total == pytest.approx(6.0)
        assert sum(meters.sum_seconds.read()[()][0]) == 2
        assert sum(meters.store_seconds.read()[()][0]) >= 6
        await bench.stop()

    run(scenario())


def test_refusals_count_by_the_servers_code_and_steps_that_fail_as_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        meters = bench.engine.meters
        run_id = await bench.submit(bench.plan(quorum=2))
        await bench.join(run_id)
        await bench.until(run_id, lambda run: bool(run.open))
        with pytest.raises(AimassError):
            await bench.send(run_id, "north", value=float("nan"))
        with pytest.raises(AimassError):
            await bench.send(run_id, "south")
        await bench.finished(run_id)
        (refused,) = [labels for labels in meters.contributions.read() if labels[0] == "refused"]
        assert refused[1] == "contribution.not_finite"
        assert meters.steps_ended.read() == {("train", "given_up"): 1}
        assert meters.runs_ended.read() == {("failed",): 1}
        await bench.stop()

    run(scenario())


def test_no_meter_has_a_label_that_grows_with_runs_or_partners() -> None:
    labels = {label for meter in meters_of(ServerMeters()) for label in meter.labels}
    assert labels == {"state", "kind", "outcome", "code", "direction", "level"}


def test_a_meters_buckets_reach_from_a_flush_to_a_step_of_hours() -> None:
    for meter in meters_of(ServerMeters()):
        if isinstance(meter, Spread):
            assert list(meter.bounds) == sorted(set(meter.bounds))
            assert meter.bounds[0] <= 0.005
