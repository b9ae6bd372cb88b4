"""Partners with two ranks, little memory, bfloat16: in one run as in one process; own layers and models stay with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.tasks.digits import task
from aimass.proto.api import Federation
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model, locate
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from aimass.server.simulate import simulate
from tests.support.datasets import dataset

CHILDREN = {"east": "ranks = 2", "north": "batch_rows = 9", "west": "mixed_precision = true"}
PLAN = """
name = "mixed"
task = "digits"
data_schema = "digits/1"
seed = 3
[train]
batch_size = 40
learning_rate = 0.05
epochs = 1
{train}
[cohort]
quorum = 3
{secure}
[[stages]]
driver = "averaging"
options = {{ rounds = 2 }}
{last}
"""
PERSONAL = '[[stages]]\ndriver = "personal"\noptions = { epochs = 3 }'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    rows = pq.read_table(dataset("digits") / "digits.parquet")
    with House(folder) as house:
        house.found(list(CHILDREN))
        for place, (name, child) in enumerate(CHILDREN.items()):
            pq.write_table(rows.slice(place * 200, 200), folder / f"{name}.parquet")
            house.permit(name, "digits", locate("digits").digest, ["accuracy"] if name == "west" else [])
            house.run(
                "client", "data", "add", "digits", "--dir", name, "--schema", "digits/1", "--uri",
                str(folder / f"{name}.parquet"), "--format", "parquet",
            )  # fmt: skip
            with (folder / name / "client.toml").open("a") as settings:
                settings.write(f"\n[child]\n{child}\n")
            house.start_partner(name)
        yield house


def federated(house: House, train: str = "", secure: str = "", last: str = "") -> RunView:
    (house.folder / "plan.toml").write_text(PLAN.format(train=train, secure=secure, last=last))
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "plan.toml").wait()
        assert view.summary.state == "finished", view.summary.reason
        federation.export(view.summary.model, house.folder / "model.safetensors")
    return view


def test_partners_of_different_means_train_the_model_of_one_process_up_to_rounding(house: House) -> None:
    view = federated(house)
    blobs = FileBlobs(house.folder / "simulated")
    start = Blob(blobs.open(blobs.put([first_model(task, 3)])))
    alike = simulate(view.plan, task, read_shards(house.folder, list(CHILDREN), task, data_set="digits"), blobs).model
    found, expected = Blob((house.folder / "model.safetensors").read_bytes()), Blob(blobs.open(alike))
    assert view.summary.model != alike
    for name in expected.layout.by_name:
        moved = np.abs(expected.numpy(name) - start.numpy(name)).max()
        assert np.abs(found.numpy(name) - expected.numpy(name)).max() < 1e-3 * moved
    devices = {each.partner: each.device for each in view.participants}
    assert devices["east"].startswith("2 x ")
    assert "9 rows at once" in devices["north"]
    assert "bfloat16" in devices["west"]
    levels = {each.confinement for each in view.participants}
    assert len(levels) == 1  # two children are as confined as one


def test_own_layers_and_personal_models_stay_under_secure_sums_whatever_partners_compute_with(house: House) -> None:
    start = Blob(first_model(task, 3))
    view = federated(
        house, 'keep_local = ["output.*"]\nmixed_precision = true', "[secure]\nmax_weight = 200\nclip = 1.0", PERSONAL
    )
    model = Blob((house.folder / "model.safetensors").read_bytes())
    for name in start.layout.by_name:
        assert bool((model.numpy(name) == start.numpy(name)).all()) == name.startswith("output.")
    for partner in CHILDREN:
        (folder,) = (house.folder / partner / "state" / "runs").glob(f"*{view.summary.run_id}*")
        kept = Blob((folder / "local-state.safetensors").read_bytes())
        assert set(kept.layout.by_name) == {"own/output.weight", "own/output.bias"}
        lines = [
            line for line in house.run("client", "journal", "--dir", partner) if line["run_id"] == view.summary.run_id
        ]
        assert [line["tensors"] for line in lines if line["kind"] == "train"] == [len(start.layout.by_name) - 2] * 2
    before, after = view.steps[-2:]
    assert [before.purpose, after.purpose] == ["before", "personal"]
    assert before.metrics["accuracy"].mean < after.metrics["accuracy"].mean
    assert set(after.metrics["accuracy"].by_partner) == {"west"}  # whose policy releases it
    for partner in CHILDREN:
        (mine,) = house.run("client", "model", "list", "--dir", partner)
        assert (mine["run_id"], mine["base"]) == (view.summary.run_id, view.summary.model)
        assert set(mine["before"]) == set(mine["after"]) == {"accuracy", "loss"}
        house.run("client", "model", "export", "last", "mine.safetensors", "--dir", partner)
        exported = (house.folder / "mine.safetensors").read_bytes()
        tuned = Blob(exported)
        assert tuned.digest == mine["digest"]
        assert (tuned.numpy("output.weight") != start.numpy("output.weight")).any()
        last = house.run("client", "journal", "--dir", partner)[-1]
        assert (last["kind"], last["tensors"], last["metrics"]) == ("evaluate:personal", 0, ["accuracy", "loss"])
        assert last["figures"] == (["accuracy"] if partner == "west" else [])
        assert not [path for path in (house.folder / "server").rglob("*") if mine["digest"] in path.name]
