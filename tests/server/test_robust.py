"""Runs with a robust rule: what is refused, what a liar cannot do, and that nothing but the updates decides a bit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import (
    Cohort,
    EvaluateSettings,
    Plan,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
    decode_plan,
    encode_plan,
)
from aimass.proto.robust import RULES, least
from aimass.proto.step import Reduce, Step
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.proto.values import Scalar
from aimass.proto.views import RunState
from aimass.server.aggregation.collected import Held
from aimass.server.aggregation.models import BLOCK, ModelStore
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.audit import audit_run, gather
from aimass.server.drivers.averaging import AveragingState
from aimass.server.drivers.averaging import driver as averaging
from aimass.server.drivers.base import Context, StepResult
from aimass.server.simulate import simulate
from tests.support.clock import ManualClock
from tests.support.datasets import dataset
from tests.support.engines import MODEL, SIGNER, Bench

Options = Mapping[str, Scalar]
SEVEN = tuple(f"p{place}" for place in range(7))


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def plan_with(
    plan: Plan, options: Options, cohort: Cohort | None = None, secure: SecureSettings | None = None
) -> bytes:
    stage = Stage(driver="averaging", options={"rounds": 2, **options})
    return encode_plan(msgspec.structs.replace(plan, stages=(stage,), cohort=cohort or plan.cohort, secure=secure))


def krum(tolerated: int) -> Options:
    return {"rule": "krum", "tolerated": tolerated}


def driven(
    folder: Path,
    first: Mapping[str, Array],
    updates: Sequence[Mapping[str, Array]],
    options: Options,
    block: int = BLOCK,
) -> dict[str, Array]:
    """The model after one round of the driver over these updates."""
    blobs = FileBlobs(folder)
    names = tuple(f"p{place}" for place in range(len(updates)))
    stage = Stage(driver="averaging", options={"rounds": 1, **options})
    plan = Plan(
        name="p", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1,
        model=blobs.put([encode_numpy(dict(first))]), stages=(stage,),
        train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
    )  # fmt: skip
    context = Context(plan, stage, names, 0)
    state: AveragingState = averaging.start(context, plan.model)
    (step,) = averaging.next(state, context)  # type: ignore[misc]
    assert step.reduce is Reduce.COLLECT
    made = [Contribution({"update": Group(1.0 + place, dict(one))}, {}, {}) for place, one in enumerate(updates)]
    replies = Held(dict(zip(names, made, strict=True)), blobs, {})
    result = StepResult(step, names, {}, SpooledSums(made), replies=replies)
    state = averaging.receive(state, result, ModelStore(blobs, block=block), context)
    return {name: array.copy() for name, array in Blob(blobs.open(state.model)).arrays().items()}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"rule": "krum", "tolerated": 2}, "robust.too_few", "n = 6, f = 2, rule krum; allowed: n >= 2 f + 3 = 7"),
        (
            {"rule": "krum", "tolerated": 2},
            "robust.too_few",
            "Set cohort.quorum to 7 or more, or tolerated to 1 or less",
        ),
        ({"rule": "median", "tolerated": 3}, "robust.too_few", "n = 6, f = 3, rule median; allowed: n >= 2 f + 1 = 7"),
        ({"rule": "bulyan", "tolerated": 1}, "value.invalid", "rule"),
        ({"rule": "median"}, "value.invalid", "need"),
        ({"tolerated": 1}, "value.invalid", "need"),
    ],
)
def test_a_rule_that_the_plan_cannot_have_is_refused_at_submission(
    tmp_path: Path, options: dict[str, Scalar], code: str, said: str
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), SEVEN)
        with pytest.raises(BadInput) as refused:
            await bench.submit(plan_with(decode_plan(bench.plan(quorum=6)), options))
        assert refused.value.code == code
        assert said in refused.value.sentence()
        assert bench.engine.lives() == []
        await bench.stop()

    _run(scenario())


def test_single_updates_are_refused_under_secure_aggregation_and_late_ones_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), SEVEN)
        plan = decode_plan(bench.plan(quorum=7))
        for cohort, secure, code, cure in (
            (None, SecureSettings(), "plan.robust_secure", 'secure.rule = "krum"'),
            (Cohort(quorum=7, late="next"), None, "plan.robust_late", 'cohort.late = "refuse"'),
        ):
            with pytest.raises(BadInput) as refused:
                await bench.submit(plan_with(plan, krum(2), cohort, secure))
            assert refused.value.code == code
            assert cure in refused.value.sentence()
        await bench.stop()

    _run(scenario())


def test_a_step_that_brought_too_few_is_an_error_with_f_and_n_and_the_rule(tmp_path: Path) -> None:
    updates = [{"w": np.ones(3, np.float32)}] * 4
    with pytest.raises(BadInput, match="n = 4, f = 1, rule krum"):
        driven(tmp_path, updates[0], updates, krum(1))
    driven(tmp_path, updates[0], [*updates, updates[0]], krum(1))


# ---------------------------------------------------------------- bits


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(RULES)), st.integers(1, 40).map(lambda half: 2 * half), st.integers(0, 2**32))
def test_the_size_of_a_block_decides_no_bit(tmp_path: Path, rule: str, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> dict[str, Array]:
        return {"a": rng.normal(size=(7, 9)).astype(np.float32), "b": rng.normal(size=5), "c": rng.integers(0, 9, ())}

    first, updates = some(), [some() for _ in range(rng.integers(9, 15))]
    options: Options = {"rule": rule, "tolerated": 3, "algorithm": "fedavgm"}
    one = driven(tmp_path, first, updates, options, block)
    other = driven(tmp_path, first, updates, options)
    assert encode_numpy(one) == encode_numpy(other)


@pytest.mark.parametrize("rule", RULES)
def test_counters_move_by_their_median_and_are_in_no_distance(tmp_path: Path, rule: str) -> None:
    """By its counter alone partner 2 is far from all others; by what is trained partner 4 is."""
    rng = np.random.default_rng(3)
    first = {"w": np.zeros(5), "n": np.array(10)}
    updates = [{"w": rng.normal(size=5), "n": np.array(n)} for n in (3, 4, 900_000, 3, 5)]
    updates[4]["w"] += 40.0
    made = driven(tmp_path, first, updates, {"rule": rule, "tolerated": 1})
    bare = driven(tmp_path, {"w": first["w"]}, [{"w": one["w"]} for one in updates], {"rule": rule, "tolerated": 1})
    assert made["n"] == 10 + 4
    np.testing.assert_array_equal(made["w"], bare["w"])


def test_a_server_optimiser_steps_from_the_rules_value(tmp_path: Path) -> None:
    first = {"w": np.zeros(3)}
    updates = [{"w": np.full(3, value)} for value in (1.0, 2.0, 1e5)]
    median: Options = {"rule": "median", "tolerated": 1}
    plain = driven(tmp_path, first, updates, median)
    stepped: Options = {**median, "algorithm": "fedavgm", "server_learning_rate": 0.5}
    momentum = driven(tmp_path, first, updates, stepped)
    np.testing.assert_allclose(plain["w"], 2.0)
    np.testing.assert_allclose(momentum["w"], 1.0)


# ---------------------------------------------------------------- runs


def _hospital(participant: str, place: str) -> Shard:
    path = dataset("heart") / f"{place}.parquet"
    manifest = ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=participant,
        salt=participant.encode().hex().ljust(64, "0"), held_out=0.3,
    )  # fmt: skip
    with path.open("rb") as file:
        return open_shard(task.schema, manifest, [file])[0]


async def _trained(bench: Bench, run_id: str, shards: Sequence[Shard], index: int) -> None:
    """Every partner does the step as its child would, and sends what came of it."""
    run = await bench.until(run_id, lambda run: str(index) in run.open)
    step: Step = run.open[str(index)].step
    for shard in shards:
        inputs = [Blob(bench.blobs.open(digest)) for digest in step.inputs_of(shard.participant)]
        done = Trainee(task).do(order_of(run.plan, step, shard.participant), shard, inputs, b"")
        await bench.send_bytes(run_id, shard.participant, index, done.contribution.encode())


@pytest.mark.parametrize("rule", ["median", "krum", "geometric-median"])
def test_a_run_that_was_cut_and_a_simulation_end_in_the_same_bits(tmp_path: Path, rule: str) -> None:
    names = SEVEN[: least(rule, 1)]
    places = ("cleveland", "hungarian", "long-beach", "cleveland", "hungarian")
    shards = [_hospital(name, place) for name, place in zip(names, places, strict=False)]

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), names)
        start = bench.blobs.put([first_model(task, 1)])
        plan = msgspec.structs.replace(
            decode_plan(bench.plan(quorum=len(names))), model=start,
            train=TrainSettings(batch_size=32, learning_rate=0.1, epochs=1), evaluate=EvaluateSettings(every=0),
        )  # fmt: skip
        data = plan_with(plan, {"rule": rule, "tolerated": 1})
        expected = simulate(decode_plan(data), task, shards, bench.blobs).model
        run_id = await bench.submit(data)
        await bench.join(run_id)
        await _trained(bench, run_id, shards, 0)
        await bench.until(run_id, lambda run: "1" in run.open)
        await bench.stop()

        bench = await Bench.start(tmp_path, ManualClock(), names)
        await _trained(bench, run_id, reversed(shards), 1)  # type: ignore[arg-type]
        run = await bench.finished(run_id)
        assert (run.state, run.model) == (RunState.FINISHED, expected)
        assert run.model != start
        evidence = gather(bench.store, bench.engine.live(run_id).row, bench.roster)
        signed = msgspec.structs.replace(evidence, server=SIGNER.public_key().public_bytes_raw())
        assert audit_run(signed).faults == ()
        await bench.stop()

    _run(scenario())


def test_a_liar_moves_a_run_with_a_rule_no_further_than_the_honest_are_and_one_without_anywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        found = {}
        bench = await Bench.start(tmp_path, ManualClock(), SEVEN[:5])
        for rule in ("mean", *RULES):
            options: Options = {"rule": rule, "tolerated": int(rule != "mean"), "rounds": 1}
            run_id = await bench.submit(plan_with(decode_plan(bench.plan(quorum=5)), options))
            await bench.join(run_id)
            for partner, value in zip(SEVEN, (1.0, 1.1, 0.9, 1.2, -1e4), strict=False):
                await bench.send(run_id, partner, value=value)
            run = await bench.finished(run_id)
            found[rule] = float(Blob(bench.blobs.open(run.model)).numpy("w")[0] - Blob(MODEL).numpy("w")[0])
        assert found.pop("mean") < -1e3
        assert found.pop("clipped") == pytest.approx((1 + 1.1 + 0.9 + 1.1 - 1.1) / 5)  # its length is bounded, no more
        assert all(0.9 <= value <= 1.2 for value in found.values()), found
        await bench.stop()

    _run(scenario())
