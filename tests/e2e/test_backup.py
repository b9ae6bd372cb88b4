"""The restore drill: a backup of a running server, kill -9, a new folder; what goes on, and what must not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.demos.house import CommandFailed, House

from aimass.proto.api import Federation, Run
from aimass.proto.views import RunView
from tests.e2e.test_run import PLAN as TWO_ROUNDS
from tests.support.hospitals import open_hospitals

PARTNERS = ("cleveland", "long-beach")
STAYS, GOES = PARTNERS
PLAN = TWO_ROUNDS.replace("rounds = 2", "rounds = 20")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "federation") as house:
        open_hospitals(house, PARTNERS)
        (house.folder / "plan.toml").write_text(PLAN)
        yield house


def _in_the_middle(house: House, federation: Federation) -> Run:
    """A run that stands in a step: one contribution is acknowledged, and the other partner is away."""
    run = federation.submit(house.folder / "plan.toml")
    gone = False
    for view in run.watch():
        if len(view.steps) >= 4 and not gone:
            house.kill(GOES)
            gone = True
        if gone and view.steps[-1].state == "open" and view.steps[-1].slots[STAYS] == "stored":
            return run
    raise AssertionError("the run ended")


def _restore(house: House, *, keys_of: str = "") -> None:
    """kill -9, another folder, and the server again at its address."""
    house.kill("server")
    (house.folder / "server").rename(house.folder / "lost")
    told = house.run("server", "restore", "backup", "--dir", "server")
    assert told["missing"] == (["keys"] if keys_of else [])
    if keys_of:
        with pytest.raises(CommandFailed, match="keys"):
            house.run("server", "start", "--dir", "server")
        shutil.copytree(house.folder / keys_of / "keys", house.folder / "server" / "keys")
    house.start_server()


def _finished(house: House) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "plan.toml").wait()
    assert view.summary.state == "finished", view.summary.reason
    return view


@pytest.mark.timeout(300)
def test_a_restored_run_of_which_nothing_was_committed_since_ends_in_the_undisturbed_digest(house: House) -> None:
    undisturbed = _finished(house)
    with Federation.open(house.folder / "scientist") as federation:
        run_id = _in_the_middle(house, federation).id
    told = house.run("server", "backup", "--dir", "server", "--to", "backup", "--with-keys")
    assert told["open_runs"] == [run_id[:8]]
    assert house.run("server", "backup", "verify", "backup")["whole"]
    _restore(house)
    with Federation.open(house.folder / "scientist") as federation:
        assert not federation.run(run_id).view.summary.state.final
        house.start_partner(GOES)
        disturbed = federation.run(run_id).wait()
        assert federation.run(undisturbed.summary.run_id).view == undisturbed
    assert disturbed.summary.state == "finished", disturbed.summary.reason
    assert disturbed.summary.model == undisturbed.summary.model
    assert [step.slots for step in disturbed.steps] == [step.slots for step in undisturbed.steps]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("since", ["some steps", "the end"])
def test_a_run_that_went_on_after_the_backup_ends_by_name_on_both_sides_and_a_new_one_works(
    house: House, since: str
) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = _in_the_middle(house, federation)
        house.run("server", "backup", "--dir", "server", "--to", "backup")
        entries = run.refresh().transcript_entries
        house.start_partner(GOES)
        for view in run.watch():
            if since == "some steps" and view.transcript_entries >= entries + 3:
                break
    _restore(house, keys_of="lost")
    with Federation.open(house.folder / "scientist") as federation:
        ended = federation.run(run.id).wait()
    assert ended.summary.state == "failed"
    assert ended.summary.reason.startswith("run.restored_behind:"), ended.summary.reason
    assert ended.transcript_entries == entries  # nothing was written over what the partners hold
    new = _finished(house)  # the partners have heard by now
    for partner in PARTNERS:
        shown = house.run("client", "show", run.id, "--dir", partner)
        assert shown["history_entries"] > entries
        assert shown["phase"] == "ended"
        if since == "some steps":
            assert "run.restored_behind" in shown["reason"]
        assert house.run("client", "show", new.summary.run_id, "--dir", partner)["phase"] == "ended"
