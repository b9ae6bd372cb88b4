"""What a server takes in memory while partners send models: 2, 10 and 50 of them, of 100 MB each, and a plain sum; and
what everybody takes for a large model.

A real server and a crowd that sends valid contributions over real mutual TLS (see `crowd`); for the large model real
daemons too, whose children train all of it. The peak is what the kernel counts as resident at most, in all; of it, what
a process made itself (anonymous memory) is sampled beside it: the rest is files that it has mapped, which the kernel
takes back where others need the room.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
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
from scripts.demos.bulk import bulk_federation, round_seconds
from scripts.demos.house import free_port
from scripts.demos.processes import Peak, peak_bytes

_ROUNDS: Final = 2
_WAIT_S: Final = 1_800.0
_PARTNERS: Final = ("north", "south")
_LARGE_ROUNDS: Final = 3


def measure(*, quick: bool, full: bool = False) -> list[Row]:
    """Peaks at 2, 10 and 50 partners of 100 MB (`quick`: 2 and 10 of 20 MB), and the largest crowd's by the least's;
    those of three rounds of a model of 200 MB (`quick`: 50), `full`: of 1 GB alone."""
    if full:
        return _large(1_000)
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
    return rows + _large(50 if quick else 200)


def _large(megabytes: int) -> list[Row]:
    """Peaks of server, daemons and training children, and of who submits, over three rounds of two partners."""
    name = f"{megabytes} MB"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        house = stack.enter_context(bulk_federation(folder, megabytes * 1_000_000, _PARTNERS, trained=True))
        pids = [house.pid(partner) for partner in _PARTNERS]
        server = stack.enter_context(Peak(house.pid("server")))
        daemons = [stack.enter_context(Peak(pid)) for pid in pids]
        children = [stack.enter_context(Peak(pid, children=True)) for pid in pids]
        seconds = round_seconds(house, _LARGE_ROUNDS, len(_PARTNERS))
        sent_from = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the largest that has ended here
    sys.stderr.write(f"memory: {name}, {max(seconds):.0f} s a round at most\n")
    aims = {"server": 2.5 * megabytes + 200}
    rows = []
    for what, peaks in {"server": [server], "daemon": daemons, "training child": children}.items():
        rows.append(Row.of(f"{what}, {name}", [peak.resident / 1e6 for peak in peaks], "MB", aims.get(what), "lower"))
        rows.append(Row.of(f"{what}'s own, {name}", [peak.bytes / 1e6 for peak in peaks], "MB", None, "lower"))
    return [*rows, Row.of(f"submission, {name}", [sent_from / 1e6], "MB", None, "lower")]


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
