"""The report of a withdrawal, from a partner's own receipts and journal, also where the journal has a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.client.journal import Journal, JournalLine
from aimass.client.withdrawal import withdrawals
from aimass.privacy.transcript import Receipt
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.values import canonical_json

RUN, OTHER = "ab" * 16, "cd" * 16


def _folder(folder: Path, released: list[tuple[str, int]], counted: list[tuple[str, int]]) -> Path:
    journal = Journal(folder / "journal.jsonl", UNINTERRUPTED)
    for run_id, step in released:
        journal.record(
            JournalLine(
                at=0.0, server="hub", run_id=run_id, step=step, kind="train", digest=f"{step:064x}", bytes=10,
                tensors=1, metrics=(), figures=(), mechanisms=(), previous=journal.head,
            )
        )  # fmt: skip
    lines = [
        canonical_json(
            Receipt(
                run_id=run_id, step=step, partner="north", contribution=f"{step:064x}", outcome="counted", reason="",
                entries=step + 1, head="0" * 64,
            )
        )
        for run_id, step in counted
    ]  # fmt: skip
    (folder / "receipts.jsonl").write_bytes(b"".join(line + b" 00\n" for line in lines))
    return folder


@pytest.mark.parametrize(
    ("released", "not_counted"),
    [([0, 1, 2, 3], 2), ([0, 3], 1), ([3], 1), ([], 0)],
    ids=["whole", "a gap", "all that was counted is in the gap", "nothing"],
)
def test_what_was_not_counted_is_what_the_journal_lists_beyond_the_receipts(
    tmp_path: Path, released: list[int], not_counted: int
) -> None:
    folder = _folder(tmp_path, [(OTHER, 7), *((RUN, step) for step in released)], [(RUN, 0), (OTHER, 7), (RUN, 1)])
    (report,) = withdrawals(folder, [RUN])
    assert [work.step for work in report.counted] == [0, 1]
    assert (report.not_counted, report.released_bytes) == (not_counted, 10 * len(released))
