"""Backups: whole or not there, as of one moment, with everything that the moment needs; restores into a new place."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from aimass.proto.apps import find
from aimass.proto.errors import AimassError, BadInput, Conflict, IntegrityError, NotFound, VersionRefused
from aimass.proto.flower.records import EMPTY_DIGEST, EMPTY_MODEL
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json, decode_json
from aimass.server.backup import back_up
from aimass.server.backup_manifest import Manifest, read_manifest, verify
from aimass.server.flower.journal import Past, State
from aimass.server.restore import restore
from aimass.server.runs import Run
from aimass.server.standstill import deleting
from aimass.server.store_copy import copy_store, reading
from tests.support.edge_federation import Members, raw, run, serving
from tests.support.edge_runs import PARTNERS, model, open_step, submit_run
from tests.support.flower import exchange, flower_plan
from tests.support.flower_apps import app_of

SUBMIT = "/aimass.v1.Blobs/Submit"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server with one run whose first step is open; nobody changes it."""
    folder = tmp_path_factory.mktemp("stopped")

    async def scenario() -> None:
        async with serving(Members.create(folder)) as edge:
            _, lines = await open_step(edge, model())
            for line in lines.values():
                line.call.cancel()

    run(scenario())
    return folder / "hub"


@pytest.fixture
def server(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(stopped, tmp_path / "hub"))


def _snapshots(store: Path) -> dict[str, Run]:
    with reading(store) as copy:
        return {row.run_id: row.run for row in copy.runs()}


def _change(store: Path, change: Callable[[Run], Run]) -> None:
    """Give every run of a store another state."""
    with closing(sqlite3.connect(store)) as connection, connection:
        for run_id, snapshot in connection.execute("SELECT run_id, snapshot FROM runs").fetchall():
            changed = canonical_json(change(decode_json(Run, snapshot, "a run")))
            connection.execute("UPDATE runs SET snapshot = ? WHERE run_id = ?", (changed, run_id))


def test_a_running_server_is_backed_up_and_restored_with_its_open_run_waiting_for_its_partners(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            run_id, lines = await open_step(edge, model())
            hub, to, new = tmp_path / "hub", tmp_path / "backup", tmp_path / "new"
            manifest = await asyncio.to_thread(back_up, hub, to)
            later = await submit_run(edge, key="another one")
            for line in lines.values():
                line.call.cancel()
        verify(to, manifest)
        assert (manifest.open_runs, manifest.keys, manifest.roster_epoch) == ((run_id,), False, 1)
        done = restore(to, new)
        assert done.open_runs == (run_id,)
        assert not (new / "keys").exists()
        assert (new / "server.toml").read_bytes() == (hub / "server.toml").read_bytes()
        restored = _snapshots(new / "data" / "runs.sqlite")
        assert later not in restored
        assert restored[run_id].unheard == PARTNERS
        assert FileBlobs(new / "data" / "blobs").has(restored[run_id].model)

    run(scenario())


def test_a_restored_server_lacks_no_first_model_of_a_run_and_one_that_was_on_its_way_is_sent_again(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        blobs = [model(elements) for elements in (4, 5, 6, 70_000)]
        async with serving(members) as edge:
            run_id, lines = await open_step(edge, blobs[0])
            ended = await submit_run(edge, blob=blobs[1], key="another one")
            await rpc.ControlStub(edge.channel("olga")).ChangeRun(pb.ChangeRunRequest(run_id=ended, change="stop"))
            await submit(edge.channel("anna"), _header(blobs[2]), memoryview(blobs[2]))  # and no plan yet
            begun = raw(edge.channel("anna"), SUBMIT)  # some bytes of it are here
            await begun.write(canonical_json(_header(blobs[3])))
            await begun.read()
            await begun.write(blobs[3][:100])
            await asyncio.to_thread(back_up, tmp_path / "hub", tmp_path / "backup", with_keys=True)
            for call in (begun, *(line.call for line in lines.values())):
                call.cancel()
        restore(tmp_path / "backup", tmp_path / "new")
        shutil.rmtree(tmp_path / "hub")
        (tmp_path / "new").rename(tmp_path / "hub")
        restored = _snapshots(tmp_path / "hub" / "data" / "runs.sqlite")
        assert set(restored) == {run_id, ended}
        held = FileBlobs(tmp_path / "hub" / "data" / "blobs")
        for again in restored.values():
            assert held.has(again.plan.model)
            assert held.has(again.model)
        async with serving(members) as edge:
            for number, blob in enumerate(blobs):
                assert await submit_run(edge, blob=blob, key=f"after the restore {number}")

    run(scenario())


def _header(blob: bytes) -> SubmitHeader:
    return SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)


def test_keys_go_along_only_where_it_is_said_and_for_their_owner_alone(server: Path, tmp_path: Path) -> None:
    assert not any("key" in name for name in back_up(server, tmp_path / "without").files)
    back_up(server, tmp_path / "with", with_keys=True)
    assert restore(tmp_path / "with", tmp_path / "new").keys
    for path in (tmp_path / "new" / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert path.read_bytes() == (server / "keys" / path.name).read_bytes()
    for path in (tmp_path / "with").rglob("*.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_second_backup_copies_no_blob_again_and_leaves_no_state_but_its_own(server: Path, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    first = back_up(server, to)
    blobs = {path: path.stat().st_mtime_ns for path in to.glob("blobs/??/*")}
    second = back_up(server, to)
    assert {path: path.stat().st_mtime_ns for path in to.glob("blobs/??/*")} == blobs
    assert first.state != second.state
    assert [path.name for path in to.glob("*state-*")] == [second.state]
    verify(to, second)


def test_a_blob_that_no_run_keeps_any_more_goes_with_the_next_backup(server: Path, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    back_up(server, to)
    stray = to / "blobs" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a run that was pruned")
    verify(to, back_up(server, to))
    assert not stray.exists()


@pytest.mark.parametrize("damage", ["changed", "longer", "gone", "a link"])
def test_a_file_that_changed_is_found_named_and_never_restored(server: Path, tmp_path: Path, damage: str) -> None:
    to = tmp_path / "backup"
    manifest = back_up(server, to)
    victim = next(to.glob("blobs/??/*"))
    data = victim.read_bytes()
    match damage:
        case "changed":
            victim.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        case "longer":
            victim.write_bytes(data + b"x")
        case "gone":
            victim.unlink()
        case _:
            victim.rename(tmp_path / "elsewhere")
            victim.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=victim.name) as found:
        verify(to, manifest)
    with pytest.raises(IntegrityError):
        restore(to, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
    if damage == "changed":  # a backup over it copies no blob whose size is right
        with pytest.raises(IntegrityError):
            verify(to, back_up(server, to))
    assert "Delete the named files" in found.value.cure
    victim.unlink(missing_ok=True)
    verify(to, back_up(server, to))


def test_while_the_store_is_copied_nothing_that_it_needs_is_deleted_and_after_that_it_may_be(
    server: Path, tmp_path: Path
) -> None:
    """As by a run whose newest model is superseded many times in a second."""
    data, to = server / "data", tmp_path / "backup"
    (open_run,) = _snapshots(data / "runs.sqlite").values()
    allowed: list[bool] = []

    def superseded(*_: object) -> None:
        with deleting(data) as may:
            allowed.append(may)
            if may:
                FileBlobs(data / "blobs").delete(open_run.model)

    manifest = back_up(server, to, progress=superseded)
    verify(to, manifest)
    assert FileBlobs(to / "blobs").has(open_run.model)
    assert not FileBlobs(data / "blobs").has(open_run.model)
    assert allowed == sorted(allowed)
    assert not allowed[0]


class _Cut(BaseException):
    """Ctrl-C, or the end of the machine."""


@dataclasses.dataclass
class _CutAt:
    left: int

    def reached(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Cut


@pytest.mark.parametrize("point", range(1, 9))
def test_a_backup_that_is_cut_anywhere_leaves_the_one_before_whole(server: Path, tmp_path: Path, point: int) -> None:
    to = tmp_path / "backup"
    with contextlib.suppress(_Cut):
        back_up(server, to, durability=_CutAt(point))
    with contextlib.suppress(NotFound):
        verify(to, read_manifest(to))
    before = back_up(server, to)
    with contextlib.suppress(_Cut):
        back_up(server, to, durability=_CutAt(point))
    held = read_manifest(to)
    verify(to, held)
    again = back_up(server, to)
    verify(to, again)
    assert before.runs == held.runs == again.runs
    assert sorted(path.name for path in to.iterdir()) == [".lock", "blobs", "manifest.json", again.state]


@dataclasses.dataclass
class _AfterTheStore:
    """Does something in the moment in which the store has been copied and the blobs have not."""

    act: Callable[[], None]
    acted: bool = False

    def __call__(self, done: int, of: int) -> None:
        if done == of and not self.acted:
            self.acted = True
            self.act()


def test_a_model_that_a_newer_one_supersedes_meanwhile_makes_the_store_be_copied_again(
    server: Path, tmp_path: Path
) -> None:
    blobs = FileBlobs(server / "data" / "blobs")
    older, newer = blobs.put([b"an older model"]), blobs.put([b"a newer model"])
    _change(server / "data" / "runs.sqlite", lambda run: msgspec.structs.replace(run, model=older))

    def supersede() -> None:
        _change(server / "data" / "runs.sqlite", lambda run: msgspec.structs.replace(run, model=newer))
        blobs.delete(older)

    manifest = back_up(server, tmp_path / "backup", progress=_AfterTheStore(supersede))
    verify(tmp_path / "backup", manifest)
    assert f"blobs/{newer[:2]}/{newer}" in manifest.files
    restore(tmp_path / "backup", tmp_path / "new")
    assert {run.model for run in _snapshots(tmp_path / "new" / "data" / "runs.sqlite").values()} == {newer}


def test_a_model_that_an_open_run_needs_and_the_server_lost_is_told_and_not_passed_over(
    server: Path, tmp_path: Path
) -> None:
    for path in (server / "data" / "blobs").glob("??/*"):
        path.unlink()
    with pytest.raises(IntegrityError) as caught:
        back_up(server, tmp_path / "backup")
    assert caught.value.code == "backup.model_lost"
    with pytest.raises(NotFound):
        read_manifest(tmp_path / "backup")


def test_a_store_is_copied_as_it_was_when_the_copy_began_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    source = tmp_path / "store"
    with closing(sqlite3.connect(source)) as live:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("CREATE TABLE t (n INTEGER, filler BLOB)")
        live.executemany("INSERT INTO t VALUES (?, randomblob(4096))", [(n,) for n in range(3_000)])
        live.commit()

        def write(done: int, of: int) -> None:
            live.execute("UPDATE t SET n = n + 1000000")
            live.execute("INSERT INTO t VALUES (-1, randomblob(4096))")
            live.commit()

        copy_store(source, tmp_path / "copy", write)
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT count(*), min(n), max(n) FROM t").fetchone() == (3_000, 0, 2_999)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy"]


def _edited(to: Path, **fields: object) -> None:
    held = msgspec.json.decode((to / "manifest.json").read_bytes())
    (to / "manifest.json").write_bytes(msgspec.json.encode(held | fields))


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"format": 2}, VersionRefused, "backup.format"),
        ({"schema": "9999"}, VersionRefused, "restore.schema"),
        ({"files": {"../escape": {"sha256": "0" * 64, "bytes": 0}}}, BadInput, "backup.path"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 0}}}, BadInput, "backup.path"),
        ({"state": "elsewhere"}, BadInput, "value.invalid"),
        ({"more": 1}, BadInput, "value.invalid"),
    ],
)
def test_a_manifest_of_another_form_is_refused_by_name(
    server: Path, tmp_path: Path, fields: dict[str, object], kind: type[AimassError], code: str
) -> None:
    to = tmp_path / "backup"
    back_up(server, to)
    _edited(to, **fields)
    with pytest.raises(kind) as caught:
        restore(to, tmp_path / "new")
    assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_nothing_is_restored_or_backed_up_over_anything_else(server: Path, tmp_path: Path) -> None:
    to, full = tmp_path / "backup", tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("all of it")
    back_up(server, to)
    for attempt in (lambda: restore(to, full), lambda: back_up(server, full)):
        with pytest.raises(Conflict):
            attempt()
    for place in (server, server / "backup", tmp_path):
        with pytest.raises((BadInput, Conflict)):
            back_up(server, place)
    (tmp_path / "empty").mkdir()
    restore(to, tmp_path / "empty")
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]


def test_two_servers_do_not_share_a_backups_folder(server: Path, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    held = back_up(server, to)
    other = Members.create(tmp_path / "other").folder / "hub"
    shutil.copytree(server / "data", other / "data")
    with pytest.raises(Conflict) as caught:
        back_up(other, to)
    assert caught.value.code == "backup.other_server"
    assert read_manifest(to) == held


def test_a_backup_of_no_server_and_of_one_that_never_ran_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as absent:
        back_up(tmp_path / "nowhere", tmp_path / "backup")
    with pytest.raises(NotFound) as fresh:
        back_up(Members.create(tmp_path).folder / "hub", tmp_path / "backup")
    assert (absent.value.code, fresh.value.code) == ("server.absent", "server.no_store")


def test_a_manifest_comes_back_as_it_was_written(server: Path, tmp_path: Path) -> None:
    manifest = back_up(server, tmp_path / "backup")
    assert isinstance(manifest, Manifest)
    assert read_manifest(tmp_path / "backup") == manifest


def test_what_a_driver_keeps_beside_its_model_goes_along_and_is_missed_where_it_is_gone(
    server: Path, tmp_path: Path
) -> None:
    blobs = FileBlobs(server / "data" / "blobs")
    moments = blobs.put([b"moments"])

    def kept(run: Run) -> Run:
        assert '"moments":""' in run.driver
        return msgspec.structs.replace(run, driver=run.driver.replace('"moments":""', f'"moments":"{moments}"'))

    _change(server / "data" / "runs.sqlite", kept)
    back_up(server, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new")
    assert FileBlobs(tmp_path / "new" / "data" / "blobs").open(moments).tobytes() == b"moments"
    blobs.delete(moments)
    with pytest.raises(IntegrityError) as lost:
        back_up(server, tmp_path / "backup")
    assert lost.value.code == "backup.model_lost"


def test_the_many_replies_of_a_flower_run_and_its_app_go_along_with_few_files_open(
    server: Path, tmp_path: Path
) -> None:
    """Its journal names them until it ends: they are no reason to hold them all open at once."""
    blobs = FileBlobs(server / "data" / "blobs")
    blobs.put([EMPTY_MODEL])
    replies = [blobs.put([str(number).encode()]) for number in range(300)]
    past = tuple(Past.of(exchange(0, 1, ("north",)), {"north": digest}, {}) for digest in replies)
    sent = blobs.put([b"sent last"])
    state = canonical_json(State(model=EMPTY_DIGEST, past=past, sent=(sent,))).decode()
    app = app_of(server, "app = 1")
    plan = flower_plan(("north", "south"), app=app.name, digest=app.digest)
    _change(
        server / "data" / "runs.sqlite",
        lambda run: msgspec.structs.replace(run, plan=plan, model=EMPTY_DIGEST, driver=state, open={}),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 50, hard))
    try:
        manifest = back_up(server, tmp_path / "backup")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    verify(tmp_path / "backup", manifest)
    restore(tmp_path / "backup", tmp_path / "new")
    assert {*replies, sent} <= set(FileBlobs(tmp_path / "new" / "data" / "blobs").digests())
    assert find(tmp_path / "new", app.name, app.digest).digest == app.digest
    (server / "data" / "blobs" / replies[7][:2] / replies[7]).unlink()
    with pytest.raises(IntegrityError, match="an open run needs is gone"):
        back_up(server, tmp_path / "another")
