"""A data set's version is made of files: read as a stream, checked, cut into shards, stored, and committed at the end.

One shard is in memory at a time; rows that wait for theirs are on the disk. A split that was cut off goes on: shards
that stand are not written again. Before the commit no reader sees anything of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from aimass.proto.clock import Clock
from aimass.proto.column_statistics import ColumnStatistics, merge_all
from aimass.proto.data_sets import (
    DataSetManifest,
    DataSetName,
    Lineage,
    ShardEntry,
    SplitRule,
    labels_of,
    participant_of,
    salt_of,
)
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.objects import ObjectStore
from aimass.proto.rows import Table, held_out_mask, row_hashes, rows_by_label
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.evolution import check_evolution
from aimass.server.datasets.intake import Intake, Limits, check_limits
from aimass.server.datasets.jobs import Job, Progress
from aimass.server.datasets.pieces import pieces
from aimass.server.datasets.placement import check_home
from aimass.server.datasets.row_index import RowIndex
from aimass.server.datasets.shard_bytes import FORMAT, parquet_bytes, statistics_of
from aimass.server.datasets.sources import Opened, Reading
from aimass.server.keeping import Hold, let_go

__all__ = ["Made", "Wanted", "split"]

_NOT_STATED: Final = "not stated"


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """The data set that somebody asks for. Without a `licence` it is that of the version before."""

    name: str
    schema: Schema
    rule: SplitRule
    held_out: float = 0.2
    held_out_by: Literal["stratified", "independent"] = "stratified"
    person: str | None = None
    licence: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A version, and whether it was committed now: the same job again finds the one that it made."""

    manifest: DataSetManifest
    fresh: bool


def split(
    store: ObjectStore,
    wanted: Wanted,
    sources: Sequence[Opened],
    scratch: Path,
    clock: Clock,
    *,
    limits: Limits | None = None,
    reading: Reading | None = None,
    progress: Callable[[int, int], None] = lambda _shards, _rows: None,
) -> Made:
    """Commit the rows of `sources`, in their order, as the next version of a data set.

    `scratch` is an empty folder for what does not fit in memory. `progress` is told the shards and the rows read so
    far. Raises `BadInput` for rows that do not fit, `Refused` for a data set that breaks a limit or whose schema may
    not follow the one before, `Conflict` where somebody else commits meanwhile or the home is another store; then
    nothing is committed.
    """
    catalogue = Catalogue(store)
    check_home(store, wanted.name, clock.now())
    job = _job(wanted, sources)
    newest = catalogue.newest(wanted.name)
    parent = catalogue.open(DataSetName(name=wanted.name, version=newest)) if newest else None
    done = Progress(store, job)
    if parent is not None and parent.lineage.job == job.digest:
        done.clear()  # of whoever was cut off behind the commit
        let_go(store, wanted.name, job.digest)
        return Made(parent, fresh=False)
    if parent is not None:
        check_evolution(wanted.name, parent.data_schema, wanted.schema)
    held = Hold(store, wanted.name, job.digest, clock.now)  # before anything is found to stand already
    intake = Intake(limits or Limits())
    maker = _Maker(job, done, RowIndex(scratch / "index"))

    def heard() -> None:
        progress(len(maker.shards), intake.rows_read)

    tables = pieces(job, sources, intake, reading or Reading(), scratch / "shuffle", heard)
    for number, table in enumerate(tables, 1):
        held.keep()
        maker.add(number, table)
        heard()
    if not maker.shards:
        raise _empty(intake)
    manifest = _manifest(wanted, job, maker, intake, parent, clock)
    check_limits(manifest.quality, manifest.statistics, limits or Limits())
    held.keep()
    check_home(store, wanted.name, clock.now())  # copies may have come meanwhile
    committed = catalogue.commit(manifest)
    done.clear()
    let_go(store, wanted.name, job.digest)
    return Made(committed, fresh=True)


def _empty(intake: Intake) -> BadInput:
    return BadInput(
        "the data set has no rows",
        code="rows.empty",
        value=f"{intake.rows_read} rows read, {intake.dropped} left out",
        cure="Name files with rows.",
    )


def _job(wanted: Wanted, sources: Sequence[Opened]) -> Job:
    return Job(
        name=wanted.name,
        data_schema=wanted.schema,
        split=wanted.rule,
        held_out=wanted.held_out,
        held_out_by=wanted.held_out_by,
        person=wanted.person,
        sources=tuple(opened.source for opened in sources),
        format=FORMAT,
    )


class _Maker:
    """Shards as they are made, and what they hold together."""

    def __init__(self, job: Job, done: Progress, index: RowIndex) -> None:
        self._job, self._done, self.index = job, done, index
        self.shards: list[ShardEntry] = []
        self.statistics: tuple[ColumnStatistics, ...] = ()

    def add(self, number: int, table: Table) -> None:
        """Store the rows of one shard, unless it stands, and count them."""
        participant = participant_of(number)
        salt = salt_of(self._job.split.seed, participant)
        hashes = row_hashes(table)
        held = held_out_mask(
            table,
            bytes.fromhex(salt),
            self._job.held_out,
            independent=self._job.held_out_by == "independent",
            hashes=hashes,
        )
        if held.all():
            raise BadInput(
                "no rows of a shard are left to train on",
                code="dataset.no_training_rows",
                value=f"shard {number}, {table.rows} rows",
                cure="Make larger shards, or hold out a smaller share.",
            )
        entry = self._done.whole(number)
        if entry is None:
            data = parquet_bytes(table, self._job.person)
            entry = ShardEntry(
                number=number,
                participant=participant,
                salt=salt,
                rows=table.rows,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                labels=_labels(table),
            )
            self._done.add(entry, data)
        self.index.add(hashes, held)
        self.statistics = merge_all((self.statistics, statistics_of(table)))
        self.shards.append(entry)


def _labels(table: Table) -> dict[str, int]:
    counts = rows_by_label(table.schema, table.columns[table.schema.label.name])
    return {value: count for value, count in counts.items() if count}


def _manifest(
    wanted: Wanted, job: Job, maker: _Maker, intake: Intake, parent: DataSetManifest | None, clock: Clock
) -> DataSetManifest:
    found = maker.index.found()
    return DataSetManifest(
        name=wanted.name,
        version=1 if parent is None else parent.version + 1,
        data_schema=wanted.schema,
        split=wanted.rule,
        held_out=wanted.held_out,
        held_out_by=wanted.held_out_by,
        person=wanted.person,
        shards=tuple(maker.shards),
        rows=sum(shard.rows for shard in maker.shards),
        labels=labels_of(maker.shards),
        statistics=maker.statistics,
        quality=intake.quality(found.duplicates, found.leaked),
        lineage=Lineage(
            sources=job.sources,
            job=job.digest,
            tool=f"aimass {version('aimass')}, {FORMAT}",
            parent=None if parent is None else parent.version,
        ),
        licence=wanted.licence or (parent.licence if parent is not None else _NOT_STATED),
        created_at=clock.now(),
    )
