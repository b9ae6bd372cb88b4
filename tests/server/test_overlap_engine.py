"""The engine with steps that overlap: sums one after the other, a history that is told again to the same bits."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.privacy.transcript import Chain
from aimass.proto.contribution import Contribution, decode_contribution
from aimass.proto.plan import EvaluateSettings, Plan, Stage, TaskRef, TrainSettings, decode_plan, encode_plan
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState
from aimass.server import run_machine, runs, steps
from aimass.server.aggregation.models import ModelStore
from aimass.server.audit import Evidence, audit_run, gather
from aimass.server.audit_steps import StepTold, Void, read_bodies
from aimass.server.engine import InstalledDrivers
from aimass.server.reduction import reduce_step
from aimass.server.simulation.shell import first
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, SIGNER, Bench, update
from tests.support.replay import replayed

PARTNERS = ("p0", "p1", "p2", "p3")
ROUNDS = 5


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def _plan(bench: Bench, staleness: int = 2, every: int = 2) -> Plan:
    plan = decode_plan(bench.plan(quorum=2))
    options = {"rounds": ROUNDS, "buffer": 3, "max_staleness": staleness}
    stage = msgspec.structs.replace(plan.stages[0], driver="fedbuff", options=options)
    return msgspec.structs.replace(plan, stages=(stage,), evaluate=EvaluateSettings(every=every))


def _bytes(step: Step, partner: str) -> bytes:
    """What a partner contributes: another update for each step."""
    if step.kind == "evaluate":
        return dataclasses.replace(decode_contribution(Blob(update(0.0))), groups={}).encode()
    return update(float(np.float32(0.1 + step.index / 7 + PARTNERS.index(partner))), weight=1.0 + step.index % 3)


def _contribution(step: Step, partner: str) -> Contribution:
    return decode_contribution(Blob(_bytes(step, partner)))


async def _comes(bench: Bench, run_id: str, names: Sequence[str], *, counted: bool = True) -> None:
    """Each of `names` brings what it is asked for, all at once; then it is waited for until nothing is being `counted`."""
    held = bench.engine.live(run_id).row.run
    places = [
        (state.step, name)
        for name in names
        for state in held.open.values()
        if state.counted is None and name in state.step.participants and state.slots[name].state == "asked"
    ]
    await asyncio.gather(
        *(bench.send_bytes(run_id, name, step.index, _bytes(step, name)) for step, name in places),
        return_exceptions=True,  # a step may be given up while its contribution is on its way
    )
    if counted:
        await bench.until(run_id, lambda run: all(state.counted is None for state in run.open.values()))


def _evidence(bench: Bench, run_id: str) -> Evidence:
    return Evidence(
        row=bench.engine.live(run_id).row, entries=bench.store.transcript(run_id), heads=[],
        receipts=bench.store.receipts(run_id), models=bench.store.models(run_id),
        server=SIGNER.public_key().public_bytes_raw(), partners={},
    )  # fmt: skip


def _told_again(bench: Bench, run_id: str, folder: Path) -> str:
    blobs = FileBlobs(folder)
    blobs.put([MODEL])
    bodies = read_bodies(bench.store.transcript(run_id), [])
    plan = bench.engine.live(run_id).row.run.plan
    return replayed(plan, {name: name for name in PARTNERS}, bodies, ModelStore(blobs), _contribution)


@pytest.mark.parametrize("seed", range(3))
def test_the_history_of_a_run_is_told_again_to_the_same_bits_also_after_restarts(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(encode_plan(_plan(bench)))
        await bench.join(run_id)
        for turn in range(400):
            if bench.engine.live(run_id).row.run.state.final:
                break
            # p3 comes once in a while: its model is old by then, or its step was given up
            names = chance.sample(PARTNERS[:3], 2) + (["p3"] if turn % 9 == 8 else [])
            stops = turn % 4 == 3  # wherever it is, between what is stored and what is not
            await _comes(bench, run_id, names, counted=not stops)
            if stops:
                live = bench.engine.live(run_id).row
                evidence = gather(bench.store, live, bench.roster)  # while it goes on
                assert audit_run(msgspec.structs.replace(evidence, server=bench.engine.identity)).faults == ()
                await bench.stop()
                bench = await Bench.start(tmp_path, ManualClock(), PARTNERS, keys=bench.keys)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED, run.reason
        assert _told_again(bench, run_id, tmp_path / "again") == run.model
        audit = audit_run(_evidence(bench, run_id))
        assert audit.faults == ()
        bodies = read_bodies(bench.store.transcript(run_id), [])
        order = [body.step.index for body in bodies if isinstance(body, StepTold | Void)]
        assert order != sorted(order)  # they did overlap
        await bench.stop()
        assert list((tmp_path / "spool").iterdir()) == []

    _run(scenario())


def test_of_buffers_the_one_that_is_named_is_there_alone_also_after_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(encode_plan(_plan(bench, every=0)))
        await bench.join(run_id)
        for names in (PARTNERS[:1], PARTNERS[1:2], PARTNERS[2:3]):  # the third makes a version, and nothing is left
            await _comes(bench, run_id, names)
            await bench.housekeeping.after_commit(run_id)  # what a restart comes between is left to `aimass server gc`
            await bench.stop()
            bench = await Bench.start(tmp_path, ManualClock(), PARTNERS, keys=bench.keys)
        run = bench.engine.live(run_id).row.run
        assert set(bench.blobs.digests()) == {run.plan.model, run.model}
        await bench.stop()

    _run(scenario())


def test_an_entry_extends_the_history_as_it_is_when_it_is_written(tmp_path: Path) -> None:
    """A partner leaves while another's contribution is summed: two reductions wait, and each has its own entry."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(encode_plan(_plan(bench, every=0)))
        await bench.join(run_id)
        await asyncio.gather(
            *(bench.send_bytes(run_id, name, index, update(1.0)) for index, name in enumerate(PARTNERS[:3])),
            bench.engine.apply(run_id, runs.Removed(partner="p3", reason="revoked")),
        )
        run = await bench.until(run_id, lambda run: run.next_index > 4)
        assert run.model != run.plan.model
        assert audit_run(_evidence(bench, run_id)).faults == ()
        await bench.stop()

    _run(scenario())


def test_a_model_is_known_by_the_version_that_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(encode_plan(_plan(bench, every=0)))
        await bench.join(run_id)
        for names in (PARTNERS[:3], PARTNERS[:2], PARTNERS[3:]):  # the last of the first version makes the second
            await _comes(bench, run_id, names)
        made = {model.step: model.round for model in bench.store.models(run_id)}
        assert sorted(made.values()) == [1, 2]
        assert made[3] == 2
        await bench.stop()

    _run(scenario())


def test_what_a_step_leaves_is_made_again_for_a_history_that_grew_while_it_was_summed(tmp_path: Path) -> None:
    stage = Stage(driver="fedbuff", options={"rounds": 1, "buffer": 1})
    plan = Plan(
        name="p", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1, stages=(stage,),
        model=Blob(MODEL).digest, train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
    )  # fmt: skip
    blobs, drivers, path = FileBlobs(tmp_path), InstalledDrivers(), tmp_path / "contribution"
    blobs.put([MODEL])
    path.write_bytes(update(1.0))
    run = first("ab" * 16, plan, {name: name for name in PARTNERS})
    run, _ = run_machine.apply(run, runs.JoinTimeUp(), drivers, 0.0)
    stored = steps.Stored(partner="p0", digest=Blob(update(1.0)).digest)
    run, _ = run_machine.apply(run, runs.InStep(index=0, event=stored), drivers, 0.0)
    closing, driver = run.open["0"], drivers["fedbuff"]
    _, made = reduce_step(run, Chain(), closing, {"p0": path}, (), driver, blobs, SIGNER, 1.0)
    for chain in (Chain(), Chain(3, "cd" * 32)):
        commit = made(chain)
        assert commit.entries[0].chain == chain.extended(commit.entries[0].data)
        assert commit.receipts[0].entries == commit.entries[0].chain.entries == chain.entries + 1
        assert commit.steps[0].transcript_head == commit.entries[0].chain.head
