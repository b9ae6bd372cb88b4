"""The doctor in a server's folder, running or not: each fault that is put in is found by its name, and has a cure."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from aimass.privacy.keys import create_keys
from aimass.proto.apps import install, read_app
from aimass.proto.checks import State
from aimass.server.store import Store
from tests.proto.test_apps import write
from tests.support.doctors import codes, examine, fault_of
from tests.support.edge_federation import Members, run, serving
from tests.support.identity import PEOPLE, Provider


def hub(tmp_path: Path) -> Path:
    """A server's folder in which all is well; it does not run."""
    folder = Members.create(tmp_path).folder / "hub"
    (folder / "data" / "spool").mkdir(parents=True)
    Store.open(folder / "data" / "runs.sqlite").close()
    return folder


def floor(folder: Path) -> None:
    settings = folder / "server.toml"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("min_free_bytes")]
    settings.write_text("\n".join(lines).replace("[limits]", f"[limits]\nmin_free_bytes = {1 << 60}"))


def other_keys(folder: Path) -> None:
    for path in (folder / "keys").iterdir():
        path.unlink()
    (folder / "keys").rmdir()
    create_keys(folder / "keys")


def from_the_future(folder: Path) -> None:
    os.utime(folder / "bundle.json", (time.time() + 9_000, time.time() + 9_000))


def of_a_later_release(folder: Path) -> None:
    with sqlite3.connect(folder / "data" / "runs.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def broken_app(folder: Path) -> None:
    app = install(read_app(write(folder.parent / "tiny")), folder)
    path = app.folder / "tiny" / "server_app.py"
    path.chmod(0o644)
    path.write_text("app = 1\n")


def people(folder: Path, service: str, keys: bytes) -> None:
    settings = folder / "server.toml"
    settings.write_text(settings.read_text() + PEOPLE.replace("explainer", service))
    if keys:
        (folder / "keys.json").write_bytes(keys)


FAULTS: dict[str, Callable[[Path], object]] = {
    "value.invalid": lambda folder: (folder / "server.toml").write_text("nme = 3"),
    "keys.readable": lambda folder: (folder / "keys" / "identity.key").chmod(0o640),
    "server.not_enrolled": lambda folder: (folder / "bundle.json").unlink(),
    "server.other_keys": other_keys,
    "disk.low": floor,
    "clock.set_back": from_the_future,
    "app.changed": broken_app,
    "people.keys_file": lambda folder: people(folder, "grid", b""),
    "people.keys": lambda folder: people(folder, "grid", b"{}"),
    "people.service_unknown": lambda folder: people(folder, "explainer", Provider().key_set()),
    "store.damaged": lambda folder: (folder / "data" / "runs.sqlite").write_bytes(b"x" * 5_000),
    "store.newer": of_a_later_release,
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_in_the_folder_is_found_by_its_name(tmp_path: Path, code: str) -> None:
    folder = hub(tmp_path)
    FAULTS[code](folder)
    found = asyncio.run(examine(folder))
    assert codes(found) == [code]
    fault_of(found, code)


def test_a_server_that_does_not_run_is_told_with_the_command_that_starts_it(tmp_path: Path) -> None:
    folder = hub(tmp_path)
    found = asyncio.run(examine(folder))
    assert codes(found) == []
    stopped = [finding for finding in found if finding.code == "server.not_running"]
    assert len(stopped) == 2
    assert all(str(folder) in finding.fix for finding in stopped)


def test_people_who_could_be_let_in_are_well(tmp_path: Path) -> None:
    folder = hub(tmp_path)
    people(folder, "grid", Provider().key_set())
    found = asyncio.run(examine(folder))
    assert codes(found) == []
    assert [finding.what for finding in found if finding.check == "people"] == [
        "keys of https://login.house.example/aimass that tokens may be signed with: 1"
    ]


def ported(folder: Path, port: int) -> None:
    settings = folder / "server.toml"
    settings.write_text(settings.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))


def test_a_port_that_something_else_holds_is_found(tmp_path: Path) -> None:
    folder = hub(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as held:
        ported(folder, held.getsockname()[1])
        assert codes(asyncio.run(examine(folder))) == ["port.unusable"]
    ported_elsewhere = folder / "server.toml"
    ported_elsewhere.write_text(ported_elsewhere.read_text().replace("127.0.0.1", "192.0.2.1", 1))
    assert codes(asyncio.run(examine(folder))) == ["port.unusable"]


def test_a_server_that_runs_is_known_by_its_key_and_another_one_is_not_taken_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        other = hub(tmp_path / "other")
        async with serving(Members.create(tmp_path)) as edge:
            folder = edge.members.folder / "hub"
            ported(folder, edge.started.port)
            ported(other, edge.started.port)
            found = await examine(folder)
            assert codes(found) == []
            assert any("this server answers" in finding.what for finding in found)
            assert fault_of(await examine(other), "port.taken")

    run(scenario())


def test_what_waits_and_what_is_open_to_others_are_warnings(tmp_path: Path) -> None:
    folder = hub(tmp_path)
    (folder / "data" / "spool" / "left.part").write_bytes(b"x" * 3_000_000)
    settings = folder / "server.toml"
    settings.write_text(f'watch_listen = "0.0.0.0:0"\n{settings.read_text()}')
    found = asyncio.run(examine(folder))
    assert codes(found) == []
    assert {"spool.left", "watch.open"} <= set(codes(found, State.WARNING))
    assert all(finding.fix for finding in found if finding.state is not State.OK)


@pytest.mark.parametrize(("version", "code"), [(None, "flower.missing"), ("1.42.0", "flower.series")])
def test_apps_without_a_flwr_that_runs_them_are_a_fault_and_no_apps_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, code: str
) -> None:
    real = metadata.version

    def told(name: str) -> str:
        if name != "flwr":
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", told)
    folder = hub(tmp_path)
    assert codes(asyncio.run(examine(folder))) == []
    install(read_app(write(tmp_path / "tiny")), folder)
    found = asyncio.run(examine(folder))
    assert codes(found) == [code]
    assert fault_of(found, code).fix == "Type `pip install 'aimass[flower]'`."
