"""A split that dies by kill -9 before and after every change of its store, and is done again from what it left:
`python -m tests.support.killed_split FILE FOLDER RULE` prints a line for each kill, what stood after it and after all."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aimass.proto.console import plain
from aimass.proto.objects import ObjectInfo, ObjectStore, open_objects
from tests.support.data_sets import make


class Dying:
    """A store that kills its process at the `last`th point: before and after each change is one."""

    def __init__(self, store: ObjectStore, last: int) -> None:
        self._store, self._left = store, last

    @property
    def url(self) -> str:
        return self._store.url

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def create(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        self._count()
        info = self._store.create(key, data)
        self._count()
        return info

    def put(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        self._count()
        info = self._store.put(key, data)
        self._count()
        return info

    def delete(self, key: str) -> None:
        self._count()
        self._store.delete(key)
        self._count()

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        return self._store.read(key, start, size, version)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._store.list(prefix)


def main() -> None:
    file, folder, rule = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    killed, at = True, 0
    while killed:
        at += 1
        store = open_objects(f"file://{folder}/store{at}")
        killed = _dies(store, at, file, folder, rule)
        stood = [info.key for info in store.list("toy/versions/")]
        made = make(store, [file], folder / f"again{at}", rule)
        told = {
            "killed": killed,
            "stood": len(stood),
            "fresh": made.fresh,
            "left": len(list(store.list("toy/splits/"))),
            "made": plain(msgspec.structs.replace(made.manifest, created_at=0.0)),
        }
        sys.stdout.write(json.dumps(told) + "\n")


def _dies(store: ObjectStore, at: int, file: Path, folder: Path, rule: str) -> bool:
    child = os.fork()
    if child == 0:
        make(Dying(store, at), [file], folder / f"scratch{at}", rule)  # type: ignore[arg-type]
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
