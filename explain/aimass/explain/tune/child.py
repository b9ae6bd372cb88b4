"""A simulated run of a search, as a process that ends when the search does, however that ends.

    python -m aimass.explain.tune.child PARENT FOLDER PLAN SHARDS [OPTION VALUE]...

It waits until nobody works in the run's folder (of a search that was killed a moment ago the run may still be ending),
and goes on from there where a run was begun.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aimass.proto.commands import main as command
from aimass.proto.durable import make_folder
from aimass.proto.parent import end_with

__all__ = ["main"]

_WORKERS: Final = "--workers"


def main(parent: int, folder: Path, plan: str, shards: str, options: Sequence[str]) -> int:
    """Run `aimass simulate` once the folder is free; its exit code."""
    end_with(parent)
    _wait_for(folder)
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    workers = [_WORKERS, pairs.pop(_WORKERS, "1")]
    begun = (folder / "run.json").is_file()
    begin = [plan, "--shards", shards, *(part for pair in pairs.items() for part in pair)]
    return command(["simulate", *(["--resume"] if begun else begin), *workers, "--out", str(folder)])


def _wait_for(folder: Path) -> None:
    descriptor = os.open(make_folder(folder) / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]))
