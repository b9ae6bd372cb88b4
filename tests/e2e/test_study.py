"""A study over hospitals that keep account of their privacy, as real processes: reserved as a whole, asked about,
pruned, killed in the middle, ended while one of them is away, and what no run has spent is free again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from scripts.demos.house import CommandFailed, House

from aimass.proto.api import Federation
from aimass.proto.errors import AimassError
from aimass.proto.views import RunView
from tests.support.hospitals import open_hospitals

PARTNERS = ("cleveland", "hungarian")
ID = "5a" * 16
PLAN = """
name = "trial"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 32
learning_rate = {rate}
steps = 5
weight = "one"
[privacy]
noise_multiplier = {noise}
clip = 1.0
sampling_rate = 0.1
divisor = 20.0
delta = 1e-4
[evaluate]
every = 0
[cohort]
quorum = 2
step_deadline_s = 300.0
[study]
id = "{study}"
trials = 3
[study.costliest]
"privacy.noise_multiplier" = 2.0
"stages.0.options.rounds" = 4
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""
BUDGET = """
[[budgets]]
data_set = "heart"
epsilon = 6.0
delta = 1e-4
"""
WITHIN = "[studies]\ntrials = 5\nepsilon = 5.0\n"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("study")) as house:
        open_hospitals(house, PARTNERS, {"cleveland": BUDGET + WITHIN, "hungarian": BUDGET})
        yield house


def write(house: House, name: str, rounds: int, noise: float, rate: float = 0.03, study: str = ID) -> Path:
    path = house.folder / f"{name}.toml"
    path.write_text(PLAN.format(rounds=rounds, noise=noise, rate=rate, study=study))
    return path


def finished(view: RunView) -> None:
    assert view.summary.state == "finished", view.summary.reason


def epsilon(*parts: tuple[int, float]) -> float:
    """So many steps of so much noise together, by the library itself."""
    accountant = PLDAccountant()
    for steps, noise in parts:
        sampled = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(noise * 0.999))
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, steps))
    return float(accountant.get_epsilon(1e-4))


def told(house: House, partner: str) -> dict[str, Any]:
    (found,) = house.run("client", "budget", "--dir", partner)
    return dict(found)


def counted(house: House, partner: str) -> tuple[float, float]:
    """Epsilon of what is settled, and with what is reserved."""
    (budget,) = told(house, partner)["budgets"]
    return float(budget["spent"]), float(budget["with_reserved"])


def waits_at(view: RunView, partner: str) -> bool:
    return any(one.partner == partner and "policy.approval_pending" in one.reason for one in view.participants)


def test_a_study_is_asked_about_reserved_pruned_killed_and_ended_and_frees_what_no_run_spent(house: House) -> None:
    whole = epsilon((60, 2.0))
    with Federation.open(house.folder / "scientist") as federation:
        first = federation.submit(write(house, "first", rounds=2, noise=2.0))
        for view in first.watch():
            if waits_at(view, "hungarian"):
                break
        (waiting,) = house.run("client", "pending", "--dir", "hungarian")["runs"]
        assert waiting["study"] == f"{ID[:8]}, 3 runs"
        shown = house.run("client", "preview", "last", "--dir", "hungarian")
        (cost,) = shown["costs"]
        assert cost["study"] == pytest.approx(whole, abs=2e-3)
        assert cost["costliest_run"] == pytest.approx(epsilon((20, 2.0)), abs=2e-3)
        assert cost["left_after"] == pytest.approx(6.0 - whole, abs=2e-3)
        assert "waits for approval" in shown["waits"]
        assert counted(house, "hungarian") == (0.0, 0.0)
        house.run("client", "approve", "--study", "last", "--dir", "hungarian")
        finished(first.wait())
        for partner in PARTNERS:
            assert counted(house, partner)[1] == pytest.approx(whole, abs=2e-3)
        finished(federation.submit(write(house, "second", rounds=2, noise=4.0)).wait())
        house.kill("hungarian")
        house.start_partner("hungarian")
        assert counted(house, "hungarian")[1] == pytest.approx(whole, abs=2e-3)

        pruned = federation.submit(write(house, "third", rounds=4, noise=2.0, rate=0.01))
        for view in pruned.watch():
            if view.summary.round >= 1:
                break
        pruned.stop()
        with pytest.raises(AimassError) as refused:
            federation.submit(write(house, "fourth", rounds=1, noise=2.0))
        assert refused.value.code == "study.trials"

        house.stop("hungarian")
        for _ in pruned.watch():
            pass
        (ended,) = [house.run("run", "end-study", ID, "--as", "scientist")]
        assert (ended["runs"], ended["trials"], ended["ended"]) == (3, 3, True)
        with pytest.raises(AimassError) as refused:
            federation.submit(write(house, "fifth", rounds=1, noise=2.0))
        assert refused.value.code in {"study.trials", "study.ended"}
    house.start_partner("hungarian")
    for partner in PARTNERS:
        _freed(house, partner, whole)


def _freed(house: House, partner: str, whole: float) -> None:
    """The study has ended at a partner, and its runs count for what they were: the pruned one for what it began."""
    for _ in range(100):  # the word of the end is on its way when the daemon says that it is connected
        (study,) = told(house, partner)["studies"]
        if study["state"] == "ended":
            break
    assert study["state"] == "ended"
    assert study["runs"] == "3 of 3"
    spent, reserved = counted(house, partner)
    assert spent == reserved < whole
    begun = [epsilon((10, 2.0), (10, 4.0), (5 * rounds, 2.0)) for rounds in range(1, 5)]
    assert min(abs(spent - one) for one in begun) < 2e-3
    assert study["spent_epsilon_alone"] == pytest.approx(spent, abs=2e-3)


def test_a_study_that_a_person_ends_here_admits_no_run_any_more(house: House) -> None:
    other = "7b" * 16
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(write(house, "other", rounds=1, noise=4.0, study=other))
        for view in run.watch():
            if waits_at(view, "hungarian"):
                break
        house.run("client", "approve", "--study", "last", "--dir", "hungarian")
        finished(run.wait())
        assert house.run("client", "budget", "end-study", "7b7b", "--dir", "cleveland")["ended"]
        with pytest.raises(CommandFailed, match="no such study is open here"):
            house.run("client", "budget", "end-study", "7b7b", "--dir", "cleveland")
        view = federation.submit(write(house, "again", rounds=1, noise=4.0, rate=0.02, study=other)).wait()
    assert view.summary.state == "failed"
    assert "ledger.study_ended" in view.summary.reason
