"""A server of models keeps its word while models are swapped, workers die, bad versions come and the registry goes."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from scripts.benches.checked_load import Records
from scripts.benches.swap import figures, play
from scripts.benches.swap_schedule import Event, Fault, Kind
from scripts.benches.swap_stage import loaded, staged

_EVENTS = (
    Event(0.0, Kind.SWAP),
    Event(1.0, Kind.KILL),
    Event(2.0, Kind.BAD, Fault.LATE_NAN),
    Event(4.0, Kind.SWAP),
    Event(5.0, Kind.AWAY),
    Event(5.5, Kind.KILL),
    Event(7.0, Kind.BACK),
    Event(7.2, Kind.BAD, Fault.STRANGER),
    Event(8.0, Kind.BAD, Fault.CRASH),
    Event(9.5, Kind.SWAP),
    Event(11.0, Kind.KILL),
)


def test_no_request_fails_and_none_is_answered_by_a_version_that_was_not_promoted(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        stage = staged(tmp_path, stack, requests_per_s=200.0)
        load = stack.enter_context(loaded(tmp_path, stage))
        time.sleep(0.5)
        began_s = time.monotonic()
        happened = play(stage, _EVENTS, began_s)
        time.sleep(1.0)
        load.communicate()
    records = Records.load(tmp_path / "records.npz").since(began_s)
    promoted = {number: moment - began_s for number, moment in stage.promoted.items()}
    rows = {row.metric: row for row in figures(records, happened, promoted)}
    assert [name for name, row in rows.items() if row.met is False] == [], records.examples
    assert rows["requests"].value > 1_000
    assert len(set(records.version.tolist())) >= 3
