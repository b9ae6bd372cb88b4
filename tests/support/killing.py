"""Start a real server or daemon that dies by kill -9 at its Nth durable point: `killing.py server|client FOLDER N`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

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


def main() -> None:
    kind, folder, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    configure_logs()
    stop = asyncio.Event()

    def ready(*_: object) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        if kind == "server":
            from aimass.server.main import serve

            await serve(folder, stop, ready, durability=KillAt(last))
        else:
            from aimass.client.daemon import Daemon

            await Daemon(folder, durability=KillAt(last)).serve(stop, ready)

    asyncio.run(run())


if __name__ == "__main__":
    main()
