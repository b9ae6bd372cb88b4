"""A hospital whose daemon dies at every durable write: its ledger never says less than what was computed of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.demos.house import House

from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_reading import read_lines
from aimass.privacy.dp.ledger_state import Ledger
from aimass.proto.api import Federation
from tests.e2e.test_budget import BUDGET, PLAN, epsilon, spent
from tests.support.hospitals import open_hospitals
from tests.support.lives import lives_until_the_end

KILLED, OTHER = "cleveland", "hungarian"
ROUNDS, STEPS, EPSILON = 3, 5, 1.5
LONGEST_LIFE = 26
"""Durable points: past the debit, the training and its settling, into the upload."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("killed")
    with House(folder) as house:
        limits = {KILLED: EPSILON, OTHER: 30.0}
        budgets = {name: BUDGET.replace("epsilon = 3.0", f"epsilon = {limit}") for name, limit in limits.items()}
        open_hospitals(house, (KILLED, OTHER), budgets)
        yield house


def ledger_of(house: House, partner: str) -> Ledger:
    return read_lines(house.folder / partner / "state" / "ledgers" / "heart" / "ledger.jsonl").ledger


def trainings(log: Path) -> int:
    """How often the daemon's log says that the rows were trained on to the end."""
    return len(re.findall(r"fetched in .*worked in", log.read_text()))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_at_every_write_are_paid_for_and_the_run_ends_by_itself_at_the_budget(house: House) -> None:
    (house.folder / "plan.toml").write_text(PLAN.format(rounds=ROUNDS))
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "plan.toml")
    house.stop(KILLED)
    kills = lives_until_the_end(house, run, KILLED, "client", LONGEST_LIFE)
    house.start_partner(KILLED)
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run(run.id).wait()
    entries = ledger_of(house, KILLED).entries.values()
    states = [entry.state for entry in entries]
    assert kills >= 10, kills
    assert EntryState.SPENT in states, states
    assert len(states) >= trainings(house.folder / f"{KILLED}.log") > 0
    assert spent(house, KILLED) == pytest.approx(epsilon(STEPS * len(states)), abs=1e-3)
    assert spent(house, KILLED) <= EPSILON < epsilon(STEPS * (len(states) + ROUNDS))
    assert view.summary.state == "failed"
    assert "ledger.E_BUDGET" in view.summary.reason
    assert ledger_of(house, OTHER).runs()  # nobody else's ledger is touched by the kills
