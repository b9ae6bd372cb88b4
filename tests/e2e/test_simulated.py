"""One plan file, one folder of shards: real processes over mutual TLS, and a simulation, to the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scripts.demos.house import House

from aimass.proto.api import Federation
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView

PARTNERS = ("p0001", "p0002", "p0003", "p0004")
SPARING = ("p0001", "p0003")
"""They have models as differences, the others whole."""
PLAN = """
name = "both-ways"
task = "digits"
data_schema = "digits/1"
seed = 11
[train]
batch_size = 16
learning_rate = 0.01
epochs = 1
optimizer = "adam"
keep_optimizer = true
[evaluate]
every = 2
[cohort]
quorum = 3
sample = 3
[[stages]]
driver = "averaging"
options = { rounds = 5, algorithm = "fedadam", server_learning_rate = 0.02 }
"""
TOP = '[compress]\nsparsify = "top-k"\none_in = 8\nquantise = "int8"\n'
MASK = '[compress]\nsparsify = "random-mask"\none_in = 2\n'
SECURE = "[secure]\ncolluders = 0.0\nmax_weight = 1000\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("both")) as house:
        folder = house.folder
        house.deal("digits", "digits", "dirichlet:0.5", PARTNERS)
        for partner in PARTNERS:
            if partner in SPARING:
                with (folder / partner / "client.toml").open("a") as settings:
                    settings.write('[link]\ndifferences = "always"\n')
            house.start_partner(partner)
        (folder / "plan.toml").write_text(PLAN)
        (folder / "compressed.toml").write_text(PLAN + TOP)
        (folder / "secure.toml").write_text(PLAN + SECURE + MASK)
        yield house


def live(house: House, plan: str) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / plan).wait()
        assert view.summary.state == "finished", view.summary.reason
        federation.export(view.summary.model, house.folder / f"{plan}.safetensors")
    return view


def simulated(house: House, plan: str, *more: str) -> tuple[str, list[dict[str, object]]]:
    out = f"simulated-{plan}-{len(more)}"
    told = house.run("simulate", plan, "--shards", "shards", "--out", out, *more)
    assert told["state"] == "finished", told["reason"]
    lines = (house.folder / out / "rounds.jsonl").read_text().splitlines()
    return told["model"], [json.loads(line) for line in lines]


def weights(path: Path) -> np.ndarray:
    arrays = Blob(path.read_bytes()).arrays()
    return np.concatenate([array.reshape(-1) for _, array in sorted(arrays.items())])


@pytest.mark.parametrize("plan", ["plan.toml", "compressed.toml"])
def test_live_and_simulated_runs_of_one_plan_end_in_the_same_bits_with_the_same_cohorts(
    house: House, plan: str
) -> None:
    view = live(house, plan)
    model, steps = simulated(house, plan, "--workers", "1")
    assert model == view.summary.model
    assert [(step["kind"], step["round"], step["model"]) for step in steps] == [
        (step.kind, step.round, step.model) for step in view.steps
    ]
    for told, step in zip(steps, view.steps, strict=True):
        assert told["metrics"] == {name: metric.mean for name, metric in step.metrics.items()}
    assert 0 < view.moved.spared < view.moved.down
    shown = house.run("run", "show", view.summary.run_id, "--as", "scientist")
    assert shown["moved"] == {"down": view.moved.down, "up": view.moved.up, "spared": view.moved.spared}
    cohorts = [frozenset(step.slots) for step in view.steps if step.kind == "train"]
    assert len(set(cohorts)) > 1, "the sampling chose others in some round"
    if plan == "plan.toml":
        assert simulated(house, plan, "--workers", "2", "--quiet")[0] == model


def test_a_secure_run_and_its_simulation_differ_by_their_rounding_alone(house: House) -> None:
    view = live(house, "secure.toml")
    simulated(house, "secure.toml", "--workers", "1")
    ours = weights(house.folder / "simulated-secure.toml-2" / "model.safetensors")
    plain = weights(house.folder / "plan.toml.safetensors")
    theirs = weights(house.folder / "secure.toml.safetensors")
    assert {slot for step in view.steps for slot in step.slots.values()} == {"counted"}
    # A server's Adam takes a whole step also where an update is hardly more than its rounding: few weights are apart more.
    assert np.quantile(np.abs(ours - theirs), 0.99) < 2e-2
    assert np.abs(ours - theirs).mean() < 0.05 * np.abs(plain - plain.mean()).mean()
