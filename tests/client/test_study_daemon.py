"""Studies at a running daemon: what it tells a server of them, what it hears, what its owner may do, and the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.client.active_run import ActiveRun
from aimass.client.budget import Budgets
from aimass.client.daemon import Daemon
from aimass.client.partner import Partner, policy_in
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase
from aimass.privacy.dp.ledger_file import LINES
from aimass.privacy.dp.ledger_reading import read_lines
from aimass.proto.clock import SystemClock
from aimass.proto.commands import main
from aimass.proto.durable import UNINTERRUPTED, make_folder
from aimass.proto.errors import Refused
from aimass.proto.plan import Plan, encode_plan
from aimass.proto.v1 import federation_pb2 as pb
from aimass.server.store import Store
from tests.client.test_active_run import POLICY as PARTNER_POLICY
from tests.client.test_active_run import _Uplink, _worker
from tests.client.test_budget import plan
from tests.client.test_daemon import partner_folder
from tests.client.test_studies import ID, OTHER, RUNS, debit, trial
from tests.support.clock import ManualClock
from tests.support.edge_federation import Members, run, serving
from tests.support.ledgers import Clock
from tests.support.partners import enrolled, opened

BUDGET = """
[[budgets]]
data_set = "heart"
epsilon = 2.0
delta = 1e-5
"""
WITHIN = "[studies]\ntrials = 1000\nepsilon = 50.0\ndays = 2.0\n"


def begun(folder: Path, at: float = 1_700_000_000.0, *studies: str) -> None:
    """Studies that a partner's ledger has open, drawn on at that time."""
    held = Budgets(folder / "state" / "ledgers", UNINTERRUPTED, Clock(at))
    for number, study in enumerate(studies or (ID,)):
        debit(held, trial(study=study, trials=2), RUNS[number], policy=policy_in(folder)).settle(20, f"{number:064x}")
    held.close()


def still_open(folder: Path) -> set[str]:
    ledger = read_lines(folder / "state" / "ledgers" / "heart" / LINES).ledger
    return {study.name for study in ledger.studies.values() if study.open}


@pytest.fixture
def north(tmp_path: Path) -> Path:
    enrolled(tmp_path, ["north"], PARTNER_POLICY + BUDGET + WITHIN)
    return tmp_path / "north"


async def until(holds: Callable[[], bool]) -> None:
    """Until threads and sockets have come so far; who runs the scenario gives up after a minute."""
    while not holds():  # noqa: ASYNC110  (files tell nobody)
        await asyncio.sleep(0)


def test_a_daemon_names_its_open_studies_and_frees_what_the_server_says_has_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        store = Store.open(make_folder(members.folder / "hub" / "data") / "runs.sqlite")
        store.end_study(ID, "anna", 0.0)
        store.close()
        async with serving(members) as edge:
            folder = partner_folder(edge, "north")
            (folder / "policy.toml").write_text('[schemas]\n"heart/1" = "heart"\n' + BUDGET + WITHIN)
            begun(folder, time.time(), ID, OTHER)
            stop = asyncio.Event()
            serving_it = asyncio.create_task(Daemon(folder).serve(stop, lambda: None))
            await until(lambda: ID not in still_open(folder))
            stop.set()
            await serving_it
            assert still_open(folder) == {OTHER}

    run(scenario())


def test_time_ends_a_study_that_nobody_ends_while_the_daemon_runs_and_no_other(north: Path) -> None:
    async def scenario() -> None:
        clock, stop = ManualClock(), asyncio.Event()
        begun(north, clock.now() - 1.99 * 86_400, ID)
        begun(north, clock.now() - 1.0 * 86_400, OTHER)
        serving_it = asyncio.create_task(Daemon(north, clock=clock).serve(stop, lambda: None))
        await until(lambda: clock.sleepers == 2)  # it has looked, and no server is there
        assert still_open(north) == {ID, OTHER}
        clock.advance(3_600.0)
        await until(lambda: ID not in still_open(north))
        stop.set()
        await serving_it
        assert still_open(north) == {OTHER}

    asyncio.run(asyncio.wait_for(scenario(), 60))


def invited(run_id: str, asked: Plan, partner: Partner) -> pb.Invite:
    return pb.Invite(run_id=run_id, plan=encode_plan(asked), roster_digest=partner.keeper.roster.digest)


def shell(partner: Partner, run_id: str, uplink: _Uplink) -> ActiveRun:
    folder = RunFolder(partner.folder / "state" / "runs" / run_id, UNINTERRUPTED)
    return ActiveRun(run_id, partner, folder, uplink, SystemClock(), _worker)


def kinds(uplink: _Uplink) -> list[str]:
    """What was said, the code of what was declined."""
    return [message.declined.fault.code or str(message.WhichOneof("body")) for message in uplink.sent]


def test_a_run_of_a_study_waits_for_a_person_who_sees_the_price_and_approves_it_for_all_its_runs(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        enrolled(tmp_path, ["north"], PARTNER_POLICY + BUDGET)
        partner, uplink = opened(tmp_path / "north"), _Uplink()
        first, second = (shell(partner, run_id, uplink) for run_id in RUNS[:2])
        await first.invited(invited(RUNS[0], trial(), partner))
        assert kinds(uplink) == ["policy.approval_pending"]
        assert first.session is not None
        assert first.session.phase is Phase.PENDING
        shown = await first.study()
        assert shown.study == ID
        assert shown.costs[0].fits
        assert "waits for approval" in shown.waits
        assert (await first.approve_study()).waits == ""
        await first.invited(invited(RUNS[0], trial(), partner))
        await second.invited(invited(RUNS[1], trial(noise=5.0), partner))
        assert kinds(uplink)[1:] == ["joined", "joined"]
        third = shell(partner, RUNS[2], uplink)
        await third.invited(invited(RUNS[2], trial(trials=4), partner))
        assert kinds(uplink)[3:] == ["policy.approval_pending"]
        for each in (first, second, third):
            await each.stop()
        partner.budgets.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_run_of_a_study_that_is_no_study_shows_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        enrolled(tmp_path, ["north"], PARTNER_POLICY + BUDGET)
        partner, uplink = opened(tmp_path / "north"), _Uplink()
        alone = shell(partner, RUNS[0], uplink)
        await alone.invited(invited(RUNS[0], plan(), partner))
        with pytest.raises(Refused) as refused:
            await alone.study()
        assert refused.value.code == "client.study"
        await alone.stop()
        partner.budgets.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_an_owner_lists_the_studies_and_ends_one_by_the_first_digits_of_its_id_without_a_daemon(
    north: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> tuple[int, str]:
        code = main(["client", "budget", *words, "--dir", str(north), "--json"])
        said = capsys.readouterr()
        return code, said.out or said.err

    begun(north, 1_700_000_000.0, ID, OTHER)
    code, said = command()
    assert code == 0
    (found,) = json.loads(said)
    one, other = found["studies"]
    assert (one["study"], one["state"], one["runs"], other["study"]) == (ID, "open", "1 of 2", OTHER)
    assert (one["since"], one["ends_unsaid"]) == ("2023-11-14 22:13 UTC", "2023-11-16 22:13 UTC")
    assert 0 < one["spent_epsilon_alone"] < one["reserved_epsilon_alone"]
    for wrong in ("", "7", "555x"):
        code, said = command("end-study", wrong)
        assert code != 0
        assert "client.study" in said
    code, said = command("end-study", "55")
    assert (code, json.loads(said)) == (0, {"study": ID, "ended": True})
    assert still_open(north) == {OTHER}
    code, said = command("end-study", "55")
    assert code != 0
    (found,) = json.loads(command()[1])
    assert [each["state"] for each in found["studies"]] == ["ended", "open"]


def test_who_approves_names_code_or_a_run_and_not_both(north: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("heart", "--study", "last")):
        assert main(["client", "approve", *words, "--dir", str(north)]) != 0
        assert "client.approve" in capsys.readouterr().err
