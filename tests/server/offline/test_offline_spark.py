"""Offline over Spark: the bits of one process, whichever way contributions come back; and what Spark gives up has a name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from aimass.proto.errors import Unavailable
from aimass.proto.objects import open_objects
from aimass.proto.plan import EvaluateSettings
from aimass.proto.sharding import Split
from aimass.proto.step import StepKind
from aimass.server.offline.executors import Executors
from aimass.server.offline.site import CARRIED_BYTES
from aimass.server.offline.workers import Workers, _carried, open_crew
from aimass.server.simulation.crew import Crew
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.spark import _patient, anew, given_up
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on, told
from tests.support.simulations import heart_draft, shards_of
from tests.support.spark_cluster import executors, trainers

DRAFT = heart_draft(train='steps = 2\noptimizer = "adam"\nkeep_optimizer = true', rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
@pytest.mark.filterwarnings("default")
def test_over_spark_a_run_ends_in_the_bits_of_one_process_and_leaves_nothing_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=5, seed=3))
    store = f"file://{tmp_path}/store"
    registered(open_objects(store), "heart", shards)
    alone = gone_on(begun(f"file://{tmp_path}/one", DRAFT, store), tmp_path / "a")
    journal, work = begun(f"file://{tmp_path}/spark", DRAFT, store), tmp_path / "work"
    monkeypatch.setattr(Executors, "_fetch", lambda *_: pytest.fail("a model came to the driver"))
    run = gone_on(journal, work, workers=Workers(master="local[2]", carried_bytes=4096))  # sums of rows, and no models
    assert run.state == "finished", run.reason
    assert run.model == alone.model
    assert list(journal.objects.list("updates/")) == []
    assert list((tmp_path / "spark" / "updates").iterdir()), "models went by the store"
    assert [files for _, _, files in os.walk(work / "carried") if files] == []


class _Shot:
    """A crew in lockstep, one of whose executors is shot while its processes train."""

    def __init__(self, crew: Crew) -> None:
        self._crew, self.shot = crew, 0

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        over = threading.Event()
        thread = threading.Thread(target=self._shoot, args=(over,))
        thread.start()
        try:
            yield from self._crew.work(asked)
        finally:
            over.set()
            thread.join()

    def _shoot(self, over: threading.Event) -> None:
        while not over.wait(0.05):
            if len(trainers()) >= 2:
                os.kill(executors()[0], signal.SIGKILL)
                self.shot += 1
                return

    def reduced(self, index: int, made: Sequence[Made]) -> None:
        return None

    def close(self) -> None:
        self._crew.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
@pytest.mark.filterwarnings("default")
def test_processes_in_lockstep_make_one_model_of_all_shards_also_where_an_executor_is_shot(tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=3, seed=3))
    store = f"file://{tmp_path}/store"
    registered(open_objects(store), "heart", shards)
    draft = heart_draft(train="epochs = 20", rounds=1)
    draft = msgspec.structs.replace(draft, stages=draft.stages[1:], evaluate=EvaluateSettings(every=0))
    whole = begun(f"file://{tmp_path}/whole", draft, store, schedule="synchronous")
    model = gone_on(whole, tmp_path / "work", workers=Workers(master="local[2]")).model
    assert [(step.kind, step.counted, step.asked) for step in told(whole)] == [(StepKind.TRAIN, 1, 3)]
    assert model != whole.plan(whole.blobs()).model
    journal = begun(f"file://{tmp_path}/shot", draft, store, schedule="synchronous")
    shot = _Shot(open_crew(Workers(master="local-cluster[2,1,1024]"), journal, tmp_path / "far", 3, "synchronous"))
    run = gone_on(journal, tmp_path / "far", shot)
    assert run.state == "finished", run.reason
    assert shot.shot == 1
    assert run.model == model


LOST = "ExecutorLostFailure (executor 3 exited caused by one of the running tasks)"


@pytest.mark.parametrize(
    ("errors", "calls", "code"),
    [([LOST], 2, ""), ([LOST] * 4, 4, "spark.executor"), (["ValueError: no"], 1, "spark.job")],
)
def test_a_job_whose_process_was_lost_begins_anew_and_no_other_does(errors: list[str], calls: int, code: str) -> None:
    done: list[str] = []

    def job() -> str:
        done.append("begun")
        if len(done) <= len(errors):
            raise RuntimeError(errors[len(done) - 1])
        return "model"

    with pytest.raises(Unavailable) if code else contextlib.nullcontext() as told:
        assert anew(job) == "model"
    assert len(done) == calls
    assert told is None or told.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (LOST, "spark.executor"),
        ("org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)", "spark.worker"),
        ("org.apache.spark.SparkException: Job aborted\nValueError: no", "spark.job"),
    ],
)
def test_a_job_that_spark_gave_up_is_told_by_its_cause(text: str, code: str) -> None:
    error = given_up(RuntimeError(text))
    assert isinstance(error, Unavailable)
    assert error.code == code
    assert "resume" in error.cure


def test_contributions_go_back_with_answers_where_executors_do_not_see_the_driver_s_folder_alone() -> None:
    carried = [_carried(Workers(master=master), 4) for master in ("local", "local[*]", "local[2]")]
    assert carried == [0, 0, 0]
    assert _carried(Workers(master="local-cluster[2,1,1024]"), 4) == CARRIED_BYTES
    assert _carried(Workers(master="spark://a:1"), 1_000) < CARRIED_BYTES, "the driver takes so much at once"
    assert _carried(Workers(master="local[2]", carried_bytes=4096), 4) == 4096


def test_on_one_machine_a_task_is_tried_as_often_as_on_a_cluster() -> None:
    assert [_patient(master) for master in ("local", "local[2]", "local[*]")] == [
        "local[1,4]",
        "local[2,4]",
        "local[*,4]",
    ]
    assert [_patient(master) for master in ("local[2,1]", "spark://a:1", "local-cluster[2,1,1024]")] == [
        "local[2,1]",
        "spark://a:1",
        "local-cluster[2,1,1024]",
    ]
