"""The run store: migrations make the tables that the code expects, and a change is written whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from aimass.privacy.transcript import Chain, entry_bytes
from aimass.proto.errors import Unavailable, WrongState
from aimass.server import store as module
from aimass.server import tables
from aimass.server.store import Commit, Entry, ModelRow, RunRow, Store
from tests.server.test_run_machine import new_run


def row() -> RunRow:
    run = new_run()
    return RunRow(run.run_id, "sam", 1.0, None, b"plan", "1" * 64, "2" * 64, run)


def entry(chain: Chain, body: bytes) -> Entry:
    data = entry_bytes("ab" * 16, chain, body)
    return Entry(data, body, chain.extended(data))


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.sqlite")
    inspector = sa.inspect(store.engine)
    assert set(inspector.get_table_names()) == {*tables.metadata.tables, "alembic_version"}
    for name, table in tables.metadata.tables.items():
        made = {(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)}
        wanted = {(c.name, str(c.type.compile(store.engine.dialect)), bool(c.nullable)) for c in table.columns}
        assert made == wanted, name
    store.close()


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.sqlite")
    first = entry(Chain(), b"0")
    store.create(row(), "sam:key", first)
    store.save(
        row().run, Commit(entries=(entry(first.chain, b"1"),), models=(ModelRow("ab" * 16, 0, "3" * 64, 1, 10, 2.0),))
    )
    store.close()
    again = Store.open(tmp_path / "runs.sqlite")
    assert again.run_of_key("sam:key") == "ab" * 16
    assert [held.run for held in again.runs()] == [row().run]
    assert again.chain("ab" * 16).entries == 2
    assert again.models(digest="3" * 64)[0].round == 1
    again.close()


def test_the_store_of_a_newer_release_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(WrongState, match="the run store is that of a newer release; got 9999"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_change_of_which_one_part_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "runs.sqlite")
    first = entry(Chain(), b"0")
    store.create(row(), "sam:key", first)
    twice = (ModelRow("ab" * 16, 0, "3" * 64, 1, 10, 2.0),) * 2
    with pytest.raises(sa.exc.IntegrityError):
        store.save(row().run, Commit(entries=(entry(first.chain, b"1"),), models=twice))
    assert store.chain("ab" * 16) == first.chain
    assert store.models() == []
    store.close()


def test_a_locked_store_is_told_as_something_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0)
    store = Store.open(tmp_path / "runs.sqlite")
    other = store.engine.raw_connection()
    other.cursor().execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        store.create(row(), "sam:key", entry(Chain(), b"0"))
    assert caught.value.code == "store.busy"
    other.rollback()
    other.close()
    store.close()
