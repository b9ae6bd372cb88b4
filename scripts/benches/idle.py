"""What a federation costs while nothing happens: four partners that are connected to a server, and no run."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from scripts.benches.row import Row
from scripts.demos.house import House
from scripts.demos.processes import cpu_seconds, family, resident_bytes

_PARTNERS: Final = ("north", "south", "east", "west")
_WINDOWS: Final = 10
_FULL_S: Final = 600.0
_QUICK_S: Final = 40.0


def measure(*, quick: bool) -> list[Row]:
    """Share of one core that all five processes take together, and how their memory grows over the time."""
    window_s = (_QUICK_S if quick else _FULL_S) / _WINDOWS
    shares, resident = [], []
    with tempfile.TemporaryDirectory() as folder, House(Path(folder)) as house:
        house.found(_PARTNERS)
        for name in _PARTNERS:
            house.start_partner(name)
        pids = {pid for name in ("server", *_PARTNERS) for pid in family(house.pid(name))}
        resident.append(resident_bytes(pids))
        for window in range(_WINDOWS):
            before, started = cpu_seconds(pids), time.monotonic()
            time.sleep(window_s)
            shares.append(100 * (cpu_seconds(pids) - before) / (time.monotonic() - started))
            resident.append(resident_bytes(pids))
            sys.stderr.write(f"idle: {(window + 1) * window_s:.0f} of {_WINDOWS * window_s:.0f} s\n")
    growth = [(later - resident[0]) / 1e6 for later in resident[1:]]
    return [
        Row.of("one core, five processes", shares, "%", 1.0, "lower"),
        Row(
            "memory at the end",
            resident[-1] / 1e6,
            "MB",
            (min(resident) / 1e6, max(resident) / 1e6),
            None,
            None,
            "lower",
        ),
        Row("memory grown", growth[-1], "MB", (min(growth), max(growth)), None, 1.0, "lower"),
    ]
