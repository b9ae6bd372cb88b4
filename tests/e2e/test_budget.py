"""Hospitals that keep account of their privacy, as real processes: what was spent, what is refused, what a kill costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from scripts.demos.house import House

from aimass.proto.api import Federation
from aimass.proto.views import RunView
from tests.support.hospitals import open_hospitals

PARTNERS = ("cleveland", "hungarian")
PLAN = """
name = "private"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 32
learning_rate = 0.03
steps = 5
weight = "one"
[privacy]
noise_multiplier = 2.0
clip = 1.0
sampling_rate = 0.1
divisor = 20.0
delta = 1e-4
[cohort]
quorum = 2
step_deadline_s = 300.0
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""
BUDGET = """
[[budgets]]
data_set = "heart"
epsilon = 3.0
delta = 1e-4
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("private")
    with House(folder) as house:
        open_hospitals(house, PARTNERS, dict.fromkeys(PARTNERS, BUDGET))
        yield house


def run(house: House, rounds: int) -> RunView:
    (house.folder / "plan.toml").write_text(PLAN.format(rounds=rounds))
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(house.folder / "plan.toml").wait()


def epsilon(steps: int) -> float:
    """By the library itself, from what the plan says, less the thousandth of the noise that rounding is given."""
    accountant = PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(2.0 * 0.999))
    accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, steps))
    return float(accountant.get_epsilon(1e-4))


def spent(house: House, partner: str) -> float:
    (told,) = house.run("client", "budget", "--dir", partner)
    return float(told["budgets"][0]["spent"])


def test_a_budget_is_spent_by_rounds_kept_over_kills_and_never_overspent(house: House) -> None:
    first = run(house, 4)
    assert first.summary.state == "finished", first.summary.reason
    assert all(not step.metrics for step in first.steps)  # without noise nothing leaves beside the updates
    for partner in PARTNERS:
        assert spent(house, partner) == pytest.approx(epsilon(20), abs=1e-3)
    house.kill("cleveland")
    house.start_partner("cleveland")
    assert spent(house, "cleveland") == pytest.approx(epsilon(20), abs=1e-3)
    (price,) = house.run("client", "budget", "--dir", "cleveland", "--plan", "plan.toml")[0]["plan"]
    assert price["epsilon_after_one_round"] == pytest.approx(epsilon(25), abs=1e-3)
    fits = price["rounds_that_fit"]
    assert epsilon(20 + 5 * fits) <= 3.0 < epsilon(20 + 5 * (fits + 1))
    refused = run(house, fits + 1)
    assert refused.summary.state == "failed"
    assert "ledger.E_BUDGET" in refused.summary.reason
    assert spent(house, "cleveland") == pytest.approx(epsilon(20), abs=1e-3)  # a plan that is refused costs nothing
    journal = house.run("client", "journal", "--dir", "cleveland")
    trained = [line["mechanisms"] for line in journal if line["kind"] == "train"]
    assert trained == [["DP-SGD (noise 2, clip 1, rate 0.1, 5 steps)", "plain sum"]] * 4


def test_a_plan_without_noise_is_declined_by_the_data_sets_that_have_a_budget(house: House) -> None:
    plan = (house.folder / "plan.toml").read_text()
    bare = plan[: plan.index("[privacy]")] + plan[plan.index("[cohort]") :]
    (house.folder / "bare.toml").write_text(bare)
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "bare.toml").wait()
    assert view.summary.state == "failed"
    assert "policy.privacy" in view.summary.reason
    assert Path(house.folder / "cleveland" / "state" / "ledgers" / "heart" / "ledger.jsonl").is_file()


HOSPITALS = ("cleveland", "hungarian", "long-beach", "switzerland")
WITH_METRICS = """
[privacy.metrics]
noise_multiplier = 6.0
bins = 6
[privacy.analyses]
noise_multiplier = 5.0
[early_stop]
metric = "auc"
patience = 5
[[stages]]
driver = "statistics"
[[stages]]
"""


def test_metrics_and_statistics_leave_with_noise_that_the_ledger_pays_for(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        open_hospitals(house, HOSPITALS, dict.fromkeys(HOSPITALS, BUDGET))
        plan = PLAN.format(rounds=3).replace("quorum = 2", "quorum = 4").replace("[[stages]]", WITH_METRICS)
        (tmp_path / "plan.toml").write_text(plan)
        with Federation.open(tmp_path / "scientist") as federation:
            view = federation.submit(tmp_path / "plan.toml").wait()
        assert view.summary.state == "finished", view.summary.reason
        measured = [step.metrics["auc"].mean for step in view.steps if step.metrics]
        assert len(measured) == 3
        assert all(0 <= auc <= 1 for auc in measured)
        accountant = PLDAccountant()
        sampled = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(2.0 * 0.999))
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, 3 * 5))
        accountant.compose(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(6.0), 3))
        accountant.compose(dp_accounting.GaussianDpEvent(5.0))
        for name in HOSPITALS:
            assert spent(house, name) == pytest.approx(accountant.get_epsilon(1e-4), abs=1e-3)
            told = {line["kind"]: line["mechanisms"] for line in house.run("client", "journal", "--dir", name)}
            assert told["evaluate"] == ["noised score histogram (noise 6, 6 bins)", "plain sum"]
            assert told["analyse:statistics"] == ["noised statistics (noise 5)", "plain sum"]
