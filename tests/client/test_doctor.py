"""The doctor in a partner's folder: each fault that is put in is found by its name, and has a cure."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.client.capacity import Capacity
from aimass.client.daemon import Daemon
from aimass.privacy.dp.ledger_file import open_ledger
from aimass.privacy.pki import Role
from aimass.proto.checks import State
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.task import locate
from tests.client.test_daemon import partner_folder
from tests.support.datasets import dataset
from tests.support.doctors import codes, examine, fault_of
from tests.support.edge_federation import Edge, Members, ShiftedClock, run, serving
from tests.support.ledgers import BUDGET
from tests.support.patients import visits

CELL = "a cell that nobody may see"


def ward(edge: Edge) -> Path:
    """North's folder, in which all is well but that no daemon runs."""
    folder = partner_folder(edge, "north")
    (folder / "data").mkdir()
    (folder / "policy.toml").write_text(
        f'plain_sums = true\nconfinement = []\n[schemas]\n"heart/1" = "heart"\n'
        f'[[tasks]]\nname = "heart"\ndigest = "{locate("heart").digest}"\n'
    )
    (folder / "data" / "heart.toml").write_text(
        f'name = "heart"\ndata_schema = "heart/1"\nuris = ["{dataset("heart")}/cleveland.parquet"]\n'
        f'format = "parquet"\nparticipant = "north"\nsalt = "{"0" * 64}"\n'
    )
    return folder


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def rows_that_do_not_fit(folder: Path) -> None:
    header = "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease"
    (folder / "data" / "heart.csv").write_text(f"{header}\n{CELL},M,asymptomatic,1,1,,,,,,,,,0\n")
    edited("data/heart.toml", f"{dataset('heart')}/cleveland.parquet", "heart.csv")(folder)
    edited("data/heart.toml", 'format = "parquet"', 'format = "csv"')(folder)


def journal_that_was_edited(folder: Path) -> None:
    (folder / "journal.jsonl").write_text("{}\n")


def records_that_were_edited(folder: Path) -> None:
    (folder / "state").mkdir(exist_ok=True)
    (folder / "state" / "secagg.jsonl").write_text("{}\n")


def ledger(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    """A data set with a budget and a ledger of two lines, damaged."""

    def damaged(folder: Path) -> None:
        policy = folder / "policy.toml"
        policy.write_text(f'{policy.read_text()}[[budgets]]\ndata_set = "heart"\nepsilon = 8.0\ndelta = 1e-5\n')
        with open_ledger(folder / "state" / "ledgers", "heart", UNINTERRUPTED, SystemClock()) as file:
            file.set_budgets([BUDGET])
        damage(folder / "state" / "ledgers" / "heart" / "ledger.jsonl")

    return damaged


def stating(data_set: str, delta: str) -> Callable[[Path], None]:
    """A budget is stated."""

    def states(folder: Path) -> None:
        policy = folder / "policy.toml"
        policy.write_text(f"{policy.read_text()}[[budgets]]\n{data_set}\nepsilon = 8.0\n{delta}\n")

    return states


FAULTS: dict[str, Callable[[Path], None]] = {
    "value.invalid": edited("client.toml", "name =", "nme ="),
    "keys.readable": lambda folder: (folder / "keys" / "tls.key").chmod(0o644),
    "keys.absent": lambda folder: shutil.rmtree(folder / "keys"),
    "home.not_enrolled": lambda folder: (folder / "trust" / "certificate.pem").unlink(),
    "certificate.other_name": edited("client.toml", '"north"', '"south"'),
    "name.unknown": edited("client.toml", "127.0.0.1", "no-such-host.invalid"),
    "policy.plain_sums": edited("policy.toml", "plain_sums = true", "plain_sums = false"),
    "secagg.records_edited": records_that_were_edited,
    "policy.no_schemas": edited("policy.toml", '"heart/1" = "heart"', ""),
    "task.digest": edited("policy.toml", locate("heart").digest, "0" * 64),
    "task.unknown": edited("policy.toml", 'name = "heart"', 'name = "lungs"'),
    "data.absent": lambda folder: (folder / "data" / "heart.toml").unlink(),
    "shard.file": edited("data/heart.toml", "cleveland.parquet", "gone.parquet"),
    "shard.schema": edited("data/heart.toml", '"heart/1"', '"heart/2"'),
    "data.rows": rows_that_do_not_fit,
    "journal.edited": journal_that_was_edited,
    "dp.delta": stating('data_set = "heart"', "delta = 0.5"),
    "ledger.edited": ledger(lambda lines: lines.write_bytes(lines.read_bytes().replace(b"8.0", b"9.0"))),
    "ledger.read_only": ledger(lambda lines: lines.chmod(0o400)),
    "ledger.E_LEDGER_ROLLBACK": ledger(lambda lines: lines.unlink()),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_in_the_folder_is_found_by_its_name(tmp_path: Path, code: str) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            FAULTS[code](folder)
            found = await examine(folder)
            fault_of(found, code)
            assert not any(CELL in finding.what + finding.fix for finding in found)
            assert not any("PRIVATE" in finding.what for finding in found)

    run(scenario())


@pytest.mark.parametrize(("delta", "wanted"), [("1e-5", False), ("2e-5", True)])
def test_a_delta_over_files_that_nobody_counts_is_a_fault_unless_it_is_small(
    tmp_path: Path, delta: str, wanted: bool
) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            edited("data/heart.toml", 'format = "parquet"', 'format = "files"')(folder)
            stating('data_set = "heart"', f"delta = {delta}")(folder)
            assert ("dp.delta" in codes(await examine(folder))) == wanted

    run(scenario())


def test_a_budget_of_a_data_set_that_nothing_is_mapped_to_is_a_warning(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            stating('data_set = "hart"', "delta = 1e-5")(folder)
            assert "policy.budget_of_none" in codes(await examine(folder), State.WARNING)

    run(scenario())


def test_a_budget_for_persons_over_rows_of_nobody_is_a_warning_and_persons_are_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            policy, rows, data = folder / "policy.toml", folder / "visits.csv", folder / "data" / "heart.toml"
            budget = '[[budgets]]\ndata_set = "heart"\nepsilon = 8.0\ndelta = 1e-5\nunit = "person"\n'
            policy.write_text(policy.read_text() + budget)
            found = await examine(folder)
            assert "data.persons" in codes(found, State.WARNING)
            rows.write_text(visits([2, 3, 1]))
            lines = [line for line in data.read_text().splitlines() if not line.startswith(("uris", "format"))]
            data.write_text("\n".join([*lines, f'uris = ["{rows}"]', 'format = "csv"', 'person = "patient"', ""]))
            found = await examine(folder)
            assert "data.persons" not in codes(found, State.WARNING)
            assert any("6 rows of 3 persons fit heart/1" in finding.what for finding in found)

    run(scenario())


def test_a_folder_in_which_all_is_well_has_no_fault_and_its_daemon_is_seen(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
            found = await examine(folder)
            assert codes(found) == ["client.not_running"]
            assert codes(found, State.WARNING) == []
            assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path != folder) == before
            stop, ready = asyncio.Event(), asyncio.Event()
            serving_it = asyncio.create_task(Daemon(folder).serve(stop, ready.set))
            await ready.wait()
            found = await examine(folder)
            assert codes(found) == []
            assert any("304 rows fit heart/1" in finding.what for finding in found)
            stop.set()
            await serving_it

    run(scenario())


def test_a_policy_that_demands_secure_aggregation_is_well_and_said_in_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            edited("policy.toml", "plain_sums = true", "secure_aggregation = true")(folder)
            found = await examine(folder)
            assert [finding.code for finding in found if finding.check == "policy"] == [""]
            (policy,) = [finding.what for finding in found if finding.check == "policy"]
            assert "secure sums alone, secure against a server that lies, of 3 partners or more, 0% colluding" in policy

    run(scenario())


@pytest.mark.parametrize(("code", "told"), [(0, ""), (304, "torch.locked_out")])
def test_a_gpu_whose_driver_does_not_start_in_the_lock_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    gpu = Capacity(device="cuda:0", described="CUDA: a GPU")
    monkeypatch.setattr("aimass.client.capacity.capacity_of", lambda _limits: gpu)
    monkeypatch.setattr("aimass.client.doctor_data.cuda_inside", lambda _folder: code)

    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            (found,) = [finding for finding in await examine(ward(edge)) if finding.check == "torch"]
            assert found.code == told
            assert ("cuInit: 304" if code else "on CUDA: a GPU") in found.what

    run(scenario())


def test_a_device_that_the_settings_name_and_torch_cannot_use_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            with (folder / "client.toml").open("a") as file:
                file.write('\n[child]\ndevice = "cuda:63"\n')
            (found,) = [finding for finding in await examine(folder) if finding.check == "torch"]
            assert (found.state, found.code) == (State.FAULT, "child.device")
            assert f"In {folder}/client.toml, under [child]" in found.fix

    run(scenario())


@pytest.mark.parametrize(("device", "told"), [("", "torch.no_cuda"), ("cpu", "")])
def test_a_gpu_that_torch_cannot_use_is_found_where_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, told: str
) -> None:
    monkeypatch.setattr("aimass.client.capacity._A_GPU", tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            with (folder / "client.toml").open("a") as file:
                file.write(f'\n[child]\ndevice = "{device}"\n')
            (found,) = [finding for finding in await examine(folder) if finding.check == "torch"]
            assert found.code == told

    run(scenario())


def test_a_person_is_asked_for_no_data(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            found = await examine(partner_folder(edge, "anna"))
            assert codes(found) == []
            assert {"policy", "data", "torch", "daemon"}.isdisjoint({finding.check for finding in found})

    run(scenario())


@pytest.mark.parametrize(("shift_s", "state"), [(60.0, State.WARNING), (500.0, State.FAULT), (-500.0, State.FAULT)])
def test_a_clock_that_differs_from_the_servers_is_found(tmp_path: Path, shift_s: float, state: State) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path), clock=ShiftedClock([shift_s])) as edge:
            assert fault_of(await examine(ward(edge)), "clock.skew").state is state

    run(scenario())


def test_a_server_of_another_root_is_told_from_one_of_ours(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        other = Members.create(tmp_path / "other")
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            (folder / "trust" / "root.pem").write_bytes(other.root.root.to_pem())
            fault_of(await examine(folder), "tls.other_root")

    run(scenario())


def test_a_name_that_the_servers_certificate_lacks_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        settings = members.folder / "hub" / "server.toml"
        settings.write_text(settings.read_text().replace('listen = "127.0.0.1:0"', 'listen = "0.0.0.0:0"', 1))
        async with serving(members) as edge:
            folder = ward(edge)
            edited("client.toml", "127.0.0.1", "127.0.0.2")(folder)
            fault_of(await examine(folder), "tls.name")

    run(scenario())


def test_a_port_on_which_nobody_or_somebody_else_listens_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))
                edited("client.toml", edge.address, f"127.0.0.1:{closed.getsockname()[1]}")(folder)
                fault_of(await examine(folder), "port.refused")

    run(scenario())


def test_the_port_of_enrolment_in_place_of_that_of_work_is_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            edited("client.toml", edge.address, edge.enrol_address)(folder)
            assert "port of enrolment" in fault_of(await examine(folder), "wire.other_service").fix

    run(scenario())


def test_a_revoked_partner_hears_it_from_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            await edge.revoke("north")
            assert fault_of(await examine(folder), "trust.revoked").check == "server"

    run(scenario())


def test_a_certificate_that_has_ended_is_found_here_and_so_is_one_for_another_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            folder = ward(edge)
            ended = members.issued("north", Role.PARTNER, now=time.time() - 500 * 86_400)
            (folder / "trust" / "certificate.pem").write_bytes(ended.certificate_pem)
            found = await examine(folder)
            fault_of(found, "certificate.expired")
            fault_of(found, "certificate.other_key")

    run(scenario())


def test_a_roster_that_waits_and_a_server_that_takes_no_work_are_warnings(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        settings = members.folder / "hub" / "server.toml"
        lines = [line for line in settings.read_text().splitlines() if not line.startswith("min_free_bytes")]
        settings.write_text("\n".join(lines).replace("[limits]", f"[limits]\nmin_free_bytes = {1 << 60}"))
        async with serving(members) as edge:
            folder = ward(edge)
            newer = members.root.sign([members.request("west", Role.PARTNER)], time.time())
            (folder / "trust" / "pending.json").write_bytes(newer)
            assert codes(await examine(folder), State.WARNING) == ["roster.pending", "server.not_serving"]

    run(scenario())


def test_a_proxy_is_told_and_the_way_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            folder = ward(edge)
            monkeypatch.setenv("https_proxy", "http://u:hunter2@127.0.0.1:1")
            found = await examine(folder)
            assert fault_of(found, "proxy.set").state is State.WARNING
            assert not any("hunter2" in finding.what + finding.fix for finding in found)

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    run(scenario())
