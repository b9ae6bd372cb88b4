"""Reports of offline runs: recorded step after step, once each, and shown as federated runs are."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.proto.api import Federation
from aimass.proto.errors import AimassError, BadInput, Conflict, LimitExceeded, NotFound, Refused, WrongState
from aimass.proto.model_manifest import decode_manifest
from aimass.proto.origin import Origin
from aimass.proto.reporting import Record
from aimass.proto.reports import Measured, ReportedRun, StepReport
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.audit import audit_run, gather
from aimass.server.reports import Reports
from tests.support.clock import ManualClock
from tests.support.edge_federation import Members, run, serving
from tests.support.engines import MODEL, Bench

ORIGIN = Origin(data_set="heart@3", manifest="a" * 64, shards=4, rounds=2, engine="spark 4.3.0 local[2]")


def _model(value: float) -> bytes:
    return encode_numpy({"w": np.full(4, value, np.float32)})


def _trained(index: int, round_: int, model: bytes) -> StepReport:
    digest = Blob(model).digest
    return StepReport(
        index=index, kind=StepKind.TRAIN, round=round_, asked=4, counted=4, seconds=2.0, model=digest,
        metrics={"loss": Measured(mean=0.5, weight=10.0)},
    )  # fmt: skip


def _evaluated(index: int, round_: int, loss: float) -> StepReport:
    metrics = {"loss": Measured(mean=loss, weight=10.0)}
    return StepReport(
        index=index, kind=StepKind.EVALUATE, round=round_, asked=4, counted=4, seconds=1.0, metrics=metrics
    )


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def _begun(folder: Path) -> tuple[Bench, Reports, ReportedRun]:
    bench = await Bench.start(folder, ManualClock())
    reports = Reports(bench.engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
    bench.blobs.put([MODEL])
    return bench, reports, await reports.begin(bench.plan(2), "anna:offline", ORIGIN, "anna")


async def _refused(work: Coroutine[object, object, ReportedRun], kind: type[AimassError], code: str) -> None:
    with pytest.raises(kind) as caught:
        await work
    assert caught.value.code == code


def test_a_run_that_is_reported_whole_is_shown_and_audited_as_one_with_models_and_a_manifest(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        models = [_model(1.0), _model(3.0)]
        for round_, model in enumerate(models, start=1):
            bench.blobs.put([model])
            await reports.step(standing.run_id, _trained(2 * round_ - 2, round_, model))
            await reports.step(standing.run_id, _evaluated(2 * round_ - 1, round_, 1.0 / round_))
        ended = await reports.end(standing.run_id, "finished", "2 rounds")
        view = await bench.readings.run_view(standing.run_id)
        assert (view.summary.kind, view.summary.state, view.summary.partners) == ("offline", "finished", 4)
        assert (view.summary.round, view.summary.rounds, ended.next_step) == (2, 2, 4)
        assert view.origin == ORIGIN
        assert [step.model for step in view.steps] == [Blob(models[0]).digest, "", Blob(models[1]).digest, ""]
        first, _, second, _ = view.steps
        assert first.summary is not None
        assert second.summary is not None
        assert first.summary.norm == pytest.approx(2.0), "four elements moved by one"
        assert second.summary.similarity == pytest.approx(1.0)
        newest, _ = await bench.readings.models()
        assert newest.metrics["loss"].mean == 0.5, "the evaluation after it, as of a federated run"
        manifest = decode_manifest(await bench.readings.manifest(standing.run_id))
        assert manifest.parameters == Blob(models[1]).digest
        (row,) = bench.store.runs()
        audit = audit_run(gather(bench.store, row, bench.roster))
        assert audit.faults == ()
        assert audit.steps == 4
        assert "computed elsewhere over heart@3" in audit.not_repeated[0]
        await bench.stop()

    _run(scenario())


def test_whoever_reports_again_is_told_where_the_record_stands_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        bench.blobs.put([_model(1.0)])
        await reports.step(standing.run_id, _trained(0, 1, _model(1.0)))
        again = await reports.begin(bench.plan(2), "anna:offline", ORIGIN, "anna")
        assert again == ReportedRun(run_id=standing.run_id, state=RunState.RUNNING, next_step=1)
        chain = bench.store.chain(standing.run_id)
        await reports.step(standing.run_id, _trained(0, 1, _model(1.0)))
        assert bench.store.chain(standing.run_id) == chain
        await bench.stop()

    _run(scenario())


def test_a_record_outlives_the_server_that_took_it_and_hinders_no_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        bench.blobs.put([_model(1.0)])
        await reports.step(standing.run_id, _trained(0, 1, _model(1.0)))
        await bench.stop()
        bench = await Bench.start(tmp_path, ManualClock())
        reports = Reports(bench.engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
        assert (await reports.begin(bench.plan(2), "anna:offline", ORIGIN, "anna")).next_step == 1
        await reports.step(standing.run_id, _evaluated(1, 1, 0.4))
        assert bench.outbox.said == [], "partners are never told of it"
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("reported", [True, False])
def test_a_key_does_not_give_a_run_of_another_driver(tmp_path: Path, reported: bool) -> None:
    """Else whoever submits is given a run that nobody drives, and whoever reports one that takes no reports."""

    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        seen_to = runs.Job(stores=(), out="file:///out")
        begin = functools.partial(reports.begin, bench.plan(2), origin=ORIGIN, owner="anna")
        driven = await begin(key="anna:driven", job=lambda _: seen_to)
        if reported:
            await _refused(begin(key="anna:offline", job=lambda _: seen_to), Conflict, "report.driver")
        else:
            await _refused(begin(key="anna:driven"), Conflict, "report.driver")
        assert await begin(key="anna:offline") == standing
        assert await begin(key="anna:driven", job=lambda _: seen_to) == driven
        await bench.stop()

    _run(scenario())


def test_what_does_not_follow_on_the_record_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        run_id, model = standing.run_id, _model(1.0)
        await _refused(reports.step(run_id, _trained(0, 1, model)), NotFound, "report.model")
        bench.blobs.put([model])
        await _refused(reports.step(run_id, _trained(1, 1, model)), WrongState, "report.order")
        await reports.step(run_id, _trained(0, 1, model))
        await _refused(reports.step(run_id, _trained(0, 1, _model(2.0))), Conflict, "report.other")
        await reports.step(run_id, _evaluated(1, 1, 0.4))
        await _refused(reports.step(run_id, _evaluated(1, 1, 0.5)), Conflict, "report.other")
        spoilt = _model(np.nan)
        bench.blobs.put([spoilt])
        await _refused(reports.step(run_id, _trained(2, 2, spoilt)), BadInput, "model.not_finite")
        other = Origin(data_set="heart@4", manifest="b" * 64, shards=4)
        await _refused(reports.begin(bench.plan(2), "anna:offline", other, "anna"), Conflict, "report.data")
        await _refused(reports.begin(bench.plan(3), "anna:offline", ORIGIN, "anna"), Conflict, "run.key_reused")
        await _refused(reports.end(run_id, "paused", ""), BadInput, "report.state")
        await bench.stop()

    _run(scenario())


def test_an_operator_ends_a_record_but_neither_pauses_nor_resumes_what_runs_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        with pytest.raises(WrongState, match="aimass offline stop"):
            await bench.engine.change(standing.run_id, "pause", "olga")
        await bench.engine.change(standing.run_id, "stop", "olga")
        await _refused(reports.step(standing.run_id, _evaluated(0, 1, 0.4)), WrongState, "report.ended")
        (row,) = bench.store.runs()
        assert row.run.state is RunState.STOPPED
        assert audit_run(gather(bench.store, row, bench.roster)).faults == ()
        await bench.stop()

    _run(scenario())


def test_a_federated_run_takes_no_reports(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, _ = await _begun(tmp_path)
        run_id = await bench.submit()
        await _refused(reports.step(run_id, _evaluated(0, 1, 0.4)), WrongState, "report.federated")
        await bench.stop()

    _run(scenario())


def test_an_auditor_sees_a_model_on_record_that_no_report_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, standing = await _begun(tmp_path)
        bench.blobs.put([_model(1.0)])
        await reports.step(standing.run_id, _trained(0, 1, _model(1.0)))
        (row,) = bench.store.runs()
        evidence = gather(bench.store, row, bench.roster)
        assert audit_run(evidence).faults == ()
        without = msgspec.structs.replace(evidence, models=())
        assert audit_run(without).faults == ("the models on record are not those of the transcript",)
        await bench.stop()

    _run(scenario())


def test_a_scientist_reports_over_the_wire_and_nobody_else_in_her_name(tmp_path: Path) -> None:
    members = Members.create(tmp_path)

    def report(home: Path, bert: Path, plan: bytes) -> None:
        with Federation.open(home) as anna, Federation.open(bert) as other:
            record = Record.begin(anna, plan, MODEL, ORIGIN, "offline-run")
            record.step(_trained(0, 1, _model(1.0)), _model(1.0))
            again = Record.begin(anna, plan, MODEL, ORIGIN, "offline-run")
            assert again.standing == record.standing
            again.step(_trained(0, 1, _model(1.0)), _model(1.0))
            with pytest.raises(Refused, match="somebody else"):
                Record(other, record.standing).end(RunState.FINISHED, "mine now")
            wordy = msgspec.structs.replace(_evaluated(1, 1, 0.4), reasons={"p000001": "no " * 1_000})
            with pytest.raises(BadInput, match="reasons"):
                again.step(wordy)
            large = dict.fromkeys((f"p{number:06}" for number in range(5_000)), "no " * 100)
            with pytest.raises(LimitExceeded) as caught:
                again.step(msgspec.structs.replace(_evaluated(1, 1, 0.4), reasons=large))
            assert caught.value.code == "report.size"
            again.step(_evaluated(1, 1, 0.4))
            again.end(RunState.FINISHED, "2 rounds")
            mine = Record.begin(other, plan, MODEL, ORIGIN, "offline-run")
            mine.step(_trained(0, 1, _model(1.0)))  # names a model whose bytes it never had
            assert mine.standing.next_step == 1
            with pytest.raises(AimassError) as unread:
                other.export(Blob(_model(1.0)).digest, tmp_path / "stolen.safetensors")
            assert unread.value.code in ("fetch.refused", "model.unknown")
            view = anna.run("last").view
            assert (view.summary.kind, view.summary.state) == ("offline", "finished")
            assert anna.model("last").digest == Blob(_model(1.0)).digest
            anna.export("last", tmp_path / "model.safetensors")

    async def scenario() -> None:
        bench = await Bench.start(tmp_path / "bench", ManualClock())
        plan = bench.plan(2)
        await bench.stop()
        async with serving(members) as edge:
            anna, bert = (members.home(name, edge.address) for name in ("anna", "bert"))
            await asyncio.to_thread(report, anna, bert, plan)

    (tmp_path / "bench").mkdir()
    run(scenario())
    assert (tmp_path / "model.safetensors").read_bytes() == _model(1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seconds", 1e308), ("round", 1 << 64), ("round", 1 << 32), ("index", 1 << 64), ("asked", 1 << 40)],
)
def test_a_report_of_more_than_any_run_takes_is_refused(field: str, value: float) -> None:
    """Such numbers overflow sums of seconds and the database's integers."""
    report = msgspec.to_builtins(_trained(0, 1, MODEL))
    decode_json(StepReport, canonical_json(report), "a report")
    with pytest.raises(BadInput):
        decode_json(StepReport, canonical_json({**report, field: value}), "a report")


class _Slow(FileBlobs):
    """Blobs of which one is opened slowly."""

    def __init__(self, folder: Path, slow: str) -> None:
        super().__init__(folder)
        self._slow, self.begun, self.go_on = slow, threading.Event(), threading.Event()

    def open(self, digest: str) -> memoryview:
        view = super().open(digest)
        if digest == self._slow:
            self.begun.set()
            self.go_on.wait(20)
        return view


def test_a_model_that_is_being_reported_outlives_the_pruning_of_an_equal_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, reports, first = await _begun(tmp_path)
        models = [_model(1.0), _model(3.0)]
        for index, model in enumerate(models):
            bench.blobs.put([model])
            await reports.step(first.run_id, _trained(index, index + 1, model))
        await reports.end(first.run_id, "finished", "2 rounds")
        digest = Blob(models[0]).digest
        slow = _Slow(tmp_path / "blobs", digest)
        late = Reports(bench.engine, bench.store, slow, lambda: bench.roster, lambda: None)
        equal = await late.begin(bench.plan(2), "anna:again", ORIGIN, "anna")
        reporting = asyncio.create_task(late.step(equal.run_id, _trained(0, 1, models[0])))
        await asyncio.to_thread(slow.begun.wait, 20)
        await bench.housekeeping.prune(first.run_id)
        slow.go_on.set()
        await reporting
        assert bench.blobs.has(digest)
        assert bench.engine.live(equal.run_id).row.run.model == digest
        await bench.stop()

    _run(scenario())
