"""A partner whose folder is an older copy of itself: merely behind, it takes part again, and nothing counts twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.demos.bulk import bulk_federation, submit
from scripts.demos.house import House

PARTNERS = ("north", "south")
ROUNDS = 80


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with bulk_federation(tmp_path, 200_000, PARTNERS) as house:
        yield house


def shown(house: House) -> dict[str, Any]:
    view: dict[str, Any] = house.run("run", "show", "last", "--as", "scientist")
    return view


def committed(view: dict[str, Any]) -> int:
    return sum(step["state"] == "committed" for step in view["steps"])


def pause_after(house: House, steps: int) -> int:
    """Pause once so many steps are committed, and wait until none is open; how many are committed then."""
    while committed(shown(house)) < steps:
        pass
    house.run("run", "pause", "last", "--as", "scientist")
    view = shown(house)
    while any(step["state"] == "open" for step in view["steps"]):
        view = shown(house)
    assert view["summary"]["state"] == "paused"
    return committed(view)


def copied(house: House, backup: Path) -> None:
    """A backup of a partner that is stopped for it."""
    house.stop("north")
    shutil.copytree(house.folder / "north", backup)
    house.start_partner("north")


@pytest.mark.parametrize("knows_the_run", [True, False], ids=["of the run", "of before the run"])
def test_a_partner_restored_from_a_backup_goes_on_and_no_work_counts_twice(
    house: House, tmp_path: Path, *, knows_the_run: bool
) -> None:
    submit(house, ROUNDS, len(PARTNERS), "--watch")
    undisturbed = shown(house)

    backup = tmp_path / "backup"
    if not knows_the_run:
        copied(house, backup)
    submit(house, ROUNDS, len(PARTNERS))
    early = pause_after(house, 3)
    if knows_the_run:
        copied(house, backup)
    house.run("run", "resume", "last", "--as", "scientist")
    assert pause_after(house, early + 3) > early
    house.stop("north")
    shutil.rmtree(house.folder / "north")
    shutil.copytree(backup, house.folder / "north")
    house.start_partner("north")
    house.run("run", "resume", "last", "--as", "scientist")
    house.run("run", "watch", "last", "--as", "scientist")

    disturbed = shown(house)
    assert disturbed["summary"]["state"] == "finished", disturbed["summary"]["reason"]
    assert disturbed["summary"]["model"] == undisturbed["summary"]["model"]
    assert [step["slots"] for step in disturbed["steps"]] == [step["slots"] for step in undisturbed["steps"]]
    log = (house.folder / "north.log").read_text()
    assert "two_histories" not in log
    assert " left: " not in log
    # What the copy did not know of, the server tells again; the journal has a gap that only the receipts fill.
    run_id = disturbed["summary"]["run_id"]
    receipts = [json.loads(line.rpartition(" ")[0]) for line in
                (house.folder / "north" / "receipts.jsonl").read_text().splitlines()]  # fmt: skip
    steps = [receipt["step"] for receipt in receipts if receipt["run_id"] == run_id]
    assert sorted(set(steps)) == list(range(ROUNDS))
    assert house.run("client", "journal", "--dir", "north")
