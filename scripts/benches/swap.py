"""A server under load whose models are swapped each second, while workers are killed, bad versions are promoted and the
registry goes away: what failed, and what it cost those who waited.

The load comes at a steady rate on sixteen connections; each answer is checked against the version that it names (see
`checked_load`). A request has failed where it was answered by an error, by nobody, or wrongly; and where the answer is
of a version that nobody who may had promoted by then. The registry is an S3 server behind a relay, so that it can be
away for the server alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scripts.benches.checked_load import Records, Verdict
from scripts.benches.relay import Way
from scripts.benches.row import Row
from scripts.benches.serving_ours import Ours, workers_of
from scripts.benches.swap_picture import draw_time
from scripts.benches.swap_schedule import Event, Happened, Kind, schedule
from scripts.benches.swap_stage import Stage, loaded, staged


def measure(*, quick: bool) -> list[Row]:
    """Ten minutes, a million requests (`quick`: half a minute): what failed, and the latency before and during."""
    calm_s, seconds = (5.0, 24.0) if quick else (60.0, 540.0)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = staged(folder, stack)
        load = stack.enter_context(loaded(folder, stage))
        time.sleep(calm_s)
        began_s = time.monotonic()
        happened = play(stage, schedule(seconds), began_s)
        time.sleep(max(0.0, began_s + seconds - time.monotonic()))
        load.communicate()
        records = Records.load(folder / "records.npz").since(began_s)
    for line in records.examples:
        sys.stderr.write(f"swap: {line}\n")
    draw_time(records, happened, Path("bench-output") / "swap-time.png")
    promoted = {number: moment - began_s for number, moment in stage.promoted.items()}
    return figures(records, happened, promoted)


# ---------------------------------------------------------------- events


def play(stage: Stage, events: Sequence[Event], began_s: float) -> list[Happened]:
    """Do what is to be done at each moment; what comes late is done at once."""
    others, chance = itertools.cycle((*stage.good[1:], stage.good[0])), random.Random(1)
    ways = itertools.cycle((Way.CUT, Way.SILENT))
    happened = []
    for event in events:
        time.sleep(max(0.0, began_s + event.at_s - time.monotonic()))
        version = next(others) if event.kind is Kind.SWAP else 0
        happened.append(Happened(time.monotonic() - began_s, event.kind, version))
        match event.kind:
            case Kind.SWAP:
                stage.promote(version, "the next")
            case Kind.BAD:
                assert event.fault is not None
                stage.promote_bad(event.fault)
            case Kind.KILL:
                _kill_one(stage.server, chance)
            case Kind.AWAY:
                stage.relay.set(next(ways))
            case Kind.BACK:
                stage.relay.set(Way.OPEN)
    return happened


def _kill_one(server: Ours, chance: random.Random) -> None:
    workers = workers_of(server.pid)
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)


# ---------------------------------------------------------------- figures


def figures(records: Records, happened: Sequence[Happened], promoted: Mapping[int, float]) -> list[Row]:
    """What failed, which is to be nothing; latencies before and during; how soon a promoted version answers."""
    counts = {
        "answered wrongly": (records.verdict == Verdict.WRONG) | (records.verdict == Verdict.UNKNOWN_VERSION),
        "answered by an error": records.verdict == Verdict.STATUS,
        "answered by nobody": records.verdict == Verdict.HUNG_UP,
        "by a version not promoted": unpromoted(records, promoted),
    }
    rows = [Row.of("requests", [float(len(records.at_s))], "", None, "higher")]
    rows += [Row.of(what, [float(found.sum())], "", 0.0, "lower") for what, found in counts.items()]
    for what, chosen in {"before": records.at_s < 0, "during": records.at_s >= 0}.items():
        took_ms = records.took_s[chosen] * 1_000
        for share in (50, 99, 99.9):
            rows.append(Row.of(f"p{share:g} {what}", [float(np.percentile(took_ms, share))], "ms", None, "lower"))
        rows.append(Row.of(f"longest {what}", [float(took_ms.max())], "ms", None, "lower"))
    if delays := first_answers(records, happened):
        rows.append(Row.of("promotion to first answer", delays, "s", None, "lower"))
    return rows


def unpromoted(records: Records, promoted: Mapping[int, float]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which answers are of versions that were not promoted, or not yet."""
    since = np.full(max(int(records.version.max(initial=0)), *promoted) + 1, np.inf)
    since[0] = -np.inf  # no answer, which is counted elsewhere
    for number, moment in promoted.items():
        since[number] = moment
    return np.asarray(since[records.version] > records.at_s)


def first_answers(records: Records, happened: Sequence[Happened]) -> list[float]:
    """Seconds from each swap until the version that it named answered, where it did before the next event."""
    found = []
    for one, later in itertools.pairwise(happened):
        within = (records.at_s > one.at_s) & (records.at_s < later.at_s) & (records.version == one.version)
        if one.kind is Kind.SWAP and within.any():
            found.append(float(records.at_s[within][0] - one.at_s))
    return found
