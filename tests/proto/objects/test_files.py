"""Objects as files: whole after a crash, the disk's own errors by name, and strangers' files left alone."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.proto.errors import AimassError, BadInput, Conflict, OutOfSpace, Refused, Unavailable
from aimass.proto.objects import WRITTEN_S, swept
from aimass.proto.stores import files
from aimass.proto.stores.files import FileObjects, open_store


class Crash(Exception):
    """The process ends here."""


class CrashAt:
    def __init__(self, point: str) -> None:
        self._point = point

    def reached(self, point: str) -> None:
        if point == self._point:
            raise Crash


@pytest.mark.parametrize(("point", "found"), [("objects.write", b"old"), ("objects.written", b"new")])
def test_a_crash_leaves_the_old_object_or_the_new(tmp_path: Path, point: str, found: bytes) -> None:
    FileObjects(tmp_path).put("a", b"old")
    with contextlib.suppress(Crash):
        FileObjects(tmp_path, CrashAt(point)).put("a", b"new")
    assert FileObjects(tmp_path).read("a") == found


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, OutOfSpace, "disk.full"),
        (errno.EDQUOT, OutOfSpace, "disk.full"),
        (errno.EROFS, Refused, "storage.denied"),
        (errno.EIO, Unavailable, "storage.unavailable"),
        (errno.ESTALE, Unavailable, "storage.unavailable"),
    ],
)
def test_a_disk_that_refuses_is_named_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[AimassError], code: str
) -> None:
    store = FileObjects(tmp_path)
    store.put("a", b"old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "write_all", refuse)
    writes: tuple[Callable[[], object], ...] = (
        lambda: store.put("a", b"new"),
        lambda: store.create("b", b"new"),
        lambda: store.write("a", [b"new"]),
    )
    for write in writes:
        with pytest.raises(kind) as caught:
            write()
        assert caught.value.code == code
    assert [(one.key, store.read(one.key)) for one in store.list()] == [("a", b"old")]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileObjects(tmp_path)
    store.put("a", b"old")

    def fail(*_: object) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", fail)
    reads: tuple[Callable[[], object], ...] = (lambda: store.read("a"), lambda: list(store.stream("a")))
    for read in reads:
        with pytest.raises(Unavailable, match="Stale file handle"):
            read()


def test_a_link_that_leads_in_a_circle_is_named(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    (tmp_path / "a").symlink_to(tmp_path / "a")
    looks: tuple[Callable[[], object], ...] = (
        lambda: store.read("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
    )
    for look in looks:
        with pytest.raises(Unavailable, match="symbolic links"):
            look()


def test_a_key_is_no_folder_of_another(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    store.put("a/b", b"1")
    store.put("c", b"2")
    refusals: tuple[Callable[[], object], ...] = (lambda: store.put("a", b"3"), lambda: store.put("c/d", b"3"))
    for refused in refusals:
        with pytest.raises(BadInput) as caught:
            refused()
        assert caught.value.code == "storage.folder"
    with pytest.raises((BadInput, Conflict)):
        store.create("a", b"3")
    assert {one.key: store.read(one.key) for one in store.list()} == {"a/b": b"1", "c": b"2"}


def test_strangers_files_and_what_was_cut_are_not_listed_and_the_cut_is_swept(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    store.put("a/b", b"1")
    (tmp_path / "a" / "~0123").write_bytes(b"cut")
    os.utime(tmp_path / "a" / "~0123", (1_000.0, 1_000.0))
    (tmp_path / "a" / "~4567").write_bytes(b"being written")
    (tmp_path / "my file.txt").write_bytes(b"stranger")
    assert [one.key for one in store.list()] == ["a/b"]
    assert swept(store, 1_000.0 + WRITTEN_S) == 0
    assert swept(store, 1_001.0 + WRITTEN_S, dry_run=True) == 1
    assert swept(store, 1_001.0 + WRITTEN_S) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "my file.txt", "~4567"]


def test_a_file_that_is_changed_in_place_while_it_is_read_is_refused(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    store.put("a", bytes(3_000_000))
    stream = store.stream("a")
    next(stream)
    with store.path("a").open("r+b") as file:
        file.write(b"changed")
        os.utime(file.fileno(), ns=(1, 1))
    with pytest.raises(Conflict) as caught:
        list(stream)
    assert caught.value.code == "storage.replaced"


def test_a_folder_with_a_space_has_a_url_that_leads_back(tmp_path: Path) -> None:
    store = FileObjects(tmp_path / "a b%")
    store.put("x", b"1")
    assert open_store(store.url).read("x") == b"1"
