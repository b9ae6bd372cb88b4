"""Reports to the training service: in order, once, beside the training, and later where there is no way to it now."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.errors import Refused, Unavailable
from aimass.proto.reports import StepReport
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import encode_numpy
from aimass.proto.views import RunState, SlotState
from aimass.server.offline.reporter import Reporter, report_of
from aimass.server.simulation.folder import Committed


class Heard:
    """A record that keeps what it was told; there is a way to it once `reachable` is set."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.steps: list[tuple[int, bytes]] = []
        self.ends: list[RunState] = []
        self.reachable, self.tried = threading.Event(), threading.Event()
        if reachable:
            self.reachable.set()

    def begin(self) -> Heard:
        self.tried.set()
        if not self.reachable.is_set():
            raise Unavailable("nobody answers", code="link.broken")
        return self

    def step(self, report: StepReport, model: bytes | memoryview = b"") -> None:
        assert report.sent == bool(model)
        assert report.model
        self.steps.append((report.index, bytes(model)))

    def end(self, state: RunState, reason: str) -> None:
        self.ends.append(state)


def _models(folder: Path, count: int) -> tuple[FileBlobs, list[str]]:
    blobs = FileBlobs(folder)
    return blobs, [blobs.put([encode_numpy({"w": np.full(2, value, np.float32)})]) for value in range(count)]


def _trained(index: int, model: str) -> Committed:
    return Committed(index=index, kind=StepKind.TRAIN, round=index + 1, asked=3, counted=3, seconds=1.0, model=model)


def test_steps_are_told_in_order_with_their_models_and_the_end_comes_last(tmp_path: Path) -> None:
    blobs, digests = _models(tmp_path, 3)
    heard = Heard()
    reporter = Reporter(heard.begin, [_trained(0, digests[0])], blobs, lambda _: None)
    for index in (1, 2):
        reporter.committed(_trained(index, digests[index]))
    assert reporter.ended(RunState.FINISHED, "3 rounds", 10)
    assert heard.steps == [(index, bytes(blobs.open(digest))) for index, digest in enumerate(digests)]
    assert heard.ends == [RunState.FINISHED]


def test_a_service_that_is_away_hears_later_of_every_step_and_holds_no_more_models_than_a_few(tmp_path: Path) -> None:
    blobs, digests = _models(tmp_path, 7)
    heard, said = Heard(reachable=False), list[str]()
    reporter = Reporter(heard.begin, [], blobs, said.append, retry_s=0.01)
    for index, digest in enumerate(digests):
        reporter.committed(_trained(index, digest))
    assert heard.tried.wait(10)
    heard.reachable.set()
    assert reporter.ended(RunState.FINISHED, "7 rounds", 10)
    assert [index for index, _ in heard.steps] == list(range(7))
    assert [bool(model) for _, model in heard.steps] == [False] * 3 + [True] * 4
    assert len(said) == 1, "it is said once"


def test_a_run_whose_service_stays_away_ends_all_the_same_and_says_that_it_was_not_told(tmp_path: Path) -> None:
    blobs, (digest,) = _models(tmp_path, 1)
    heard = Heard(reachable=False)
    reporter = Reporter(heard.begin, [_trained(0, digest)], blobs, lambda _: None, retry_s=0.01)
    assert not reporter.ended(RunState.FINISHED, "1 round", 0.05)
    assert heard.steps == []


def test_a_service_that_refuses_is_asked_no_more(tmp_path: Path) -> None:
    blobs, (digest,) = _models(tmp_path, 1)
    said = list[str]()

    def begin() -> Heard:
        raise Refused("not yours", code="run.not_yours")

    reporter = Reporter(begin, [_trained(0, digest)], blobs, said.append)
    assert not reporter.ended(RunState.FINISHED, "1 round", 10)
    assert reporter.refused is not None
    assert len(said) == 1


def test_models_of_a_run_that_goes_on_are_told_as_far_as_they_are_kept(tmp_path: Path) -> None:
    blobs, digests = _models(tmp_path, 2)
    blobs.delete(digests[0])
    heard = Heard()
    steps = [_trained(index, digest) for index, digest in enumerate(digests)]
    assert Reporter(heard.begin, steps, blobs, lambda _: None).ended(RunState.FINISHED, "", 10)
    assert [bool(model) for _, model in heard.steps] == [False, True]


def test_a_report_names_shards_that_failed_and_leaves_out_metrics_without_a_number() -> None:
    step = Committed(
        index=1, kind=StepKind.EVALUATE, round=1, asked=2, counted=1, seconds=1.0,
        metrics={"loss": 0.5, "auc": float("nan")}, weights={"loss": 10.0, "auc": 0.0}, failed={"p000002": "rows.schema"},
    )  # fmt: skip
    report = report_of(step)
    assert set(report.metrics) == {"loss"}
    assert report.metrics["loss"].weight == 10.0
    assert report.slots == {"p000002": SlotState.FAILED}
    assert report.reasons == {"p000002": "rows.schema"}


def test_a_run_that_stops_here_leaves_no_thread_behind(tmp_path: Path) -> None:
    blobs, _ = _models(tmp_path, 0)
    reporter = Reporter(Heard().begin, [], blobs, lambda _: None)
    reporter.close()
    reporter._thread.join(10)
    assert not reporter._thread.is_alive()


@pytest.mark.parametrize("metric", [float("inf"), float("nan")])
def test_no_report_holds_what_json_cannot_say(metric: float) -> None:
    step = Committed(
        index=0, kind=StepKind.EVALUATE, round=1, asked=1, counted=1, seconds=0.0, metrics={"loss": metric}
    )
    assert report_of(step).metrics == {}
