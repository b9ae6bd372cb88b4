"""What a server keeps, what it deletes, and when it takes no new work."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.bases import Base
from aimass.proto.errors import OutOfSpace, WrongState
from aimass.proto.flower.records import EMPTY_MODEL
from aimass.proto.plan import EarlyStop, Stage, encode_plan
from aimass.proto.values import canonical_json
from aimass.proto.views import MetricView, ModelView
from aimass.server.flower.journal import Past, State
from aimass.server.garbage import collect
from aimass.server.retention import kept, room_for_work, unreferenced
from aimass.server.settings import template
from aimass.server.standstill import deleting, standstill
from tests.server.test_aggregation import plan as new_plan
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.flower import exchange, flower_plan


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def _models(aucs: list[float]) -> list[ModelView]:
    """Newest first."""
    return [
        ModelView(
            digest=f"{index:064x}", bytes=1, run_id="r", run_name="r", task="t", step=index, round=index, committed_at=0.0,
            metrics={"auc": MetricView(mean=auc, weight=1.0)},
        )
        for index, auc in reversed(list(enumerate(aucs)))
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(0, 6), st.sampled_from(["max", "min"]))
def test_the_first_the_newest_and_the_best_are_kept(aucs: list[float], last: int, mode: str) -> None:
    models = _models(aucs)
    plan = msgspec.structs.replace(new_plan(Stage(driver="averaging")), early_stop=EarlyStop(metric="auc", mode=mode))  # type: ignore[arg-type]
    keep = kept(plan, models, last)
    assert plan.model in keep
    assert {model.digest for model in models[: last or None]} <= keep
    if aucs:
        best = (max if mode == "max" else min)(aucs)
        assert any(model.metrics["auc"].mean == best for model in models if model.digest in keep)
    assert len(keep) <= (len(models) if last == 0 else last + 1) + 1


def test_the_base_of_a_plan_is_kept_as_long_as_its_run_is_known() -> None:
    base = Base(name="encoder", digest="f" * 64, bytes=8)
    plan = msgspec.structs.replace(new_plan(Stage(driver="averaging")), base=base)
    for last in (0, 1):
        assert kept(plan, _models([0.5]), last) == {plan.model, f"{0:064x}", base.digest}


def test_what_no_run_keeps_is_found() -> None:
    assert unreferenced(["c", "a", "b"], [frozenset({"b"}), frozenset()]) == ("a", "c")


def test_what_may_not_be_deleted_for_a_while_goes_with_the_next_commit(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=1)
        bench.housekeeping.deleting = partial(deleting, tmp_path)
        run_id = await bench.submit(bench.plan(rounds=4))
        await bench.join(run_id)
        with standstill(tmp_path):
            for step in range(3):
                await _round(bench, run_id, step)
            await bench.housekeeping.after_commit(run_id)
            assert all(model.kept for model in await bench.readings.models(run_id=run_id))
        await _round(bench, run_id, 3)
        await bench.finished(run_id)
        await bench.housekeeping.after_commit(run_id)
        assert [model.kept for model in await bench.readings.models(run_id=run_id)] == [True, False, False, False]
        await bench.stop()

    _run(scenario())


async def _round(bench: Bench, run_id: str, step: int) -> None:
    await bench.until(run_id, lambda run: str(step) in run.open)
    for partner in bench.partners:
        await bench.send(run_id, partner, step, value=1.0)
    await bench.until(run_id, lambda run: str(step) not in run.open)


def test_a_run_keeps_its_first_and_last_models_alone_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=2)
        other = await bench.submit(bench.plan(rounds=1))
        run_id = await bench.submit(bench.plan(rounds=5))
        await bench.join(run_id)
        for step in range(5):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            for partner in bench.partners:
                await bench.send(run_id, partner, step, value=1.0)
        run = await bench.finished(run_id)
        await bench.housekeeping.after_commit(run_id)
        models = await bench.readings.models(run_id=run_id)
        assert [model.kept for model in models] == [True, True, False, False, False]
        assert bench.blobs.has(run.plan.model)
        assert (await bench.readings.run_view(run_id)).disk_bytes == 2 * models[0].bytes
        with pytest.raises(WrongState):
            await bench.housekeeping.prune(other)
        assert await bench.housekeeping.prune(run_id) == models[0].bytes
        assert [model.kept for model in await bench.readings.models(run_id=run_id)] == [True, *[False] * 4]
        await bench.stop()

    _run(scenario())


def test_a_model_that_another_run_keeps_is_not_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=1)
        for _ in range(2):
            # Equal plans and contributions: the second run makes the first run's models again.
            run_id = await bench.submit(bench.plan(rounds=2))
            await bench.join(run_id)
            for step in range(2):
                await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
                for partner in bench.partners:
                    await bench.send(run_id, partner, step)
            await bench.finished(run_id)
            await bench.housekeeping.after_commit(run_id)
        first = bench.engine.lives()[0].row.run
        assert bench.blobs.has(first.model)
        await bench.stop()

    _run(scenario())


def test_what_a_driver_names_no_more_since_its_run_has_ended_is_let_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        bench.blobs.put([EMPTY_MODEL])
        run_id = await bench.submit(encode_plan(flower_plan(bench.partners)))
        await bench.join(run_id)
        reply = bench.blobs.put([b"reply"])
        live = bench.engine.live(run_id)
        past = Past.of(exchange(0, 1, ("north",)), {"north": reply}, {})
        state = canonical_json(State(model=live.row.run.model, past=(past,))).decode()
        live.row = dataclasses.replace(live.row, run=msgspec.structs.replace(live.row.run, driver=state))
        await bench.engine.change(run_id, "stop", "olga")
        assert reply not in live.row.run.driver
        await bench.housekeeping.after_commit(run_id)
        assert not bench.blobs.has(reply)
        assert bench.blobs.has(live.row.run.model)
        await bench.stop()

    _run(scenario())


def test_garbage_is_shown_before_it_is_deleted_and_what_is_wanted_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        data = tmp_path / "data"
        data.mkdir()
        (tmp_path / "server.toml").write_text(template("hub", "127.0.0.1:0", "127.0.0.1:0"))
        bench = await Bench.start(data, ManualClock())
        run_id = await bench.submit()
        await bench.join(run_id)
        await bench.send(run_id, "north")
        stray = bench.blobs.put([b"stray"])
        (data / "spool" / "model-anna").write_bytes(b"given up")
        logs = [data / "flower" / name / "app.log" for name in (run_id, "probe")]
        for log in logs:
            log.parent.mkdir(parents=True)
            log.write_text("words")
        await bench.stop()
        (data / "differences" / "one-other").write_bytes(b"AIMdiff")
        garbage = {stray: 5, "model-anna": 8, "differences": 7}
        assert collect(tmp_path, dry_run=True) == garbage
        assert collect(tmp_path, dry_run=False) == garbage
        assert collect(tmp_path, dry_run=True) == {}
        again = await Bench.start(data, ManualClock())
        await again.send(run_id, "south")
        assert (await again.finished(run_id)).state == "finished"
        await again.stop()
        assert all(log.is_file() for log in logs)
        assert collect(tmp_path, dry_run=True)[f"flower/{run_id}"] == 5
        assert logs[0].is_file()
        assert collect(tmp_path, dry_run=False)[f"flower/{run_id}"] == 5
        assert [log.parent.exists() for log in logs] == [False, True]

    _run(scenario())


def test_a_server_without_room_takes_no_new_run_and_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), room=lambda: room_for_work(10, 100))
        with pytest.raises(OutOfSpace) as caught:
            await bench.submit()
        assert caught.value.code == "server.low_space"
        assert bench.engine.lives() == []
        await bench.stop()

    _run(scenario())
    room_for_work(100, 100)
