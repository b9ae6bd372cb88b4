"""Six hospitals whose noise inside secure sums is debited for each of them, as real processes: as much as is said."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scripts.demos.house import House

from aimass.privacy.secagg.rounds import noise_of
from aimass.proto.api import Federation
from aimass.proto.plan import DistributedNoise, SecureSettings
from aimass.proto.task import locate
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from tests.support.datasets import dataset

HOSPITALS = ("cleveland", "hungarian", "long-beach", "switzerland", "cleveland", "hungarian")
PARTNERS = tuple(f"h{number}" for number in range(6))
MULTIPLIER, CLIP, LEAST, SHARES, DELTA = 4.0, 8.0, 5, 4, 1e-3
PLAN = """
name = "noised"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 32
learning_rate = 0.03
steps = 4
weight = "one"
[evaluate]
every = 0
[cohort]
quorum = 5
step_deadline_s = 20.0
connected = true
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
[secure]
min_cohort = 5
colluders = 0.1
dropouts = 0.2
phase_s = 20.0
clip = 8.0
"""
NOISE = """
[secure.noise]
multiplier = 4.0
clip = 8.0
delta = 1e-3
members = 6
"""
BUDGET = """
[[budgets]]
data_set = "heart"
unit = "partner"
epsilon = 3.0
delta = 1e-3
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, rows = tmp_path_factory.mktemp("noised"), dataset("heart")
    with House(folder) as house:
        house.found(PARTNERS)
        for name, hospital in zip(PARTNERS, HOSPITALS, strict=True):
            house.permit(name, "heart", locate("heart").digest, secure=True)
            salt = hashlib.sha256(name.encode()).hexdigest()
            house.run(
                "client", "data", "add", "heart", "--dir", name, "--schema", "heart/1", "--uri",
                str(rows / f"{hospital}.parquet"), "--format", "parquet", "--salt", salt,
            )  # fmt: skip
            house.start_partner(name)
        yield house


def ended(house: House, plan: str) -> RunView:
    (house.folder / "plan.toml").write_text(plan)
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(house.folder / "plan.toml").wait()


def moved(house: House, view: RunView) -> np.ndarray:
    """The model that a run came to, all trained elements."""
    assert view.summary.state == "finished", view.summary.reason
    target = house.folder / f"{view.summary.run_id}.safetensors"
    with Federation.open(house.folder / "scientist") as federation:
        federation.export(view.summary.model, target)
    arrays = Blob(target.read_bytes()).arrays()
    return np.concatenate([array.reshape(-1) for name, array in sorted(arrays.items()) if "preprocess" not in name])


def epsilon(rounds: int) -> float:
    """By the library itself, from what the plan says: so many Gaussians with the noise that any sum has at least."""
    accountant = rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(MULTIPLIER), rounds)
    return float(accountant.get_epsilon(DELTA))


def spent(house: House, partner: str) -> float:
    (told,) = house.run("client", "budget", "--dir", partner)
    assert told["budgets"][0]["each"] == "partner"
    return float(told["budgets"][0]["spent"])


def test_sums_carry_the_noise_that_is_debited_and_a_run_ends_at_the_budget(house: House) -> None:
    plain = moved(house, ended(house, PLAN.format(rounds=1)))
    for partner in PARTNERS:
        policy = house.folder / partner / "policy.toml"
        policy.write_text(policy.read_text() + BUDGET)
    bare = ended(house, PLAN.format(rounds=1))
    assert "policy.privacy" in bare.summary.reason
    noised = ended(house, PLAN.format(rounds=1) + NOISE)

    # No update is longer than the clip, so the models differ by the noise of the mean alone: z C sqrt(n / n_eff) / n.
    errors = moved(house, noised).astype(np.float64) - plain
    deviation = MULTIPLIER * CLIP * math.sqrt(len(PARTNERS) / SHARES) / len(PARTNERS)
    statistic = float(errors @ errors) / deviation**2
    assert statistic == pytest.approx(len(errors), abs=5 * math.sqrt(2 * len(errors)))
    noise = noise_of(
        SecureSettings(
            min_cohort=LEAST, noise=DistributedNoise(multiplier=MULTIPLIER, clip=CLIP, delta=DELTA, members=6)
        ),
        len(errors),
    )
    assert noise is not None
    assert noise.setting.circle.shares == SHARES

    for partner in PARTNERS:
        assert spent(house, partner) == pytest.approx(epsilon(1), abs=1e-3)
        (line,) = [json.loads(text) for text in (house.folder / partner / "journal.jsonl").read_text().splitlines()][1:]
        assert line["mechanisms"][0] == "distributed discrete Gaussian noise (z 4, clip 8, at least 4 shares)"
    (price,) = house.run("client", "budget", "--dir", "h0", "--plan", "plan.toml")[0]["plan"]
    fits = price["rounds_that_fit"]
    assert epsilon(1 + fits) <= 3.0 < epsilon(2 + fits)
    refused = ended(house, PLAN.format(rounds=fits + 1) + NOISE)
    assert refused.summary.state == "failed"
    assert "ledger.E_BUDGET" in refused.summary.reason
    assert spent(house, "h0") == pytest.approx(epsilon(1), abs=1e-3)


@pytest.mark.slow
def test_a_partner_that_is_killed_takes_its_noise_along_and_the_rest_go_on(house: House) -> None:
    """Five are enough for the noise; whoever is killed has spent what it had reserved, and comes back to that."""
    (house.folder / "plan.toml").write_text(PLAN.format(rounds=4) + NOISE)
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "plan.toml")
        for seen in run.watch():
            if seen.steps:
                break
    house.kill("h5")
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run(run.id).wait()
    assert view.summary.state == "finished", view.summary.reason
    house.start_partner("h5")
    for partner in PARTNERS[:5]:
        assert spent(house, partner) == pytest.approx(epsilon(5), abs=1e-3)
    assert "h5" not in {name for name, slot in view.steps[-1].slots.items() if slot == "counted"}
    assert epsilon(1) - 1e-3 <= spent(house, "h5") < epsilon(5) - 1e-3
