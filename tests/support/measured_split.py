"""A split of so many rows in a process of its own: `python -m tests.support.measured_split ROWS FOLDER RULE` prints its
peak of resident memory in bytes, with little of everything held at once."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from aimass.proto.objects import open_objects
from aimass.server.datasets.sources import Reading
from tests.support.data_sets import make, toy_rows, write_csv


def main() -> None:
    rows, folder, rule = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    file = write_csv(folder / "one.csv", toy_rows(1_000))
    head, _, body = file.read_text("utf-8").partition("\n")
    with (folder / "all.csv").open("w") as out:
        out.write(head + "\n")
        for _ in range(rows // 1_000):
            out.write(body)
    reading = Reading(batch_rows=1_000, block_bytes=32 << 10, waiting_bytes=256 << 10)
    made = make(open_objects(f"file://{folder}/store"), [folder / "all.csv"], folder / "scratch", rule, reading=reading)
    if made.manifest.rows != rows:
        raise AssertionError(made.manifest.rows)
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}\n")


if __name__ == "__main__":
    main()
