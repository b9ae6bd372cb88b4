"""A setting that is clearly bad is cut at three real partners while it runs: their ledgers reserved for it as for all, and
what it left unspent is free when the search has ended, though the search was killed before and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from scripts.demos.house import House

from aimass.explain.runs import ManyRuns
from aimass.explain.tune import Search, read_search
from aimass.proto.api import Federation
from aimass.proto.views import RunState
from tests.e2e import test_tune_federated
from tests.support.hospitals import open_hospitals
from tests.support.tuning import started

PARTNERS = ("cleveland", "hungarian", "long-beach")
ROUNDS = 10
PLAN = (
    test_tune_federated.PLAN.replace("quorum = 2", "quorum = 3")
    .replace("steps = 4", "steps = 2")
    .replace("rounds = 3", f"rounds = {ROUNDS}")
)
BAD = 100.0
SPACE = """
metric = "loss"
[settings]
train.learning_rate = { choices = [0.01, 0.02, 0.03, 0.05, 100.0] }
"""
SEED = 5
"""Of the search: by it the bad one comes last, when four others stand to be held against."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("pruned")) as house:
        open_hospitals(house, PARTNERS, dict.fromkeys(PARTNERS, test_tune_federated.BUDGET))
        for partner in PARTNERS:
            house.stop(partner)
            policy = house.folder / partner / "policy.toml"
            policy.write_text(policy.read_text().replace("learning_rate = 1.0", f"learning_rate = {BAD}"))
            house.start_partner(partner)
        (house.folder / "plan.toml").write_text(PLAN)
        (house.folder / "space.toml").write_text(SPACE)
        yield house


def told_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    said: list[str] = []
    for line in iter(process.stderr.readline, ""):
        said.append(line)
        if words in line:
            return
    raise AssertionError("".join(said))


def budget(house: House, partner: str) -> dict[str, Any]:
    (told,) = house.run("client", "budget", "--dir", partner)
    return dict(told)


def counted(house: House, partner: str) -> tuple[float, float]:
    """Epsilon of what is settled, and with what is reserved."""
    (found,) = budget(house, partner)["budgets"]
    return float(found["spent"]), float(found["with_reserved"])


def check_cut(house: House, search: Search) -> None:
    """The bad setting was cut in its early rounds while it ran, and its run was stopped."""
    bad = search.trials[-1]
    assert [trial.state for trial in search.trials] == ["finished"] * 4 + ["pruned"]
    assert bad.settings == {"train.learning_rate": BAD}
    assert bad.runs[0].cut_at in (2, 3)
    assert "where the median of 4 others has" in bad.reason
    with Federation.open(house.folder / "scientist") as federation:
        summaries = [federation.run(trial.runs[0].run).view.summary for trial in search.trials]
        assert len(federation.runs()) == len(summaries)  # none was begun twice
    assert [one.state for one in summaries] == [RunState.FINISHED] * 4 + [RunState.STOPPED]
    assert summaries[-1].round < ROUNDS


def ended_study(house: House, partner: str) -> dict[str, Any]:
    """The word of the end may be on its way still when the search says that it has ended."""
    for _ in range(100):
        (study,) = budget(house, partner)["studies"]
        if study["state"] == "ended":
            break
    return dict(study)


def test_a_bad_setting_is_cut_as_it_runs_and_what_it_left_is_free_though_the_search_was_killed_before(
    house: House,
) -> None:
    where = ["plan.toml", "--space", "space.toml", "--as", "scientist", "--out", "s", "--yes", "--seed", str(SEED)]
    process = started(house.folder, *where, "--trials", "5", "--seeds", "1", "--prune-after", "2")
    told_until(process, "setting 1 (2 of 5): ")
    most = read_search(house.folder / "s").setup.most.epsilon
    assert most is not None
    for partner in PARTNERS:
        spent, with_reserved = counted(house, partner)
        assert spent < with_reserved
        assert with_reserved == pytest.approx(most, rel=0.02)  # for all five runs as a whole
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    resumed = started(house.folder, "resume", "s")
    told_until(resumed, "setting 4: cut, loss")
    _, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors
    assert "partners free what they reserved and no run has spent" in errors
    search = read_search(house.folder / "s")
    check_cut(house, search)
    found = ManyRuns.from_json((house.folder / "s/answer/search.json").read_bytes())
    assert found.tuning is not None
    assert found.tuning.epsilon is not None
    for partner in PARTNERS:
        study = ended_study(house, partner)
        assert (study["state"], study["runs"]) == ("ended", "5 of 5")
        spent, with_reserved = counted(house, partner)
        assert with_reserved == pytest.approx(spent, abs=1e-6)  # nothing is reserved any more
        assert spent == pytest.approx(found.tuning.epsilon, rel=0.04)  # a round may have begun that did not come
        assert spent < 0.98 * most  # the rounds that the cut one did not come to
    again = started(house.folder, "resume", "s")
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert read_search(house.folder / "s").trials == search.trials
