"""A hospital that puts its ledgers back from a backup, or its rows under another name, as real processes: noticed, refused
by name, and gone on with by a person's word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.demos.house import CommandFailed, House

from tests.e2e.test_budget import BUDGET, PARTNERS, epsilon, run, spent
from tests.support.datasets import dataset
from tests.support.hospitals import open_hospitals

NORTH = PARTNERS[0]
ROLLBACK = "ledger.E_LEDGER_ROLLBACK"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("rolled-back")
    with House(folder) as house:
        open_hospitals(house, PARTNERS, dict.fromkeys(PARTNERS, BUDGET))
        yield house


def finished(house: House, rounds: int = 1) -> None:
    view = run(house, rounds)
    assert view.summary.state == "finished", view.summary.reason


def refused(house: House, code: str = ROLLBACK) -> str:
    """A run fails by this name, and what is spent stays as it was; the reason that the server has."""
    before = spent(house, NORTH)
    view = run(house, 1)
    assert view.summary.state == "failed"
    assert code in view.summary.reason
    assert spent(house, NORTH) == before
    return view.summary.reason


def status(house: House) -> Any:
    return house.run("client", "status", "--dir", NORTH)["ledgers"]


def log_of(house: House) -> str:
    return (house.folder / f"{NORTH}.log").read_text()


def test_ledgers_put_back_from_a_backup_are_noticed_from_outside_and_accepted_by_word(house: House) -> None:
    home = house.folder / NORTH
    ledgers, receipts = home / "state" / "ledgers", home / "receipts.jsonl"
    finished(house, 2)
    bodies = [line.rpartition(" ")[0] for line in receipts.read_text().splitlines()]
    assert all(json.loads(body)["ledger"]["sealed"] for body in bodies)

    house.stop(NORTH)  # a backup of everything that tells: the ledgers with their noted heads, and the receipts
    shutil.copytree(ledgers, home / "backup")
    old_receipts = receipts.read_bytes()
    house.start_partner(NORTH)
    finished(house)
    newest = str(house.folder / "newest.json")
    house.run("client", "budget", "export", "heart", newest, "--dir", NORTH)
    assert house.run("client", "budget", "verify", newest, "--dir", NORTH)["entries"] == 3

    house.stop(NORTH)
    shutil.rmtree(ledgers)
    shutil.copytree(home / "backup", ledgers)
    receipts.write_bytes(old_receipts)
    house.start_partner(NORTH)  # the server alone knows better
    assert "aimass client budget accept" in status(house)["heart"]
    assert "aimass client budget accept" in log_of(house)
    refused(house)
    house.stop(NORTH)
    house.start_partner(NORTH)
    refused(house)  # it outlives a restart
    house.run("client", "budget", "accept", "heart", "--from-export", newest, "--dir", NORTH)  # through the daemon
    assert status(house) == {}
    assert spent(house, NORTH) == pytest.approx(epsilon(15), abs=1e-3)
    finished(house)
    assert spent(house, NORTH) == pytest.approx(epsilon(20), abs=1e-3)


def test_ledgers_that_are_gone_are_noticed_too_and_accepted_without_a_daemon(house: House) -> None:
    home: Path = house.folder / NORTH
    house.stop(NORTH)
    shutil.rmtree(home / "state" / "ledgers")
    house.start_partner(NORTH)
    refused(house)
    house.stop(NORTH)
    house.run("client", "budget", "accept", "heart", "--nothing-lost", "--dir", NORTH)
    house.start_partner(NORTH)
    assert status(house) == {}
    finished(house)
    assert spent(house, NORTH) == pytest.approx(epsilon(5), abs=1e-3)


def test_the_same_rows_under_another_name_get_no_fresh_budget(house: House) -> None:
    home: Path = house.folder / NORTH
    rows = str(dataset("heart") / f"{NORTH}.parquet")
    add = (
        "client",
        "data",
        "add",
        "fresh",
        "--dir",
        NORTH,
        "--schema",
        "heart/1",
        "--uri",
        rows,
        "--format",
        "parquet",
    )
    with pytest.raises(CommandFailed, match="another name"):
        house.run(*add)
    manifest, policy = home / "data" / "heart.toml", home / "policy.toml"
    (home / "data" / "fresh.toml").write_text(manifest.read_text().replace('name = "heart"', 'name = "fresh"'))
    renamed = policy.read_text().replace('"heart/1" = "heart"', '"heart/1" = "fresh"')
    policy.write_text(renamed.replace('data_set = "heart"', 'data_set = "fresh"'))
    assert "ledger.same_rows" in (reason := refused(house, "ledger.same_rows"))
    assert "heart: 100%" not in reason
    assert "aimass client budget another fresh heart" in log_of(house)
    house.run("client", "budget", "another", "fresh", "heart", "--dir", NORTH)  # through the daemon
    finished(house)
    assert spent(house, NORTH) == pytest.approx(epsilon(5), abs=1e-3)
