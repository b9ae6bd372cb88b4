"""Sources become one table for each shard: read, checked, and cut or dealt by the rule, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.proto.cells import text_of
from aimass.proto.rows import Table, typed
from aimass.proto.whole_columns import by_distinct
from aimass.server.datasets.cutting import cut, too_many, whole
from aimass.server.datasets.dealing import Dealer, dealer_of, group_column
from aimass.server.datasets.intake import Intake
from aimass.server.datasets.jobs import Job
from aimass.server.datasets.shuffle import Shuffle, TooMany
from aimass.server.datasets.sources import Opened, Reading

__all__ = ["pieces"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """Rows on their way; `groups` are the texts of the rule's column, if it has one."""

    table: Table
    groups: npt.NDArray[Any] | None


def pieces(
    job: Job,
    sources: Sequence[Opened],
    intake: Intake,
    reading: Reading,
    scratch: Path,
    heard: Callable[[], None] = lambda: None,
) -> Iterator[Table]:
    """The rows of each shard, in the order of the shards; `heard` is told when some were read.

    Raises as `Opened.batches` and `Intake.fits` do, and `LimitExceeded` where rows that have to stay together are more
    than a shard may have.
    """
    rule = job.split
    incoming = [(opened.source.name, _incoming(job, opened, intake, reading, heard)) for opened in sources]
    dealer = dealer_of(rule, job.data_schema)
    all_rows = (rows for _, each in incoming for rows in each)
    if dealer is not None:
        shuffle = Shuffle(scratch, job.person, rule.most_rows, rule.most_bytes, reading.waiting_bytes)
        yield from _dealt(job, dealer, all_rows, shuffle)
    elif rule.rule == "files":
        for name, each in incoming:
            yield from whole((rows.table for rows in each), rule.most_rows, rule.most_bytes, name)
    elif rule.rule == "rows":
        yield from cut((rows.table for rows in all_rows), int(rule.argument), rule.most_bytes)
    else:
        yield from cut((rows.table for rows in all_rows), rule.most_rows, int(rule.argument))


def _incoming(job: Job, opened: Opened, intake: Intake, reading: Reading, heard: Callable[[], None]) -> Iterator[_Rows]:
    """A source's rows that fit, in order."""
    column, first = group_column(job.split), 0
    for batch in opened.batches(job.data_schema, job.person, reading, [column] if column else []):
        table = typed(job.data_schema, batch, job.person)
        groups = _texts(batch.column(column)) if column else None
        fits = intake.fits(table, opened.source.name, first)
        first += table.rows
        heard()
        if fits.all():
            yield _Rows(table, groups)
        else:
            kept = dataclasses.replace(table.take(fits), findings=())
            yield _Rows(kept, None if groups is None else groups[fits])


def _texts(values: Any) -> npt.NDArray[Any]:
    """Cells as texts: object [rows]; a missing one is empty, and a group too."""
    found = by_distinct(values, _text)
    return np.array(list(map(_text, values.to_pylist())), dtype=object) if found is None else found


def _text(cell: object) -> str:
    return "" if cell is None else text_of(cell)


def _dealt(job: Job, dealer: Dealer, rows: Iterable[_Rows], shuffle: Shuffle) -> Iterator[Table]:
    rule = job.split
    for each in rows:
        try:
            shuffle.add(each.table, dealer.deal(each.table, each.groups))
        except TooMany as error:
            raise too_many(dealer.name(error.key), rule.most_rows, rule.most_bytes) from error
    shuffle.flush()
    for key in dealer.order(shuffle.keys):
        yield shuffle.take(key)
