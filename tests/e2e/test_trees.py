"""Boosted trees between real processes over mutual TLS, in secret: to the bits of a simulation whose sums are plain."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import xgboost
from scripts.demos.house import House

from aimass.client.tasks.heart import trees as heart
from aimass.proto.api import Federation
from aimass.proto.rows import encode, read_table, require
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import features, margins
from aimass.proto.tree_text import described, text_of
from aimass.proto.trees import decode
from tests.support.boosters import matrix_of
from tests.support.datasets import dataset

PARTNERS = ("p0001", "p0002", "p0003")
PLAN = """
name = "grove"
task = "heart-trees"
data_schema = "heart/1"
seed = 11
[train]
batch_size = 1
learning_rate = 0.3
steps = 1
[evaluate]
every = 2
[cohort]
quorum = 3
[[stages]]
driver = "trees"
options = { rounds = 2, depth = 3, bins = 16, grid = 256, subsample = 0.8 }
"""
SECURE = "[secure]\ncolluders = 0.0\nmax_weight = 1000\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("grove")) as house:
        folder = house.folder
        house.deal("heart", "heart-trees", "iid", PARTNERS)
        for partner in PARTNERS:
            policy = folder / partner / "policy.toml"
            policy.write_text(policy.read_text().replace('analyses = ["statistics"]', 'analyses = ["trees"]'))
            house.start_partner(partner)
        (folder / "plain.toml").write_text(PLAN)
        (folder / "secure.toml").write_text(PLAN + SECURE)
        yield house


def test_a_secure_run_of_real_processes_grows_the_trees_of_a_plain_simulation_to_the_last_bit(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "secure.toml").wait()
        assert view.summary.state == "finished", view.summary.reason
        federation.export(view.summary.model, house.folder / "grove.safetensors")
    told = house.run("simulate", "plain.toml", "--shards", "shards", "--out", "simulated", "--workers", "1")
    assert told["state"] == "finished", told["reason"]
    assert told["model"] == view.summary.model
    assert len(decode(Blob((house.folder / "grove.safetensors").read_bytes())).trees) == 2
    assert [(step.kind, step.purpose, step.round) for step in view.steps] == [
        ("analyse", "trees", 0), *[("analyse", "trees", 1)] * 3, *[("analyse", "trees", 2)] * 3, ("evaluate", "", 2)
    ]  # fmt: skip
    lines = [json.loads(line) for line in (house.folder / "simulated" / "rounds.jsonl").read_text().splitlines()]
    assert lines[-1]["metrics"]["auc"] == pytest.approx(view.steps[-1].metrics["auc"].mean, abs=1e-6)
    assert {slot for step in view.steps for slot in step.slots.values()} == {"counted"}


def test_the_trees_leave_for_xgboost_and_for_people_by_the_names_of_their_columns(house: House) -> None:
    for form, name in (("xgboost", "grove.json"), ("text", "grove.txt")):
        told = house.run("model", "export", "last", name, "--format", form, "--as", "scientist")
        assert told["bytes"] == (house.folder / name).stat().st_size
    ensemble = decode(Blob((house.folder / "grove.safetensors").read_bytes()))
    booster = xgboost.Booster(model_file=house.folder / "grove.json")
    with (dataset("heart") / "cleveland.parquet").open("rb") as file:
        rows = features(encode(require(read_table(heart.schema, [file], "parquet"))))
    ours, theirs = margins(ensemble, rows)[:, 0], booster.predict(matrix_of(heart.schema, rows), output_margin=True)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)
    assert (house.folder / "grove.txt").read_text() == text_of(described(ensemble, heart.schema))
