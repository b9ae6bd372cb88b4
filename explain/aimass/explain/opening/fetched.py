"""Models of a training server as files here: each fetched once, by one thread or process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aimass.explain.work import Work
from aimass.proto.cache import cache_folder
from aimass.proto.hashing import digest_of
from aimass.proto.storage import map_file

if TYPE_CHECKING:
    from aimass.proto.api import Federation

__all__ = ["fetched_model", "models_folder"]

_LOOK_S: Final = 0.2
"""How often who waits for another's fetch looks whether they are to wait on: a wish to stop is asked for, not heard."""


def models_folder() -> Path:
    """Where models that were fetched stand, named by their digests."""
    folder = cache_folder() / "explain" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetched_model(federation: Federation, digest: str, work: Work | None = None) -> Path:
    """The file of a committed model, fetched from the server once; the `work` that it is for is told how far it is.

    Who wants a model that another thread or process fetches waits for it. Raises what `Federation.export` raises, and
    `Stopped` or `DeadlinePassed` once the work is to end: what came until then is what the next one goes on from.
    """
    work = work or Work()

    def heard(done: int, whole: int) -> None:
        work.check()
        work.tell(done / max(1, whole), "")

    path = models_folder() / f"{digest}.safetensors"
    with _alone(path, work):
        if not path.is_file() or digest_of((map_file(path),)) != digest:
            federation.export(digest, path, progress=heard)
    return path


@contextlib.contextmanager
def _alone(path: Path, work: Work) -> Iterator[None]:
    """While nobody else fetches this file: two would write into one spool, and spoil it for each other."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        work.check()
        while not _taken(descriptor):
            time.sleep(_LOOK_S)
            work.check()
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
