"""One plan over the same shards: at partners in real processes, offline in processes and on Spark, and as a plain loop;
all end in the same bits, also where an executor is shot in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.demos.house import House
from scripts.demos.processes import family

from aimass.client.shards import open_shard
from aimass.proto.api import Federation
from aimass.proto.plan import read_plan_draft
from aimass.proto.sharding import load_shards, manifest_of
from aimass.proto.storage import FileBlobs
from aimass.proto.task import load, locate
from aimass.server.simulate import simulate
from aimass.server.simulation.begin import completed

PLAN = """
name = "everywhere"
task = "digits"
data_schema = "digits/1"
seed = 11
[train]
batch_size = 16
learning_rate = 0.01
epochs = 2
optimizer = "adam"
keep_optimizer = true
[evaluate]
every = 2
[cohort]
quorum = 3
[[stages]]
driver = "averaging"
options = { rounds = 4, algorithm = "fedadam", server_learning_rate = 0.02 }
"""
EXECUTOR = "CoarseGrainedExecutorBackend"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Digits cut into three shards of a store, exported to three partners whose daemons run."""
    with House(tmp_path_factory.mktemp("parity")) as house:
        (house.folder / "plan.toml").write_text(PLAN)
        store = f"file://{house.folder}/store"
        house.run("data", "split", "digits", "digits", "--task", "digits", "--split", "stratified:3", "--store", store)
        house.run("data", "export", "digits@1", "all", "exported", "--store", store)
        house.hold("digits", "digits", house.folder / "exported")
        for shard in load_shards(house.folder / "exported").shards:
            house.start_partner(shard.partner)
        yield house


@pytest.fixture(scope="module")
def federated(house: House) -> str:
    """The id of the federated run, which has finished."""
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "plan.toml").wait()
    assert view.summary.state == "finished", view.summary.reason
    return view.summary.run_id


def offline(house: House, out: str, *workers: str) -> list[str]:
    folder = house.folder
    stores = ["--data", "digits", "--store", f"file://{folder}/store", "--out", f"file://{folder}/{out}"]
    return ["offline", "run", "plan.toml", *stores, "--work", f"work-{out}", *workers]


def compared(house: House, first: str, second: str) -> dict[str, object]:
    """What `aimass offline compare` says of two runs that came to the same bits."""
    found = house.run("offline", "compare", first, second, "--as", "scientist")
    assert isinstance(found, dict)
    return found


def plain_loop(house: House) -> str:
    """The model of the plan in a loop without server, daemons, stores and processes."""
    task = load(locate("digits"))
    blobs = FileBlobs(house.folder / "plain")
    plan = completed(read_plan_draft(PLAN, "the plan"), blobs)
    shards = []
    for record in load_shards(house.folder / "exported").shards:
        manifest = manifest_of(house.folder / "exported", record.partner)
        with (house.folder / "exported" / record.partner / "digits.parquet").open("rb") as rows:
            shards.append(open_shard(task.schema, manifest, [rows])[0])
    return simulate(plan, task, shards, blobs).model


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_federated_run_one_in_processes_and_a_plain_loop_are_the_same_to_the_last_bit(
    house: House, federated: str
) -> None:
    told = house.run(*offline(house, "processes", "--workers", "2"))
    found = compared(house, federated, f"file://{house.folder}/processes")
    assert found["equal"]
    assert found["steps"] == 6
    assert told["model"] == plain_loop(house)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
def test_on_a_cluster_an_executor_that_is_shot_in_the_middle_changes_nothing(house: House, federated: str) -> None:
    command = offline(house, "cluster", "--master", "local-cluster[2,1,1024]")
    process = subprocess.Popen(
        [sys.executable, "-m", "aimass.proto.commands", *command],
        cwd=house.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in iter(process.stderr.readline, ""):
        if line.startswith("round 1/"):
            break
    shot = [pid for pid in family(process.pid) if EXECUTOR in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(shot[0], signal.SIGKILL)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert len(shot) == 2
    assert compared(house, federated, f"file://{house.folder}/cluster")["equal"]
