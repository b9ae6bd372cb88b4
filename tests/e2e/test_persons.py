"""Clinics whose patients have several rows, as real processes: persons are protected whole, or the plan is declined."""

from __future__ import annotations

from collections.abc import Iterator

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from scripts.demos.house import House

from aimass.proto.api import Federation
from aimass.proto.task import locate
from aimass.proto.views import RunView
from tests.support.patients import visits

PARTNERS = ("north", "south")
PLAN = """
name = "persons"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 16
learning_rate = 0.03
steps = 5
weight = "one"
[privacy]
{unit}
noise_multiplier = 2.0
clip = 1.0
sampling_rate = 0.1
divisor = 10.0
delta = {delta}
[cohort]
quorum = 2
step_deadline_s = 300.0
[[stages]]
driver = "averaging"
options = {{ rounds = 2 }}
"""
BY_PERSON = 'unit = "person"\nrows_per_person = 4'
BUDGET = '\n[[budgets]]\ndata_set = "heart"\nepsilon = 3.0\ndelta = 1e-3\nunit = "person"\n'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("persons")
    with House(folder) as house:
        house.found(PARTNERS)
        for number, name in enumerate(PARTNERS):
            counts = np.random.default_rng(number).integers(1, 10, 120).tolist()
            (folder / f"{name}.csv").write_text(visits(counts, seed=number))
            house.permit(name, "heart", locate("heart").digest)
            house.run(
                "client", "data", "add", "heart", "--dir", name, "--schema", "heart/1", "--uri",
                str(folder / f"{name}.csv"), "--format", "csv", "--person", "patient",
            )  # fmt: skip
            policy = folder / name / "policy.toml"
            policy.write_text(policy.read_text() + BUDGET)
            house.start_partner(name)
        yield house


def run(house: House, unit: str, delta: float = 1e-3) -> RunView:
    (house.folder / "plan.toml").write_text(PLAN.format(unit=unit, delta=delta))
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(house.folder / "plan.toml").wait()


def spent(house: House, partner: str) -> float:
    (told,) = house.run("client", "budget", "--dir", partner)
    (budget,) = told["budgets"]
    assert budget["each"] == "person"
    return float(budget["spent"])


def test_a_budget_for_persons_is_spent_by_plans_for_persons_alone(house: House) -> None:
    view = run(house, BY_PERSON)
    assert view.summary.state == "finished", view.summary.reason
    accountant = PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(2.0 * 0.999))
    accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, 10))
    for partner in PARTNERS:
        assert spent(house, partner) == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-3)
        journal = house.run("client", "journal", "--dir", partner)
        told = [line["mechanisms"][0] for line in journal if line["kind"] == "train"]
        assert told == ["DP-SGD (persons of 4 rows at most, noise 2, clip 1, rate 0.1, 5 steps)"] * 2
        shown = str(house.run("client", "show", "last", "--dir", partner)["server"])
        assert "whether one person was trained on" in shown
    before = [spent(house, partner) for partner in PARTNERS]
    for unit, delta, code in (("", 1e-3, "policy.privacy"), (BY_PERSON, 0.02, "dp.delta")):
        declined = run(house, unit, delta)
        assert declined.summary.state == "failed"
        assert code in declined.summary.reason
    assert [spent(house, partner) for partner in PARTNERS] == before


def test_without_a_column_of_persons_a_plan_for_them_is_declined_with_what_cures_it(house: House) -> None:
    for partner in PARTNERS:
        house.kill(partner)
        manifest = house.folder / partner / "data" / "heart.toml"
        manifest.write_text(manifest.read_text().replace('person = "patient"', ""))
        house.start_partner(partner)
    declined = run(house, BY_PERSON)
    assert declined.summary.state == "failed"
    assert "private.persons" in declined.summary.reason
    assert "does not say whose its rows are" in declined.summary.reason
