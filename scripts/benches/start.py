"""How long a person waits: `aimass --help`, a server that is ready, a daemon that is connected."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.benches.row import Row
from scripts.demos.house import House


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(*, quick: bool) -> list[Row]:
    """Seconds, each of a fresh process."""
    repetitions = 3 if quick else 9
    command = str(Path(sys.executable).with_name("aimass"))
    helps = [
        _seconds(lambda: subprocess.run([command, "--help"], capture_output=True, check=True))
        for _ in range(repetitions)
    ]
    servers, daemons = [], []
    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house:
        house.found(["north"])
        for _ in range(repetitions):
            house.stop("server")
            servers.append(_seconds(house.start_server))
            daemons.append(_seconds(lambda: house.start_partner("north")))
            house.stop("north")
    return [
        Row.of("aimass --help", helps, "s", 0.3, "lower"),
        Row.of("server ready", servers, "s", 2.0, "lower"),
        Row.of("daemon ready", daemons, "s", 2.0, "lower"),
    ]
