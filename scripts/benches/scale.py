"""A server with many partners connected: seconds and processor time of a round, memory of each that is idle.

A real server, alone on one core; a thousand partners in a few processes on the others, each with its own certificate
and TCP connection. They are scripted (see `crowd`): a thousand daemons would stand on a thousand machines, and on the
rest of this one they would be what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from aimass.proto.plan import Cohort
from scripts.benches import crowd
from scripts.benches.row import Row
from scripts.benches.stage import all_say, crowded, one_run, served
from scripts.demos.house import free_port
from scripts.demos.processes import cpu_seconds, resident_bytes

_MODEL_BYTES: Final = 100_000
_ROUND_S: Final = 2.0
_IDLE_KB: Final = 100.0
_SETTLE_S: Final = 5.0
_PROCESSES: Final = 2


def measure(*, quick: bool) -> list[Row]:
    """1,000 partners and a cohort of 200 (`quick`: 200 and 40), rounds with and without somebody who watches."""
    count, cohort, rounds = (200, 40, 5) if quick else (1_000, 200, 11)
    names = [f"p{index:04}" for index in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder, address = Path(name), f"127.0.0.1:{free_port()}"
        sys.stderr.write(f"scale: keys and certificates of {count} partners\n")
        crowd.found(folder, names, address)
        with served(folder) as server, crowded(folder, count, address, _MODEL_BYTES, _PROCESSES) as partners:
            before = resident_bytes([server.pid])
            connecting = all_say(partners, "connected", tell="go")
            time.sleep(_SETTLE_S)
            idle = (resident_bytes([server.pid]) - before) / 1000 / count
            sys.stderr.write(f"scale: connected in {connecting:.1f} s\n")
            plain = _rounds(folder, address, server, partners, cohort, rounds, watched=False)
            watched = _rounds(folder, address, server, partners, cohort, rounds, watched=True)
    aim_s, aim_kb = (None, None) if quick else (_ROUND_S, _IDLE_KB)
    return [
        Row.of(f"round, {cohort} of {count}", plain.seconds, "s", aim_s, "lower"),
        Row.of("round, watched", watched.seconds, "s", aim_s, "lower"),
        Row.of("server's processor, a round", plain.server, "s", None, "lower"),
        Row.of("partners' processor, a round", plain.partners, "s", None, "lower"),
        Row.of("everybody joined", [plain.joining_s], "s", None, "lower"),
        Row.of("memory of an idle partner", [idle], "kB", aim_kb, "lower"),
        Row.of("everybody connected", [connecting], "s", None, "lower"),
    ]


class _Rounds(msgspec.Struct, frozen=True):
    seconds: list[float]
    server: list[float]
    partners: list[float]
    joining_s: float


class _Meter:
    """Processor time of processes at any moment of the measurement."""

    def __init__(self, *pids: int) -> None:
        self._pids, self._stop = pids, threading.Event()
        self._samples: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._samples.append((time.time(), cpu_seconds(self._pids)))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, moment: float) -> float:
        return next((cpu for then, cpu in self._samples if then >= moment), self._samples[-1][1])


def _rounds(
    folder: Path,
    address: str,
    server: subprocess.Popen[str],
    partners: Sequence[subprocess.Popen[str]],
    cohort: int,
    rounds: int,
    *,
    watched: bool,
) -> _Rounds:
    """One run; seconds and processor time from commit to commit, without the first."""
    meters = _Meter(server.pid), _Meter(*(partner.pid for partner in partners))
    try:
        chosen = Cohort(quorum=cohort, sample=cohort, join_deadline_s=120.0, step_deadline_s=120.0)
        ending = threading.Thread(target=all_say, args=(partners, "ended"))
        ending.start()
        view = asyncio.run(one_run(folder, address, _MODEL_BYTES, chosen, rounds, ending, watched=watched))
    finally:
        for meter in meters:
            meter.stop()
    if view.summary.state != "finished":
        raise RuntimeError(view.summary.reason)
    committed = [step.committed_at or 0.0 for step in view.steps]
    sys.stderr.write(f"scale: {len(committed)} rounds{', watched' if watched else ''}\n")
    pairs = list(itertools.pairwise(committed))
    used = [[meter.at(after) - meter.at(before) for before, after in pairs] for meter in meters]
    joining_s = view.steps[0].opened_at - view.summary.created_at
    return _Rounds([after - before for before, after in pairs], used[0], used[1], joining_s)
