"""Steps that overlap, between real processes: a slow partner keeps nobody waiting, through kills and with secure sums."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from scripts.demos.house import House

from aimass.client.shards import open_shard
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.api import Federation, Run
from aimass.proto.contribution import Contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.sharding import load_shards, manifest_of
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView, StepView
from aimass.server.aggregation.models import ModelStore
from aimass.server.audit_steps import read_bodies
from aimass.server.store import Store
from tests.support.replay import replayed

PARTNERS = ("p0001", "p0002", "p0003", "p0004", "p0005", "p0006")
SLOW = "p0004"
PLAN = """
name = "flowing"
task = "heart"
data_schema = "heart/1"
seed = 11
[train]
batch_size = 16
learning_rate = 0.05
epochs = 1
[evaluate]
every = 10
[cohort]
quorum = 3
[[stages]]
driver = "fedbuff"
options = { rounds = 40, buffer = 3, max_staleness = 60, algorithm = "fedavgm", server_momentum = 0.3 }
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECURE = "[secure]\nmin_cohort = 3\ncolluders = 0.0\nmax_weight = 512\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("flowing")) as house:
        folder = house.folder
        house.deal("heart", "heart", "iid", PARTNERS)
        for partner in PARTNERS:
            house.start_partner(partner)
        (folder / "plan.toml").write_text(PLAN)
        (folder / "secure.toml").write_text(PLAN + SECURE)
        yield house


def until(run: Run, holds: Callable[[RunView], bool]) -> RunView:
    for view in run.watch():
        if holds(view):
            return view
    raise AssertionError(f"the run ended first: {run.view.summary.reason}")


def worked(view: RunView, partner: str) -> list[StepView]:
    return [step for step in view.steps if step.state == "committed" and step.slots.get(partner) == "counted"]


def told_again(house: House, view: RunView) -> str:
    """The model that the history comes to with what partners' own trainer makes of their shards."""
    folder, shards = house.folder, load_shards(house.folder / "shards").shards
    blobs = FileBlobs(folder / "told-again")
    blobs.put([first_model(task, view.plan.seed)])
    opened = {}
    for shard in shards:
        with (folder / "shards" / shard.partner / "heart.parquet").open("rb") as file:
            opened[shard.partner] = open_shard(task.schema, manifest_of(folder / "shards", shard.partner), [file])[0]
    store = Store.open(folder / "server" / "data" / "runs.sqlite", UNINTERRUPTED)
    bodies = read_bodies(store.transcript(view.summary.run_id), [])
    store.close()
    trainee, plan = Trainee(task), view.plan

    def give(step: Step, partner: str) -> Contribution:
        inputs = [Blob(blobs.open(step.inputs[0]))]
        return trainee.do(order_of(plan, step, opened[partner].participant), opened[partner], inputs, b"").contribution

    participants = {shard.partner: shard.participant for shard in shards}
    return replayed(plan, participants, bodies, ModelStore(blobs), give)


def test_a_partner_that_stands_still_keeps_nobody_waiting_and_kills_change_no_bit_of_the_history(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "plan.toml")
        until(run, lambda view: any(step.slots.get(SLOW) == "asked" for step in view.steps))
        os.kill(house.pid(SLOW), signal.SIGSTOP)
        try:
            before = len(worked(until(run, lambda view: view.summary.round >= 4), SLOW))
            for name in ("server", "p0002"):
                house.kill(name)
            house.start_server()
            house.start_partner("p0002")
            until(run, lambda view: view.summary.round >= before + 12)
        finally:
            os.kill(house.pid(SLOW), signal.SIGCONT)
        view = run.wait()
        assert view.summary.state == "finished", view.summary.reason
    late = [step for step in worked(view, SLOW) if step.kind == "train"][before]
    assert late.committed_at is not None
    made = [step.committed_at for step in view.steps if step.model and step.committed_at is not None]
    meanwhile = [at for at in made if late.opened_at < at < late.committed_at]
    assert len(meanwhile) >= 3, "it was three versions behind, and counted"
    audit = house.run("server", "audit", run.id[:8], "--dir", "server")
    assert audit["faults"] == []
    house.stop("server")
    assert told_again(house, view) == view.summary.model
    house.start_server()


def test_secure_cohorts_overlap_and_one_that_waits_for_a_partner_keeps_no_other_waiting(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "secure.toml")
        view = until(run, lambda view: any(step.slots.get(SLOW) == "asked" for step in view.steps))
        os.kill(house.pid(SLOW), signal.SIGSTOP)
        try:
            view = until(run, lambda view: view.summary.round >= 4)
        finally:
            os.kill(house.pid(SLOW), signal.SIGCONT)
        view = run.wait()
        assert view.summary.state == "finished", view.summary.reason
    trained = [step for step in view.steps if step.kind == "train" and step.state == "committed"]
    assert all(sum(state == "counted" for state in step.slots.values()) >= 3 for step in trained)
    order = [step.index for step in sorted(trained, key=lambda step: step.committed_at or 0.0)]
    assert order != sorted(order)
    audit = house.run("server", "audit", run.id[:8], "--dir", "server")
    assert audit["faults"] == []
