"""Runs of trees on a server that is killed between two levels, and by a partner whose histograms contradict themselves."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest

from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.contribution import Contribution, decode_contribution
from aimass.proto.errors import BadInput, WrongState
from aimass.proto.plan import Cohort, Plan, encode_plan
from aimass.proto.step import Step, StepKind
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.trees import decode, encode
from aimass.proto.views import RunState, SlotState
from aimass.server.audit import Evidence, audit_run
from aimass.server.drivers.trees import driver
from tests.support.boosting import Grove, chance, dealt, grow, plan_of
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, SIGNER, Bench

PARTNERS = ("p00", "p01", "p02")
TASK = Grove()
SHARDS = dict(zip(PARTNERS, dealt(chance(300, 5), 3), strict=True))
PLAN = msgspec.structs.replace(plan_of(TASK, rounds=2, depth=3, bins=8), cohort=Cohort(quorum=2))


async def _begin(folder: Path) -> tuple[Bench, str, Plan]:
    bench = await Bench.start(folder, ManualClock(), PARTNERS, drivers={"trees": driver})
    plan = msgspec.structs.replace(PLAN, model=bench.blobs.put([TASK.first(PLAN.seed)]))
    run_id = await bench.submit(encode_plan(plan))
    await bench.join(run_id)
    return bench, run_id, plan


def _made(bench: Bench, plan: Plan, step: Step, name: str) -> Contribution:
    inputs = [Blob(bench.blobs.open(digest)) for digest in step.inputs]
    return Trainee(TASK).do(order_of(plan, step, name), SHARDS[name], inputs, b"").contribution


async def _step(bench: Bench, run_id: str, plan: Plan, index: int) -> bool:
    """All partners' work in a step; False once the run has ended."""
    run = await bench.until(run_id, lambda run: str(index) in run.open or run.state.final)
    if run.state.final:
        return False
    step = run.open[str(index)].step
    for name in PARTNERS:
        made = _made(bench, plan, step, name)
        with contextlib.suppress(WrongState):  # the step may have closed without the last one
            await bench.send_bytes(run_id, name, index, made.encode())
    return True


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_a_run_that_was_cut_between_two_levels_grows_the_same_trees(tmp_path: Path, cut: int) -> None:
    async def scenario() -> None:
        bench, run_id, plan = await _begin(tmp_path)
        index = 0
        while await _step(bench, run_id, plan, index):
            index += 1
            if index == cut:
                await bench.until(run_id, lambda run: str(cut) in run.open)
                await bench.stop()
                bench = await Bench.start(tmp_path, ManualClock(), PARTNERS, drivers={"trees": driver}, keys=bench.keys)
        run = bench.engine.live(run_id).row.run
        assert run.state is RunState.FINISHED
        whole = grow(plan, TASK, list(SHARDS.values()), tmp_path / "whole")
        assert encode(decode(Blob(bench.blobs.open(run.model)))) == encode(whole)
        await bench.housekeeping.after_commit(run_id)
        made = {row.digest for row in bench.store.models(run_id)}
        evidence = Evidence(
            row=bench.engine.live(run_id).row, entries=bench.store.transcript(run_id), receipts=bench.store.receipts(run_id), heads=[],
            models=bench.store.models(run_id), server=SIGNER.public_key().public_bytes_raw(),
            partners=dict.fromkeys(PARTNERS, b""), ids={},
        )  # fmt: skip
        assert audit_run(evidence).faults == ()
        if not cut:  # (what a restart comes between is left to `aimass server gc`)
            assert set(bench.blobs.digests()) == made | {plan.model, Blob(MODEL).digest}
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_histograms_that_contradict_themselves_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id, plan = await _begin(tmp_path)
        await _step(bench, run_id, plan, 0)
        run = await bench.until(run_id, lambda run: "1" in run.open)
        step = run.open["1"].step
        lie = decode_contribution(Blob(_made(bench, plan, step, "p01").encode()))
        rows = lie.groups["trees"].tensors["rows"].copy()
        rows[0, 0] += 1
        lie.groups["trees"].tensors["rows"] = rows  # type: ignore[index]
        with pytest.raises(BadInput) as error:
            await bench.send_bytes(run_id, "p01", 1, lie.encode())
        assert error.value.code == "contribution.histogram"
        for name in ("p00", "p02"):
            await bench.send_bytes(run_id, name, 1, _made(bench, plan, step, name).encode())
        await bench.until(run_id, lambda run: "2" in run.open)
        view = (await bench.readings.run_view(run_id)).steps[1]
        assert view.slots == {"p00": SlotState.COUNTED, "p01": SlotState.REFUSED, "p02": SlotState.COUNTED}
        await bench.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))


class Network(Task):
    """Of the same columns, by a network."""

    schema = TASK.schema


def test_a_task_that_grows_no_trees_sums_nothing_for_them() -> None:
    """A plan may name it all the same: the loss of the trees that came would then be anybody's."""
    asked = Step(
        index=0, kind=StepKind.ANALYSE, purpose="trees", round=0, participants=PARTNERS, inputs=("0" * 64,), quorum=3,
        deadline_s=9.0,
    )  # fmt: skip
    order, model = order_of(PLAN, asked, "p00"), Blob(TASK.first(0))
    assert Trainee(TASK).do(order, SHARDS["p00"], [model], b"").contribution.groups
    with pytest.raises(BadInput, match="grows no trees"):
        Trainee(Network()).do(order, SHARDS["p00"], [model], b"")
