"""Runs with a server optimiser: what it keeps lives as long as the run needs it, through kills and under secure sums."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.tasks.heart import task
from aimass.proto.errors import BadInput
from aimass.proto.plan import (
    EvaluateSettings,
    Plan,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
    decode_plan,
    encode_plan,
)
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.values import decode_json
from aimass.proto.views import RunState
from aimass.server.drivers.averaging import AveragingState
from aimass.server.drivers.optimisers import ALGORITHMS, rule_of
from aimass.server.garbage import collect
from aimass.server.runs import Run
from aimass.server.settings import template
from aimass.server.simulate import simulate
from tests.server.test_optimisers import KEEPING, papers
from tests.server.test_secure import NAMES, VALUES, final, mean, model, stopped
from tests.server.test_secure_noise import noised, read
from tests.server.test_simulate import hospitals
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench
from tests.support.secure_members import SecurePartner, settled


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def with_algorithm(plan: Plan, name: str) -> Plan:
    stages = tuple(
        msgspec.structs.replace(stage, options=stage.options | {"algorithm": name})
        if stage.driver == "averaging"
        else stage
        for stage in plan.stages
    )
    return msgspec.structs.replace(plan, stages=stages)


def planned(bench: Bench, name: str, rounds: int) -> bytes:
    return encode_plan(with_algorithm(decode_plan(bench.plan(rounds=rounds)), name))


def moments(run: Run) -> str:
    return decode_json(AveragingState, run.driver.encode(), "a state").moments


async def rounds(bench: Bench, run_id: str, first: int, stop: int) -> Run:
    """Send two partners' updates in these rounds; the run after the last."""
    for step in range(first, stop):
        await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
        for partner in bench.partners:
            await bench.send(run_id, partner, step, value=0.5 - step)
    return await bench.until(run_id, lambda run: run.state.final or str(stop) in run.open)


@pytest.mark.parametrize("keep", [0, 2])
def test_what_the_optimiser_keeps_is_there_while_the_run_needs_it_and_gone_after(tmp_path: Path, keep: int) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=keep)
        run_id = await bench.submit(planned(bench, "fedadam", 4))
        await bench.join(run_id)
        seen = []
        for step in range(3):
            seen.append(moments(await rounds(bench, run_id, step, step + 1)))
            await bench.housekeeping.after_commit(run_id)
            assert [bench.blobs.has(digest) for digest in seen] == [*[False] * step, True]
        run = await rounds(bench, run_id, 3, 4)
        await bench.housekeeping.after_commit(run_id)
        assert run.state is RunState.FINISHED
        models = {row.digest for row in bench.store.models(run_id)}
        assert set(bench.blobs.digests()) <= models | {run.plan.model}
        assert len(set(seen)) == 3
        await bench.stop()

    _run(scenario())


def test_a_run_that_is_stopped_lets_go_of_what_its_optimiser_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(planned(bench, "fedadam", 4))
        await bench.join(run_id)
        held = moments(await rounds(bench, run_id, 0, 1))
        assert bench.blobs.has(held)
        done = asyncio.Event()

        async def tidied(run_id: str) -> None:
            await bench.housekeeping.after_commit(run_id)
            done.set()

        bench.engine.after_commit = tidied
        await bench.engine.change(run_id, "stop", "anna")
        await asyncio.wait_for(done.wait(), 10)
        assert not bench.blobs.has(held)
        await bench.stop()

    _run(scenario())


def test_the_moments_of_a_run_are_not_taken_from_another_that_has_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        one, other = [await bench.submit(planned(bench, "fedyogi", 3)) for _ in "ab"]
        for run_id in (one, other):
            await bench.join(run_id)
            await rounds(bench, run_id, 0, 1)
            await bench.housekeeping.after_commit(run_id)
        held = moments(bench.engine.live(other).row.run)
        assert held == moments(bench.engine.live(one).row.run)
        await rounds(bench, one, 1, 3)
        await bench.housekeeping.after_commit(one)
        assert bench.blobs.has(held)
        assert (await rounds(bench, other, 1, 3)).model == bench.engine.live(one).row.run.model
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("name", KEEPING)
def test_a_run_that_was_cut_ends_in_the_same_bits_and_gc_takes_what_it_no_longer_needs(
    tmp_path: Path, name: str
) -> None:
    async def scenario() -> None:
        for folder in ("whole", "data"):
            (tmp_path / folder).mkdir()
        whole = await Bench.start(tmp_path / "whole", ManualClock())
        run_id = await whole.submit(planned(whole, name, 3))
        await whole.join(run_id)
        expected = (await rounds(whole, run_id, 0, 3)).model
        await whole.stop()

        (tmp_path / "server.toml").write_text(template("hub", "127.0.0.1:0", "127.0.0.1:0"))
        bench = await Bench.start(tmp_path / "data", ManualClock())
        run_id = await bench.submit(planned(bench, name, 3))
        await bench.join(run_id)
        held = moments(await rounds(bench, run_id, 0, 1))
        stray = bench.blobs.put([b"stray"])
        await bench.stop()
        assert collect(tmp_path, dry_run=False) == {stray: 5}
        bench = await Bench.start(tmp_path / "data", ManualClock())
        assert bench.blobs.has(held)
        run = await rounds(bench, run_id, 1, 3)
        assert (run.state, run.model) == (RunState.FINISHED, expected)
        await bench.housekeeping.after_commit(run_id)
        assert not bench.blobs.has(held)  # though the restart stood between this one and its successor
        await bench.stop()
        assert collect(tmp_path, dry_run=False) == {}
        assert bench.blobs.has(run.model)

    _run(scenario())


def test_a_run_whose_moments_are_lost_ends_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(planned(bench, "fedavgm", 3))
        await bench.join(run_id)
        held = moments(await rounds(bench, run_id, 0, 1))
        await bench.stop()
        bench.blobs.delete(held)
        again = await Bench.start(tmp_path, ManualClock())
        run = again.engine.live(run_id).row.run
        assert run.state is RunState.FAILED
        assert run.reason.startswith("model.missing")
        assert held[:16] in run.reason
        await again.stop()

    _run(scenario())


def test_an_unknown_algorithm_is_refused_at_submission(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        with pytest.raises(BadInput) as refused:
            await bench.submit(planned(bench, "adam", 3))
        assert refused.value.code == "plan.algorithm"
        assert bench.engine.lives() == []
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("noise", [False, True], ids=["exact", "noised"])
def test_under_secure_aggregation_the_rule_takes_the_sum_that_it_is_given(
    tmp_path: Path, name: str, *, noise: bool
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        if noise:
            plan = noised(bench, rounds=2, bits=16)
        else:
            plan = decode_plan(bench.plan(rounds=2, quorum=3))
            plan = msgspec.structs.replace(plan, secure=SecureSettings(clip=4.0, max_weight=64))
        plan = with_algorithm(plan, name)
        run_id = await bench.submit(encode_plan(plan))
        partners = {each: SecurePartner(bench, run_id, each, *VALUES[each]) for each in NAMES}
        await bench.join(run_id)
        await settled(partners, lambda: final(bench, run_id))
        assert bench.engine.live(run_id).row.run.state is RunState.FINISHED
        summed = [read(plan, run_id, partners, index, NAMES) if noise else np.full(4, mean(*NAMES)) for index in (0, 1)]
        options = msgspec.structs.asdict(rule_of(plan.stages[0]))
        expected = papers(name, options, Blob(MODEL).numpy("w").astype(np.float64), summed)[-1]
        np.testing.assert_allclose(model(bench, run_id), expected, rtol=1e-5 if noise else 1e-3, atol=1e-6)
        await stopped(bench, run_id)

    _run(scenario())


def test_simulations_end_in_the_same_bits_in_a_model_of_each_algorithm_own(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    plan = Plan(
        name="p", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1,
        model=blobs.put([first_model(task, 1)]),
        stages=(Stage(driver="statistics"), Stage(driver="averaging", options={"rounds": 4})),
        train=TrainSettings(batch_size=32, learning_rate=0.1, epochs=1), evaluate=EvaluateSettings(every=4),
    )  # fmt: skip
    shards = hospitals()
    done = {name: simulate(with_algorithm(plan, name), task, shards, blobs) for name in ALGORITHMS}
    assert simulate(plan, task, shards, blobs).model == done["fedavg"].model
    assert simulate(with_algorithm(plan, "fedadam"), task, shards, blobs).model == done["fedadam"].model
    assert len({made.model for made in done.values()}) == len(ALGORITHMS)
    for made in done.values():
        accuracy = made.evaluations[-1].metrics["accuracy"]
        assert accuracy.total / accuracy.weight > 0.6
