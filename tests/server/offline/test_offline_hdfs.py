"""An offline run whose shards and rounds are on HDFS: the bits of one on local files, through whatever the cluster does."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on, told
from tests.support.simulations import heart_draft, shards_of
from tests.support.webhdfs.faults import Fault, Kind
from tests.support.webhdfs.server import Cluster

PLAN = heart_draft(train="steps = 2")
FAULTS = (
    Fault("RENAME", Kind.LOST),
    Fault("CREATE", Kind.SHORT, data=True, at_byte=100),
    Fault("OPEN", Kind.CUT),
)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return shards_of(tmp_path / "shards", "heart", Split(rule="iid", argument="", partners=3, seed=2, smallest=10))


def test_a_run_on_hdfs_goes_on_through_failover_and_lost_answers_to_the_same_bits(tmp_path: Path, shards: Path) -> None:
    registered(open_objects(f"file://{tmp_path}/store"), "heart", shards)
    local = begun(f"file://{tmp_path}/out", PLAN, f"file://{tmp_path}/store")
    model = gone_on(local, tmp_path / "local").model
    with Cluster(2) as cluster:
        registered(open_objects(f"{cluster.url}data"), "heart", shards)
        journal = begun(f"{cluster.url}runs/one", PLAN, f"{cluster.url}data")
        steps = 0

        def fail_over(_: object) -> None:
            nonlocal steps
            steps += 1
            cluster.active = steps % 2
            waiting = cluster.faults.left  # one of each: more in a row than a store is asked again would be its end
            cluster.faults.add(*(fault for fault in FAULTS if fault not in waiting))

        run = gone_on(journal, tmp_path / "work", after=fail_over)
        assert run.state == "finished", run.reason
        assert run.model == model
        assert steps >= 2
        assert [(step.index, step.metrics) for step in told(journal)] == [
            (step.index, step.metrics) for step in told(local)
        ]
        assert journal.blobs().has(model)
