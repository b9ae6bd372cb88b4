"""Runs with surveys: what was found stands with its step and in the last model's manifest, or why nothing was."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.surveys import surveyed
from aimass.client.worker_protocol import survey_in
from aimass.proto.errors import NotFound, WrongState
from aimass.proto.model_manifest import ModelManifest, decode_manifest
from aimass.proto.plan import Cohort, Stage, decode_plan, encode_plan
from aimass.proto.statistics import Histogram, Statistics
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState, RunView, SlotState
from aimass.server import runs, steps
from aimass.server.audit import Evidence, audit_run
from aimass.server.manifests import reference_of
from tests.support.clock import ManualClock
from tests.support.engines import SIGNER, Bench
from tests.support.surveys import SCHEMA, batch, pooled

PARTNERS = ("east", "north", "west")
ROWS = {name: batch(30, seed) for seed, name in enumerate(PARTNERS)}
FORBIDDEN = "release.analysis: the policy does not release this analysis"


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def _ended(
    folder: Path, *stages: Stage, forbids: tuple[str, ...] = (), quorum: int = 2
) -> tuple[Bench, RunView, str]:
    """A run of these stages after its end; in surveys those partners fail that forbid them."""
    bench = await Bench.start(folder, ManualClock(), PARTNERS)
    plan = msgspec.structs.replace(
        decode_plan(bench.plan(rounds=1)), stages=stages, data_schema=SCHEMA.name, schema=SCHEMA,
        cohort=Cohort(quorum=quorum, exclude_after=1),
    )  # fmt: skip
    run_id = await bench.submit(encode_plan(plan))
    await bench.join(run_id)
    index = 0
    while True:
        run = await bench.until(run_id, lambda run, index=index: str(index) in run.open or run.state.final)  # type: ignore[misc]
        if run.state.final:
            break
        step = run.open[str(index)].step
        survey = survey_in(plan, step)
        for name in step.participants:
            if survey is not None and name in forbids:
                failed = steps.Failed(partner=name, reason=FORBIDDEN)
                await bench.engine.apply(run_id, runs.InStep(index=index, event=failed))
            elif survey is not None:
                chosen = Blob(bench.blobs.open(step.inputs[1])) if len(step.inputs) > 1 else None
                with contextlib.suppress(WrongState):  # the last one hears that the step closed without it
                    await bench.send_bytes(run_id, name, index, surveyed(survey, ROWS[name], chosen).encode())
            else:
                await bench.send(run_id, name, index)
        index += 1
    return bench, await bench.readings.run_view(run_id), run_id


async def _manifest(bench: Bench, run_id: str) -> ModelManifest:
    return decode_manifest(await bench.readings.manifest(run_id))


TRAIN = Stage(driver="averaging", options={"rounds": 1})


def test_what_a_survey_found_stands_with_its_step_and_in_the_history_and_in_the_manifest(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, view, run_id = await _ended(tmp_path, Stage(driver="histogram", options={"bins": 7}), TRAIN)
        assert view.summary.state is RunState.FINISHED
        told = view.steps[0].statistics
        assert told is not None
        assert isinstance(told.found, Histogram)
        assert told.partners == 3
        ages = pooled(list(ROWS.values())).numbers[:, 0].astype(np.float64)
        oracle, _ = np.histogram(ages[~np.isnan(ages)], bins=7, range=(0, 120))
        assert told.found.numbers[0].counts == tuple(oracle)
        entry = bench.store.transcript(run_id)[1]
        assert msgspec.json.decode(entry.body)["statistics"] == hashlib.sha256(canonical_json(told)).hexdigest()
        manifest = await _manifest(bench, run_id)
        assert manifest.reference.histogram == told.found
        assert (manifest.reference.partners, manifest.reference.reason) == (3, "")
        assert (manifest.parameters, manifest.step, manifest.round) == (view.summary.model, 1, 1)
        assert (manifest.plan, manifest.transcript_head) == (view.plan_digest, view.steps[1].transcript_head)
        assert manifest.bytes == len(bench.blobs.open(manifest.parameters))
        assert manifest.schema == SCHEMA.digest
        assert manifest.finished_at == view.summary.ended_at
        await bench.stop()

    _run(scenario())


def test_where_policies_forbid_it_the_run_goes_on_and_the_reference_is_empty_for_all_to_see(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(driver="histogram", options={"required": False})
        bench, view, run_id = await _ended(tmp_path, stage, TRAIN, forbids=("east", "north"))
        assert view.summary.state is RunState.FINISHED
        first, second = view.steps
        assert first.statistics is not None
        assert first.statistics.found is None
        assert f"east: {FORBIDDEN}; north: {FORBIDDEN}" in first.statistics.reason
        assert first.slots["west"] is SlotState.REFUSED  # what one alone sent is not used
        assert second.slots == dict.fromkeys(PARTNERS, SlotState.COUNTED)  # and nobody is excluded for its policy
        reference = (await _manifest(bench, run_id)).reference
        assert (reference.histogram, reference.reason) == (None, first.statistics.reason)
        row = bench.engine.live(run_id).row
        evidence = Evidence(
            row=row, entries=bench.store.transcript(run_id), receipts=bench.store.receipts(run_id), heads=[],
            models=bench.store.models(run_id), server=SIGNER.public_key().public_bytes_raw(),
            partners=dict.fromkeys(PARTNERS, b""), ids={},
        )  # fmt: skip
        assert audit_run(evidence).faults == ()
        await bench.stop()

    _run(scenario())


def test_one_that_forbids_it_is_not_in_the_sum_and_the_rest_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(driver="histogram", options={"required": False})
        bench, view, run_id = await _ended(tmp_path, stage, forbids=("west",))
        told = view.steps[0].statistics
        assert told is not None
        assert isinstance(told.found, Histogram)
        assert told.found.label is not None
        assert (told.partners, sum(told.found.label.counts)) == (2, 60)
        manifest = await _manifest(bench, run_id)
        assert (manifest.parameters, manifest.step) == (view.plan.model, None)  # no step changed the model
        await bench.stop()

    _run(scenario())


def test_the_reference_is_the_last_histogram_that_was_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(driver="histogram", options={"required": False})
        bench, view, _ = await _ended(tmp_path, stage, TRAIN, stage)
        first, _, last = view.steps
        assert first.statistics is not None
        few = msgspec.structs.replace(first.statistics, partners=2)
        before = msgspec.structs.replace(first, statistics=few)
        refused = Statistics(survey="histogram", partners=0, reason="nobody may")
        assert reference_of((before, last)).partners == 3
        assert reference_of((before, msgspec.structs.replace(last, statistics=refused))).partners == 2
        await bench.stop()

    _run(scenario())


def test_a_survey_that_is_required_fails_the_run_which_has_no_manifest(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, view, run_id = await _ended(tmp_path, Stage(driver="histogram"), TRAIN, forbids=("east", "north"))
        assert view.summary.state is RunState.FAILED
        assert "release.analysis" in view.summary.reason
        with pytest.raises(NotFound):
            await bench.readings.manifest(run_id)
        await bench.stop()

    _run(scenario())


def test_quantiles_take_two_steps_on_the_same_model_and_leave_no_blob_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        stage = Stage(driver="quantiles", options={"refine": True, "bins": 9})
        bench, view, run_id = await _ended(tmp_path, stage, TRAIN)
        assert [step.purpose for step in view.steps] == ["quantiles", "quantiles", ""]
        assert (await _manifest(bench, run_id)).reference.reason == "the plan has no stage `histogram`"
        assert set(bench.blobs.digests()) == {view.plan.model, view.summary.model}
        await bench.stop()

    _run(scenario())
