"""What a server takes in memory while partners send models: 2, 10 and 50 of them, of 100 MB each, and a plain sum.

A real server and a crowd that sends valid contributions over real mutual TLS (see `crowd`). The peak is what the kernel
counts as resident at most, in all; of it, what the server made itself (anonymous memory) is sampled beside it: the
rest is files that it has mapped, which the kernel takes back where others need the room.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from aimass.proto.plan import Cohort
from scripts.benches import crowd
from scripts.benches.row import Row
from scripts.benches.stage import all_say, crowded, one_run, served
from scripts.demos.house import free_port
from scripts.demos.processes import Peak, peak_bytes

_ROUNDS: Final = 2
_WAIT_S: Final = 1_800.0


def measure(*, quick: bool) -> list[Row]:
    """Peaks at 2, 10 and 50 partners of 100 MB (`quick`: 2 and 10 of 20 MB), and the largest crowd's by the least's."""
    counts, megabytes = ((2, 10), 20) if quick else ((2, 10, 50), 100)
    aim = 2.5 * megabytes + 200
    rows: list[Row] = []
    peaks = []
    for count in counts:
        peak, own, seconds = _peak(count, megabytes * 1_000_000)
        sys.stderr.write(f"memory: {count} partners, {seconds:.0f} s a round\n")
        rows.append(Row.of(f"peak, {count} of {megabytes} MB", [peak], "MB", aim, "lower"))
        rows.append(Row.of(f"its own, {count} of {megabytes} MB", [own], "MB", None, "lower"))
        peaks.append(peak)
    rows.append(Row.of(f"peak, {counts[-1]} / {counts[0]} partners", [peaks[-1] / peaks[0]], "x", None, "lower"))
    return rows


def _peak(count: int, size: int) -> tuple[float, float, float]:
    """Most MB that were resident in a server over a run's two rounds, of them its own; seconds of a round."""
    names = [f"p{index:04}" for index in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder, address = Path(name), f"127.0.0.1:{free_port()}"
        crowd.found(folder, names, address)
        with served(folder) as server, crowded(folder, count, address, size, 1) as partners:
            all_say(partners, "connected", tell="go")
            ending = threading.Thread(target=all_say, args=(partners, "ended"))
            ending.start()
            cohort = Cohort(quorum=count, join_deadline_s=_WAIT_S, step_deadline_s=_WAIT_S)
            started = time.perf_counter()
            with Peak(server.pid) as own:
                view = asyncio.run(one_run(folder, address, size, cohort, _ROUNDS, ending))
            if view.summary.state != "finished":
                raise RuntimeError(view.summary.reason)
            seconds = (time.perf_counter() - started) / _ROUNDS
            return peak_bytes(server.pid) / 1e6, own.bytes / 1e6, seconds
