"""The journal of every byte released: append-only, flushed before the bytes leave, each line chained to the last.

A line is canonical JSON whose `previous` is the SHA-256 of the line before it. A torn last line, from a crash in the
middle of writing, is cut off: its bytes never left.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from aimass.proto.durable import Durability, append_line
from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = ["Journal", "JournalLine", "read_journal"]

_START: Final = "0" * 64


class JournalLine(Value, frozen=True):
    """One release: what left, when, to which server and run, under which mechanisms."""

    at: float
    server: str
    run_id: str
    step: int
    kind: str
    digest: str
    bytes: int
    tensors: int
    metrics: tuple[str, ...]
    figures: tuple[str, ...]
    mechanisms: tuple[str, ...]
    previous: str


class Journal:
    """Opened, its chain verified; raises `IntegrityError` for a journal that was edited."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path, self._durability = path, durability
        data = path.read_bytes() if path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        self._released = {(line.run_id, line.step, line.digest) for line in _verified(whole)}
        self._head = hashlib.sha256(whole.splitlines()[-1]).hexdigest() if whole else _START

    def __len__(self) -> int:
        """Releases so far."""
        return len(self._released)

    @property
    def head(self) -> str:
        """SHA-256 of the last line."""
        return self._head

    def record(self, line: JournalLine) -> None:
        """Append a release; the same bytes for the same step are one release, however often they are sent."""
        if (line.run_id, line.step, line.digest) in self._released:
            return
        data = canonical_json(line)
        append_line(self._path, data, self._durability, "client.journal")
        self._head = hashlib.sha256(data).hexdigest()
        self._released.add((line.run_id, line.step, line.digest))


def read_journal(path: Path) -> tuple[JournalLine, ...]:
    """All releases, the chain verified."""
    data = path.read_bytes() if path.is_file() else b""
    return _verified(data[: data.rfind(b"\n") + 1])


def _verified(data: bytes) -> tuple[JournalLine, ...]:
    previous, lines = _START, []
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            line = decode_canonical_json(JournalLine, text, f"line {number} of the journal")
        except BadInput as error:
            raise _edited(number) from error
        if line.previous != previous:
            raise _edited(number)
        previous = hashlib.sha256(text).hexdigest()
        lines.append(line)
    return tuple(lines)


def _edited(number: int) -> IntegrityError:
    return IntegrityError(
        "the journal of releases was changed",
        code="journal.edited",
        value=f"line {number}",
        cure="Restore it from a backup; nothing leaves until it is whole.",
    )
