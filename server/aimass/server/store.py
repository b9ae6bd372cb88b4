"""The run store: what the server knows of runs, durable in one transaction for each change.

SQLAlchemy Core over SQLite (WAL, full synchronisation) by default. All calls block; the engine makes them on one
worker thread, so writers never meet.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from aimass.privacy.transcript import EMPTY_HEAD, Chain
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.errors import IntegrityError, OutOfSpace, Unavailable, WrongState
from aimass.proto.sealed import SealedHead
from aimass.proto.traffic import Moved
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import StepView
from aimass.server import tables
from aimass.server.runs import Run

__all__ = [
    "Commit",
    "Entry",
    "HeadRow",
    "ModelRow",
    "News",
    "ReceiptRow",
    "RunRow",
    "Store",
    "known_schemas",
    "of_another_release",
]

_LOCK_WAIT_S: Final = 10
_MOST_LEDGERS: Final = 100
"""Of one partner: its data sets, and those that it began anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is stored."""

    run_id: str
    owner: str
    created_at: float
    ended_at: float | None
    plan: bytes
    plan_digest: str
    roster_digest: str
    run: Run


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A transcript entry, its body, and the head after it."""

    data: bytes
    body: bytes
    chain: Chain


@dataclasses.dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A signed receipt and the number of transcript entries that it speaks of."""

    step: int
    partner: str
    entries: int
    body: bytes
    signature: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that a step committed."""

    run_id: str
    step: int
    digest: str
    round: int
    bytes: int
    committed_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class HeadRow:
    """A partner's latest signed word on the history."""

    partner: str
    chain: Chain
    signature: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class News:
    """The head after the entries that somebody has seen, None where there are fewer; further entries; receipts."""

    head: str | None
    entries: Sequence[bytes]
    receipts: Sequence[ReceiptRow]


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """What belongs to one change beside the run itself; all of it is written or none.

    `manifest` is that of a finished run's last model, as canonical JSON. `moved` is all that moved for the run so far.
    """

    steps: tuple[StepView, ...] = ()
    entries: tuple[Entry, ...] = ()
    receipts: tuple[ReceiptRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    heads: tuple[HeadRow, ...] = ()
    ledgers: tuple[tuple[str, SealedHead], ...] = ()
    ended_at: float | None = None
    manifest: bytes | None = None
    moved: Moved | None = None


def known_schemas() -> tuple[str, ...]:
    """Revisions of the tables that this release can read, oldest first."""
    from alembic.config import Config  # noqa: PLC0415  (as below)
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "aimass.server:migrations")
    return tuple(reversed([script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]))


def of_another_release(found: str, known: Sequence[str]) -> WrongState:
    """The error for a store whose tables are at revision `found`, where this release knows those."""
    if found in known:
        age, cure = (
            "older",
            "Start the server of this release once: it brings the store up to date. Or use the older one.",
        )
    else:
        age, cure = "newer", "Use the release that wrote it, or a later one."
    what = f"the run store is that of {'an' if age == 'older' else 'a'} {age} release"
    return WrongState(what, code=f"store.{age}", value=found, limit=known[-1], cure=cure)


class Store:
    """Open with `Store.open`; close when done."""

    def __init__(self, engine: sa.Engine, durability: Durability) -> None:
        self.engine = engine
        self._durability = durability

    @staticmethod
    def open(path: Path, durability: Durability = UNINTERRUPTED) -> Store:
        """Open the SQLite file at `path`, bringing its tables to this release's version.

        Raises `WrongState` for the store of a newer release, which is left as it is, and `IntegrityError` for none.
        """
        engine = sa.create_engine(
            f"sqlite:///{path}", connect_args={"timeout": _LOCK_WAIT_S, "check_same_thread": False}
        )
        sa.event.listen(engine, "connect", _pragmas)
        sa.event.listen(engine, "begin", _begin)
        store = Store(engine, durability)
        try:
            store._migrate()
        except sa.exc.OperationalError:
            raise
        except sa.exc.DatabaseError as error:
            raise IntegrityError(
                "the run store is no database, or a damaged one",
                code="store.damaged",
                value=path,
                cure="Restore it from a copy; moved away, the server begins without runs.",
            ) from error
        return store

    def _migrate(self) -> None:
        from alembic import command  # noqa: PLC0415  (a tenth of a second that only a start pays)
        from alembic.config import Config  # noqa: PLC0415
        from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", "aimass.server:migrations")
        with self.engine.begin() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
            if found is not None and found not in (known := known_schemas()):
                raise of_another_release(found, known)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def writing(self, point: str) -> Iterator[sa.Connection]:
        """A transaction under a point's name; what cannot be written has a named error."""
        self._durability.reached(f"{point}.write")
        try:
            with self.engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise _named(error) from error
        self._durability.reached(f"{point}.written")

    def probe(self) -> None:
        """Raise the named error for which nothing can be written now. It takes the lock and changes no row."""
        try:
            with self.engine.begin() as connection:
                connection.execute(tables.runs.update().where(sa.false()).values(state=""))
        except sa.exc.OperationalError as error:
            raise _named(error) from error

    def create(self, row: RunRow, key: str, entry: Entry) -> None:
        """Record a new run with its first transcript entry."""
        with self.writing("store.run") as connection:
            connection.execute(
                tables.runs.insert().values(
                    run_id=row.run_id,
                    key=key,
                    owner=row.owner,
                    state=row.run.state,
                    created_at=row.created_at,
                    plan=row.plan,
                    plan_digest=row.plan_digest,
                    roster_digest=row.roster_digest,
                    snapshot=canonical_json(row.run),
                )
            )
            self._insert_entries(connection, row.run_id, (entry,))

    def save(self, run: Run, change: Commit) -> None:
        """Record a run's new state with everything that belongs to the change."""
        with self.writing("store.commit" if change.entries else "store.save") as connection:
            values: dict[str, Any] = {"state": run.state, "snapshot": canonical_json(run)}
            if change.ended_at is not None:
                values["ended_at"] = change.ended_at
            connection.execute(tables.runs.update().where(tables.runs.c.run_id == run.run_id).values(values))
            for view in change.steps:
                _upsert_step(connection, run.run_id, view)
            self._insert_entries(connection, run.run_id, change.entries)
            if change.receipts:
                rows = [{"run_id": run.run_id} | dataclasses.asdict(receipt) for receipt in change.receipts]
                connection.execute(tables.receipts.insert(), rows)
            for model in change.models:
                connection.execute(tables.models.insert().values(dataclasses.asdict(model)))
            if change.manifest is not None:
                connection.execute(tables.manifests.insert().values(run_id=run.run_id, data=change.manifest))
            if change.moved is not None:
                _replace_traffic(connection, run.run_id, change.moved)
            _replace_heads(connection, run.run_id, change.heads)
            for partner, ledger in change.ledgers:
                _keep_ledger(connection, partner, ledger)

    @staticmethod
    def _insert_entries(connection: sa.Connection, run_id: str, entries: Sequence[Entry]) -> None:
        for entry in entries:
            connection.execute(
                tables.transcript.insert().values(
                    run_id=run_id,
                    entry=entry.chain.entries - 1,
                    data=entry.data,
                    body=entry.body,
                    head=entry.chain.head,
                )
            )

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(tables.runs.select().order_by(tables.runs.c.created_at)).mappings()
            return [_run_row(row) for row in rows]

    def end_study(self, study: str, by: str, at: float) -> None:
        """Record that a study has ended; the first word stands."""
        with self.writing("store.study") as connection:
            known = sa.select(tables.ended_studies.c.study).where(tables.ended_studies.c.study == study)
            if connection.execute(known).first() is None:
                connection.execute(tables.ended_studies.insert().values(study=study, ended_by=by, ended_at=at))

    def ended_studies(self, studies: Sequence[str]) -> list[str]:
        """Those of `studies` that have ended."""
        column = tables.ended_studies.c.study
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(column).where(column.in_(studies)).order_by(column)).scalars())

    def run_of_key(self, key: str) -> str | None:
        """The run that was submitted under an idempotency key."""
        with self.engine.connect() as connection:
            return connection.execute(sa.select(tables.runs.c.run_id).where(tables.runs.c.key == key)).scalar()

    def steps(self, run_id: str, only: Sequence[int] | None = None, *, first: int = 0, most: int = 0) -> list[StepView]:
        """Views of a run's steps in order, from the index `first` on: `most` where it is given, of all or of `only`
        those of some indices."""
        with self.engine.connect() as connection:
            rows = connection.execute(_steps(run_id, only, first, most))
            return [decode_json(StepView, row.view, "a stored step") for row in rows]

    def page(
        self, run_id: str, only: Sequence[int] | None, *, first: int, most: int, most_bytes: int
    ) -> tuple[list[StepView], bool]:
        """As `steps`, as many as `most_bytes` have room for, one at least; and whether it was these that ended it."""
        found: list[StepView] = []
        left = most_bytes
        with self.engine.connect() as connection:
            for row in connection.execute(_steps(run_id, only, first, most)):
                left -= len(row.view)
                if found and left < 0:
                    return found, True
                found.append(decode_json(StepView, row.view, "a stored step"))
        return found, False

    def chain(self, run_id: str) -> Chain:
        """How far a run's transcript goes."""
        table = tables.transcript
        query = table.select().where(table.c.run_id == run_id).order_by(table.c.entry.desc()).limit(1)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
            return Chain() if row is None else Chain(row.entry + 1, row.head)

    def head(self, run_id: str, entries: int) -> str | None:
        """The head after so many transcript entries; None where there are fewer."""
        with self.engine.connect() as connection:
            return connection.execute(_head(run_id, entries)).scalar()

    def entries(self, run_id: str, first: int) -> list[bytes]:
        """Transcript entries from index `first`."""
        with self.engine.connect() as connection:
            return list(connection.execute(_entries(run_id, first)).scalars())

    def news(self, run_id: str, partner: str, seen: int) -> News:
        """What a partner that says to have seen so many entries lacks, in one reading.

        Receipts from the last entry that it has seen: it may have died between that entry and its receipt.
        """
        with self.engine.connect() as connection:
            return News(
                head=EMPTY_HEAD if not seen else connection.execute(_head(run_id, seen)).scalar(),
                entries=list(connection.execute(_entries(run_id, seen)).scalars()),
                receipts=[_receipt(row) for row in connection.execute(_receipts(run_id, partner, seen - 1))],
            )

    def transcript(self, run_id: str) -> list[Entry]:
        """All transcript entries with their bodies."""
        table = tables.transcript
        query = table.select().where(table.c.run_id == run_id).order_by(table.c.entry)
        with self.engine.connect() as connection:
            return [Entry(row.data, row.body, Chain(row.entry + 1, row.head)) for row in connection.execute(query)]

    def receipts(self, run_id: str) -> list[ReceiptRow]:
        """All receipts of a run, by step."""
        with self.engine.connect() as connection:
            return [_receipt(row) for row in connection.execute(_receipts(run_id))]

    def manifest(self, run_id: str) -> bytes | None:
        """The manifest of a finished run's last model, None where none was written."""
        query = sa.select(tables.manifests.c.data).where(tables.manifests.c.run_id == run_id)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar()

    def heads(self, run_id: str) -> list[tuple[str, Chain, bytes]]:
        """Every partner's latest word."""
        with self.engine.connect() as connection:
            rows = connection.execute(tables.heads.select().where(tables.heads.c.run_id == run_id))
            return [(row.partner, Chain(row.entries, row.head), row.signature) for row in rows]

    def moved(self, run_id: str) -> Moved:
        """Bytes that had moved for a run when it was last stored."""
        with self.engine.connect() as connection:
            row = connection.execute(tables.traffic.select().where(tables.traffic.c.run_id == run_id)).first()
            return Moved() if row is None else Moved(down=row.down, up=row.up, spared=row.spared)

    def ledgers(self, partner: str) -> list[bytes]:
        """The newest head that came of each of a partner's privacy ledgers, as it sealed them."""
        table = tables.ledger_heads
        query = sa.select(table.c.sealed).where(table.c.partner == partner).order_by(table.c.number)
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def models(self, run_id: str = "", digest: str = "", limit: int = 100, *, first_step: int = 0) -> list[ModelRow]:
        """Committed models, newest first; those of one run by step, because the clock may have been set back in it.

        Of steps before `first_step` none.
        """
        by_time = (tables.models.c.committed_at.desc(), tables.models.c.step.desc())
        query = tables.models.select().order_by(*(by_time[1:] if run_id else by_time))
        if run_id:
            query = query.where(tables.models.c.run_id == run_id)
        if digest:
            query = query.where(tables.models.c.digest == digest)
        if first_step:
            query = query.where(tables.models.c.step >= first_step)
        with self.engine.connect() as connection:
            return [ModelRow(**row) for row in connection.execute(query.limit(limit)).mappings()]


def _head(run_id: str, entries: int) -> sa.Select[Any]:
    table = tables.transcript
    return sa.select(table.c.head).where(table.c.run_id == run_id, table.c.entry == entries - 1)


def _steps(run_id: str, only: Sequence[int] | None, first: int, most: int) -> sa.Select[Any]:
    """Steps in order from the index `first` on: `most` where it is given, of all or of `only` those of some indices."""
    table = tables.steps
    query = table.select().where(table.c.run_id == run_id, table.c.step >= first).order_by(table.c.step)
    if only is not None:
        query = query.where(table.c.step.in_(only))
    return query.limit(most) if most else query


def _entries(run_id: str, first: int) -> sa.Select[Any]:
    table = tables.transcript
    return sa.select(table.c.data).where(table.c.run_id == run_id, table.c.entry >= first).order_by(table.c.entry)


def _receipts(run_id: str, partner: str | None = None, after_entries: int = 0) -> sa.Select[Any]:
    """Receipts by step, of one partner where it is named, beyond a transcript position."""
    table = tables.receipts
    query = table.select().where(table.c.run_id == run_id, table.c.entries > after_entries)
    if partner is not None:
        query = query.where(table.c.partner == partner)
    return query.order_by(table.c.step, table.c.partner)


def _receipt(row: Any) -> ReceiptRow:
    return ReceiptRow(row.step, row.partner, row.entries, row.body, row.signature)


def _upsert_step(connection: sa.Connection, run_id: str, view: StepView) -> None:
    table, data = tables.steps, canonical_json(view)
    done = connection.execute(
        table.update().where(table.c.run_id == run_id, table.c.step == view.index).values(view=data)
    )
    if done.rowcount == 0:
        connection.execute(table.insert().values(run_id=run_id, step=view.index, view=data))


def _replace_heads(connection: sa.Connection, run_id: str, heads: Sequence[HeadRow]) -> None:
    """In two statements for all of them: after a step everybody sends one."""
    if not heads:
        return
    table = tables.heads
    mine = (table.c.run_id == run_id) & (table.c.partner == sa.bindparam("name"))
    connection.execute(table.delete().where(mine), [{"name": head.partner} for head in heads])
    rows = [
        {
            "run_id": run_id,
            "partner": head.partner,
            "entries": head.chain.entries,
            "head": head.chain.head,
            "signature": head.signature,
        }
        for head in heads
    ]
    connection.execute(table.insert(), rows)


def _replace_traffic(connection: sa.Connection, run_id: str, moved: Moved) -> None:
    table = tables.traffic
    connection.execute(table.delete().where(table.c.run_id == run_id))
    connection.execute(table.insert().values(run_id=run_id, down=moved.down, up=moved.up, spared=moved.spared))


def _keep_ledger(connection: sa.Connection, partner: str, ledger: SealedHead) -> None:
    """In place of the head before it. A partner may name slots as it likes: of too many the oldest go."""
    table = tables.ledger_heads
    mine = table.c.partner == partner
    last = connection.execute(sa.select(sa.func.max(table.c.number)).where(mine)).scalar() or 0
    connection.execute(table.delete().where(mine & (table.c.slot == ledger.slot)))
    kept = {"partner": partner, "slot": ledger.slot, "number": last + 1, "sealed": bytes.fromhex(ledger.sealed)}
    connection.execute(table.insert().values(kept))
    newest = sa.select(table.c.number).where(mine).order_by(table.c.number.desc()).limit(_MOST_LEDGERS)
    connection.execute(table.delete().where(mine & table.c.number.not_in(newest)))


def _run_row(row: Any) -> RunRow:
    run = decode_json(Run, row["snapshot"], "a stored run")
    names = ("run_id", "owner", "created_at", "ended_at", "plan", "plan_digest", "roster_digest")
    return RunRow(**{name: row[name] for name in names}, run=run)


def _begin(connection: sa.Connection) -> None:
    """Begin as SQL says it: Python's module begins before inserts alone, so a change of tables was never one."""
    connection.exec_driver_sql("BEGIN")


def _pragmas(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _named(error: sa.exc.OperationalError) -> OutOfSpace | Unavailable:
    text = str(error.orig)
    if "full" in text:
        return OutOfSpace("no space left for the run store", code="store.full", cure="Free space; the step waits.")
    return Unavailable(
        f"the run store cannot be written: {text}", code="store.busy", cure="The step waits and tries again."
    )
