"""A driver that a server sees to, as a process: it begins the run if nobody has, and goes on with it by the command.

    python -m aimass.server.offline.child PARENT ORDER

It ends when its server does, however that ends: the next one goes on from the run's store.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from aimass.proto.commands import main as command
from aimass.proto.data_sets import read_name
from aimass.proto.errors import AimassError
from aimass.proto.objects import open_objects
from aimass.proto.parent import end_with
from aimass.proto.plan import decode_plan
from aimass.proto.storage import map_file
from aimass.proto.values import decode_json
from aimass.server.datasets.versions import opened
from aimass.server.offline.begin import begin
from aimass.server.offline.journal import Journal
from aimass.server.offline.order import WORK, Order
from aimass.server.offline.site import BLOBS

__all__ = ["main"]


def main(parent: int, order: Order, folder: Path) -> int:
    """Go on with the run until it ends; the exit code."""
    end_with(parent)
    journal = Journal(order.out, folder / WORK / BLOBS)
    try:
        _begun(journal, order)
    except AimassError as error:
        sys.stderr.write(f"{error.sentence()} [{error.code}]\n")
        return 1
    workers = ["--master", order.master] if order.master else ["--workers", str(order.workers)]
    return command(["offline", "run", "--resume", "--out", order.out, "--work", str(folder / WORK), *workers])


def _begun(journal: Journal, order: Order) -> None:
    if journal.begun:
        return
    blobs = journal.blobs()
    blobs.put([map_file(Path(order.model))])
    data_set, stores = opened(read_name(order.data_set), [open_objects(url) for url in order.stores], time.time())
    begin(journal, decode_plan(Path(order.plan).read_bytes()), data_set, stores, None, blobs, order.schedule)


if __name__ == "__main__":
    path = Path(sys.argv[2])
    sys.exit(main(int(sys.argv[1]), decode_json(Order, path.read_bytes(), str(path)), path.parent))
