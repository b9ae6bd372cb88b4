"""Offline over Spark: the bits of one process, whichever way contributions come back; and what Spark gives up has a name."""

from __future__ import annotations

import os
import shutil
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
from aimass.server.offline.workers import Workers, _carried
from aimass.server.simulation.spark import _patient, given_up
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on, told
from tests.support.simulations import heart_draft, shards_of

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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
@pytest.mark.filterwarnings("default")
def test_processes_in_lockstep_make_one_model_of_all_shards(tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=3, seed=3))
    store = f"file://{tmp_path}/store"
    registered(open_objects(store), "heart", shards)
    draft = msgspec.structs.replace(DRAFT, stages=DRAFT.stages[1:], evaluate=EvaluateSettings(every=0))
    journal = begun(f"file://{tmp_path}/out", draft, store, schedule="synchronous")
    run = gone_on(journal, tmp_path / "work", workers=Workers(master="local[2]"))
    assert run.state == "finished", run.reason
    assert [(step.kind, step.counted, step.asked) for step in told(journal)] == [(StepKind.TRAIN, 1, 3)]
    assert run.model != journal.plan(journal.blobs()).model


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ExecutorLostFailure (executor 3 exited caused by one of the running tasks)", "spark.executor"),
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
