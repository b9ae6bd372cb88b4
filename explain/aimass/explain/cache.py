"""Results that were found before: kept by the digests of all that decides them, so that a second look is instant.

What decides a result is the model's parameters, the rows and what stands beside them, the background, the options, the
seed, the software, and the source of what reads, predicts and explains: this package, the one that all sides share, and
every installed task. A function has no digest, so what is said of it is never kept.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

import aimass.explain
import aimass.proto
from aimass.explain.images import Images
from aimass.explain.lineage import software
from aimass.explain.questions import Asking
from aimass.explain.results import Result
from aimass.explain.rows import Rows
from aimass.explain.texts import Texts
from aimass.explain.work import Work
from aimass.proto.cache import cache_folder
from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import AimassError
from aimass.proto.task import installed_tasks, locate
from aimass.proto.values import canonical_json

__all__ = ["ResultCache", "asking_key", "rows_digest", "source_digest"]

_MOST_BYTES: Final = 512 << 20


class ResultCache:
    """Results in a folder, the longest unused of which go once they take more than `most_bytes`."""

    def __init__(self, folder: Path | None = None, most_bytes: int = _MOST_BYTES) -> None:
        self._folder = folder or cache_folder() / "explain" / "results"
        self._most_bytes = most_bytes

    def answer(self, asking: Asking, work: Work) -> Result:
        """The answer that is kept, or one that is found now and kept then. What cannot be read is found again."""
        if not asking.model.digest:
            return asking.answer(work)
        path = self._folder / f"{asking_key(asking, work.seed)}.json"
        if (held := self._held(path, asking.question.result)) is not None:
            return held
        found = asking.answer(work)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_file(path, found.to_json(), UNINTERRUPTED, "explain.result", 0o600)
        self._prune(path)
        return found

    def _held(self, path: Path, kind: type[Result]) -> Result | None:
        try:
            held = kind.from_json(path.read_bytes())
            path.touch()
        except (OSError, AimassError):
            return None
        return held

    def _prune(self, newest: Path) -> None:
        """Another process may prune beside this one: what is gone is gone."""
        files = [(path.stat(), path) for path in self._folder.glob("*.json") if path.exists()]
        left = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda each: each[0].st_mtime):
            if left <= self._most_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                left -= status.st_size


def rows_digest(rows: Rows | Images | Texts) -> str:
    """SHA-256 of all that a result may say of rows: cells and labels, name, what stands beside, whether held out."""
    beside = (part for name, column in sorted(rows.beside.items()) for part in (name, *map(str, np.asarray(column))))
    return _key(rows.digest, rows.name, str(rows.held_out), *beside)


def asking_key(asking: Asking, seed: int) -> str:
    """SHA-256 of all that decides an answer: two that ask alike under one seed have it in common."""
    model, background = asking.model, asking.background
    compared = "" if background is None else rows_digest(background)
    options = canonical_json(asking.options).decode()
    of = (model.name, model.digest, rows_digest(asking.rows), compared)
    return _key(asking.question.name, *of, options, str(seed), _source())


@functools.cache
def _source() -> str:
    """The software's versions, and the source as it is: a version's number stands still while it is worked on."""
    ours = (Path(folder) for package in (aimass.explain, aimass.proto) for folder in package.__path__)
    tasks = (locate(name).folder for name in installed_tasks())
    return _key(canonical_json(software()).decode(), source_digest((*ours, *tasks)))


def source_digest(folders: Iterable[Path]) -> str:
    """SHA-256 of all files of Python below these, by their places there."""
    hasher = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            place = str(path.relative_to(folder)).encode()
            hasher.update(hashlib.sha256(place).digest() + hashlib.sha256(path.read_bytes()).digest())
        hasher.update(b"\0")
    return hasher.hexdigest()


def _key(*parts: str) -> str:
    hasher = hashlib.sha256(b"AIMass explanation v1\0")
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big") + data)
    return hasher.hexdigest()
