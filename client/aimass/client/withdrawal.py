"""What a partner that withdraws from runs leaves behind: the report of what was counted, from its own receipts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from aimass.client.journal import JournalLine, read_journal
from aimass.privacy.transcript import Receipt
from aimass.proto.names import Digest, RunId
from aimass.proto.values import Value, decode_canonical_json

__all__ = ["CountedWork", "Withdrawal", "receipts", "withdrawals"]


class CountedWork(Value, frozen=True):
    """A contribution that is in the run's models, and the place in the run's history that says so for all."""

    step: int
    contribution: Digest
    entries: int
    head: Digest


class Withdrawal(Value, frozen=True):
    """One run that was left. What was counted cannot be taken out of the models that were made since.

    `released_bytes` counts all that left this partner for the run, counted or not, as far as the journal goes: one that
    was restored from a copy has a gap. What was not counted is deleted at the server when it hears of the withdrawal.
    What it was summing then is counted still, and listed here once its receipt has come.
    """

    run_id: RunId
    counted: tuple[CountedWork, ...]
    not_counted: int
    released_bytes: int


def receipts(folder: Path) -> tuple[Receipt, ...]:
    """All receipts that a partner's folder keeps, as they came; each was verified before it was kept."""
    path = folder / "receipts.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    bodies = (line.rpartition(b" ")[0] for line in lines)
    return tuple(decode_canonical_json(Receipt, body, "a receipt that is kept here") for body in bodies if body)


def withdrawals(folder: Path, run_ids: Collection[str]) -> tuple[Withdrawal, ...]:
    """The report on each run, in the order given."""
    kept, released = receipts(folder), read_journal(folder / "journal.jsonl")
    return tuple(_report(run_id, kept, released) for run_id in run_ids)


def _report(run_id: str, kept: Iterable[Receipt], released: Iterable[JournalLine]) -> Withdrawal:
    counted = [item for item in kept if item.run_id == run_id and item.outcome == "counted"]
    left = [line for line in released if line.run_id == run_id]
    return Withdrawal(
        run_id=run_id,
        counted=tuple(
            CountedWork(step=item.step, contribution=item.contribution, entries=item.entries, head=item.head)
            for item in counted
        ),
        not_counted=len({line.step for line in left} - {item.step for item in counted}),
        released_bytes=sum(line.bytes for line in left),
    )
