"""A store is looked at without being changed: by an audit, and by whoever shows what could be deleted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.errors import AimassError, IntegrityError, Unavailable, WrongState
from aimass.server import store_copy
from aimass.server.garbage import collect
from aimass.server.store import Store, known_schemas
from aimass.server.store_copy import inspecting
from tests.support.edge_federation import Members, run, serving
from tests.support.edge_runs import submit_run


def _audited(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["server", "audit", "last", "--dir", str(folder), "--json"])
    captured = capsys.readouterr()
    return code, captured.out or captured.err


def _older(path: Path) -> None:
    """The store says that an earlier release wrote it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v0000'")


def test_an_audit_changes_nothing_and_names_a_store_that_an_older_release_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Members.create(tmp_path)

    async def scenario() -> None:
        async with serving(members) as edge:
            await submit_run(edge)
            code, out = await asyncio.to_thread(_audited, tmp_path / "hub", capsys)
            assert (code, json.loads(out)["faults"]) == (0, []), "while the server runs"

    run(scenario())
    path = tmp_path / "hub/data/runs.sqlite"
    before = hashlib.sha256(path.read_bytes()).digest()
    assert _audited(tmp_path / "hub", capsys)[0] == 0
    assert hashlib.sha256(path.read_bytes()).digest() == before
    _older(path)
    before = hashlib.sha256(path.read_bytes()).digest()
    monkeypatch.setattr(store_copy, "known_schemas", lambda: ("v0000", *known_schemas()))
    code, out = _audited(tmp_path / "hub", capsys)
    error = json.loads(out.splitlines()[-1])["error"]
    assert error["code"] == "store.older"
    assert code != 0
    assert "Start the server" in error["cure"]
    with pytest.raises(WrongState) as caught:
        collect(tmp_path / "hub", dry_run=True)
    assert caught.value.code == "store.older"
    assert hashlib.sha256(path.read_bytes()).digest() == before


def _code(path: Path, kind: type[AimassError]) -> str:
    with pytest.raises(kind) as caught, inspecting(path) as store:
        store.runs()
    return caught.value.code


def test_what_cannot_be_looked_at_is_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    Store.open(path).close()
    with inspecting(path) as store:
        assert store.runs() == []
    _older(path)
    assert _code(path, WrongState) == "store.newer"  # v0000 is none that this release knows
    path.write_bytes(b"no database" * 1_000)
    assert _code(path, IntegrityError) == "store.damaged"
    path.unlink()
    assert _code(path, Unavailable) == "store.unreadable"
    assert not path.exists()
