"""A real server or daemon with a fault in its disk: `killing.py server|client FOLDER N` dies by kill -9 at its Nth
durable point; with `full` in place of N each kind of write finds the disk full twice before it succeeds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from aimass.proto.durable import Durability
from aimass.proto.errors import OutOfSpace
from aimass.proto.logs import configure_logs


class KillAt:
    """Counts durable points and kills the process at the Nth."""

    def __init__(self, last: int) -> None:
        self._left = last
        self._lock = threading.Lock()

    def reached(self, point: str) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                sys.stderr.write(f"killed at {point}\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)


class FullTwice:
    """Each kind of durable effect fails twice for want of space."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._lock = threading.Lock()

    def reached(self, point: str) -> None:
        with self._lock:
            tries = self._tries[point] = self._tries.get(point, 0) + 1
        if point.endswith(".write") and tries <= 2:
            sys.stderr.write(f"full at {point}\n")
            raise OutOfSpace("no space left", code="disk.full", cure="Wait: this disk gets free by itself.")


def main() -> None:
    kind, folder, fault = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    durability: Durability = FullTwice() if fault == "full" else KillAt(int(fault))
    configure_logs()
    stop = asyncio.Event()

    def ready(*_: object) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        if kind == "server":
            from aimass.server.main import serve

            await serve(folder, stop, ready, durability=durability)
        else:
            from aimass.client.daemon import Daemon

            await Daemon(folder, durability=durability).serve(stop, ready)

    asyncio.run(run())


if __name__ == "__main__":
    main()
