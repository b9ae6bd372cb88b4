"""Equal rows are found among any number of them: hashes on the disk in parts, each small enough to be looked through.

A row counts by 16 bytes of its SHA-256: of 10^9 rows two different ones look equal with a chance of 10^-21.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.durable import disk_errors, make_folder

__all__ = ["Found", "RowIndex"]

_PARTS: Final = 64
_RECORD: Final = np.dtype([("hash", "V16"), ("held", "?")])


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """`duplicates` are rows equal to one before; `leaked` are held out while an equal one is trained on."""

    duplicates: int
    leaked: int


class RowIndex:
    """Hashes of rows in a folder that is this index's alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = make_folder(folder)

    def add(self, hashes: Sequence[bytes], held: npt.NDArray[np.bool_]) -> None:
        """The rows of one shard: their SHA-256, and which are held out there."""
        records = np.empty(len(hashes), _RECORD)
        records["hash"] = [each[:16] for each in hashes]
        records["held"] = held
        of_part = np.array([each[0] for each in hashes], np.uint8) % _PARTS
        order = np.argsort(of_part, kind="stable")
        ends = np.searchsorted(of_part[order], np.arange(_PARTS), side="right")
        for part, rows in enumerate(np.split(records[order], ends[:-1])):
            if len(rows):
                with disk_errors("an index of rows"), self._part(part).open("ab") as file:
                    file.write(rows.tobytes())

    def found(self) -> Found:
        """Over all shards that were added."""
        parts = [_look_through(np.fromfile(path, _RECORD)) for path in self._parts()]
        return Found(sum(each.duplicates for each in parts), sum(each.leaked for each in parts))

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:02}.rows"

    def _parts(self) -> Iterator[Path]:
        return (path for path in map(self._part, range(_PARTS)) if path.is_file())


def _look_through(records: npt.NDArray[np.void]) -> Found:
    row = np.unique(records["hash"], return_inverse=True)[1]
    trained_on = np.zeros(int(row.max(initial=-1)) + 1, dtype=bool)
    trained_on[row[~records["held"]]] = True
    leaked = int((records["held"] & trained_on[row]).sum())
    return Found(duplicates=len(records) - len(trained_on), leaked=leaked)
