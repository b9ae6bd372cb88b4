"""The ledger of one data set on the disk: locked, append-only, each line chained to the last and flushed before return.

    ROOT/rows.key             the secret under which rows are hashed
    ROOT/DATA SET/ledger.jsonl  the lines
    ROOT/DATA SET/head.json     how far they went: an older or shortened copy is noticed
    ROOT/DATA SET/.lock         held by the one process that may write

A torn last line, from a crash in the middle of writing, is cut off: who wrote it was never told that it was written, so
that it allowed nothing, and what it would have closed is spent. Points of `Durability`: `ledger.line`, `ledger.head`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from aimass.privacy.dp import ledger as rules
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Budget, Event, events_of, tally
from aimass.privacy.dp.ledger_lines import (
    Accepted,
    Body,
    Budgeted,
    Doubted,
    Head,
    Line,
    Opened,
    Sketched,
)
from aimass.privacy.dp.ledger_reading import Reading, decoded_head, doubts_of, read_lines, rolled_back
from aimass.privacy.dp.ledger_state import Entry, Ledger, apply
from aimass.privacy.dp.ledger_studies import Study
from aimass.privacy.dp.sketch import Sketch, overlap, similar
from aimass.privacy.dp.study_rules import check_terms, end_study
from aimass.proto.clock import Clock
from aimass.proto.durable import Durability, append_line, make_folder, only_one, write_file
from aimass.proto.errors import IntegrityError, OutOfSpace, Refused
from aimass.proto.home import read_key_file
from aimass.proto.names import Name
from aimass.proto.secret import Secret
from aimass.proto.values import canonical_json, convert, decode_canonical_json

__all__ = ["HEAD", "LINES", "LedgerFile", "check_others", "check_writable", "open_ledger", "row_key", "row_key_file"]

LINES: Final = "ledger.jsonl"
HEAD: Final = "head.json"
_KEY: Final = "rows.key"
_SAME: Final = 0.9  # rows that changed less are not sketched anew


def row_key(root: Path, durability: Durability) -> Secret:
    """The partner's secret for hashing rows, made on first use; one for all its ledgers, so that they compare."""
    return read_key_file(row_key_file(root, durability))


def row_key_file(root: Path, durability: Durability) -> Path:
    """Where that secret stands."""
    path = make_folder(root) / _KEY
    if not path.exists():
        write_file(path, secrets.token_bytes(32), durability, "ledger.key")
    return path


def check_others(root: Path, data_set: str, sketch: Sketch, another: Collection[str] = ()) -> None:
    """Raise `Refused` where the rows of a data set are another ledger's below `root`, but for those in `another`, of
    which, or in which, the partner says that they are others."""
    ledgers = (read_lines(path).ledger for path in sorted(root.glob(f"*/{LINES}")))
    others = {
        other.data_set: other.sketches
        for other in ledgers
        if other.data_set not in {data_set, *another} and data_set not in other.another
    }
    if found := similar(sketch, others):
        raise Refused(
            "these rows have a ledger under another name",
            code="ledger.same_rows",
            value=", ".join(f"{name}: {each.share:.0%} of rows, +- {each.error:.1%}" for name, each in found.items()),
            cure="Use that name in the policy; or say that these are other people's rows: "
            f"`aimass client budget another {data_set} {min(found)}`.",
        )


def check_writable(folder: Path) -> None:
    """Raise `Refused` where a ledger is read-only; nothing is tried."""
    with _writable(folder):
        for path in filter(Path.exists, (folder, folder / LINES, folder / HEAD)):
            if not (path.stat().st_mode & 0o200 and os.access(path, os.W_OK)):  # its mode too: root's writes would pass
                raise PermissionError(errno.EACCES, "read-only", str(path))


@contextmanager
def open_ledger(
    root: Path, data_set: str, durability: Durability, clock: Clock, *, lost: Iterable[Event] | None = None
) -> Iterator[LedgerFile]:
    """The ledger of `data_set`, made if there is none, held by this process until the block ends.

    What an earlier process left open is spent from here on. `lost` is the partner's word for a copy that is older than
    `head.json` says, or in doubt: to go on with it, and what the newer one had spent beyond it.

    Raises `Conflict` where another process holds it, `Refused` where it cannot be written or is an older copy,
    `IntegrityError` that names the line where it was edited.
    """
    folder = root / convert(Name, data_set, "the name of a data set")
    with ExitStack() as held:
        with _writable(folder):
            make_folder(folder)
            check_writable(folder)
            held.enter_context(only_one(folder, "process with this ledger"))
        file = LedgerFile(folder, durability, clock)
        file.begin(data_set, None if lost is None else tuple(lost))
        yield file


class LedgerFile:
    """A ledger that is held: each method blocks until its line is on the disk. Threads may share it."""

    def __init__(self, folder: Path, durability: Durability, clock: Clock) -> None:
        self._folder, self._durability, self._clock = folder, durability, clock
        self._lock = threading.Lock()
        self._accountant = Accountant()
        self._reading: Reading = read_lines(folder / LINES)

    @property
    def state(self) -> Ledger:
        """All that the lines say."""
        return self._reading.ledger

    @property
    def head(self) -> Head:
        """How far the lines go."""
        return self._reading.head

    def begin(self, data_set: str, lost: tuple[Event, ...] | None) -> None:
        """Check the lines against `head.json`, cut off what is torn, and spend what was left open."""
        reading, before = self._reading, decoded_head(self._folder / HEAD)
        older = reading.older_than(before)
        if older and lost is None:
            raise rolled_back(before, reading.ledger.ledger)
        if reading.torn:
            self._cut(reading.size)
        if not reading.heads:
            # An old head stays until what was lost is written: after a crash between the two it is asked for again.
            self._write(Opened(data_set=data_set, ledger=secrets.token_hex(16), at=self._now()), note=not older)
        elif reading.ledger.data_set != data_set:
            raise Refused(
                "this ledger is another data set's",
                code="ledger.renamed",
                value=f"{reading.ledger.data_set} in the folder {self._folder.name}",
                cure="Give its folder the old name again: a data set keeps its ledger, whatever it is called.",
            )
        if lost is not None:
            self._accept(doubts_of(reading, before), lost)
        for body in rules.restart(self.state, self._now()):
            self._write(body)
        self._note_head()

    def set_budgets(self, budgets: Iterable[Budget]) -> None:
        """The partner's budgets from here on; the same ones again are no line."""
        wanted = tuple(budgets)
        if len({budget.terms.unit for budget in wanted}) != len(wanted):
            raise Refused("there is more than one budget for a unit", code="ledger.budgets", cure="State one for each.")
        with self._lock:
            if wanted != self.state.budgets:
                self._write(Budgeted(budgets=wanted, at=self._now()))

    def standing(self) -> tuple[rules.Standing, ...]:
        """Each budget with what stands against it."""
        with self._lock:
            return rules.standing(self.state, self._accountant)

    def reserve(
        self, *, run_id: str, round_: int, purpose: str, events: Iterable[Event], study: int | None = None
    ) -> Entry:
        """Debit the most that a step may spend; raises `Refused`, and nothing may run then."""
        with self._lock:
            body = rules.reserve(
                self.state,
                self._accountant,
                run_id=run_id,
                round_=round_,
                purpose=purpose,
                events=events,
                at=self._now(),
                study=study,
            )
            self._write(body)
            return self.state.entries[body.number]

    def start(self, number: int) -> None:
        """To be called, and to have returned, before the data is touched."""
        self._decide(lambda: rules.start(self.state, number, self._now()))

    def cancel(self, number: int) -> None:
        """Give back what never started."""
        self._decide(lambda: rules.cancel(self.state, number, self._now()))

    def commit(self, number: int, events: Iterable[Event], result: str) -> None:
        """Record what was really spent, no more than reserved; to be called before the update leaves."""
        self._decide(lambda: rules.commit(self.state, number, events, result, self._now()))

    def check_resend(self, number: int, result: str) -> None:
        """Let the same encoded update leave again; raises `WrongState` for another."""
        rules.check_resend(self.state, number, result)

    def open_study(self, name: str, events: Iterable[Event], trials: int = 0, terms: str | None = None) -> Study:
        """Debit a whole study; its trials reserve out of it by its number."""
        with self._lock:
            return self._open_study(name, events, trials, terms)

    def enter_study(self, name: str, terms: str, trials: int, events: Callable[[], Iterable[Event]]) -> Study:
        """The study of a name, debited with `events` where it has not begun.

        Raises `Refused` where it was begun with other terms or has ended, and as `open_study` does.
        """
        with self._lock:
            study = self.state.study_named(name)
            if study is None or not study.open:
                return self._open_study(name, events(), trials, terms)
            check_terms(study, terms)
            return study

    def _open_study(self, name: str, events: Iterable[Event], trials: int, terms: str | None) -> Study:
        at = self._now()
        body = rules.open_study(
            self.state, self._accountant, name=name, events=events, at=at, trials=trials, terms=terms
        )
        self._write(body)
        return self.state.studies[body.number]

    def end_study(self, number: int) -> None:
        """Give back what its trials did not reserve; a step that one of them is at is spent in full first."""
        with self._lock:
            for body in end_study(self.state, number, self._now()):
                self._write(body)

    def check_rows(self, sketch: Sketch, another: Collection[str] = ()) -> None:
        """Keep what the rows are now; raises `Refused` where they are another ledger's.

        `another` are ledgers that the partner says hold other data in spite of it; its word is kept.
        """
        with self._lock:
            known = self.state.another.union(another)
            check_others(self._folder.parent, self.state.data_set, sketch, known)
            if self._is_news(sketch) or not known <= self.state.another:
                self._write(Sketched(sketch=sketch, another=tuple(sorted(another)), at=self._now()))

    def leads_to(self, head: Head) -> bool:
        """Compare with a head that this partner sealed and that came back from outside.

        Where these lines do not lead to it the doubt is written: nothing is reserved then, after a restart too, until
        the partner accepts it.
        """
        with self._lock:
            if self._reading.leads_to(head) or self.state.given_up(head):
                return True
            if not any(head.ledger == each.ledger and head.lines <= each.lines for each in self.state.doubts):
                self._write(Doubted(head=head, at=self._now()))
            return False

    def accept(self, lost: Iterable[Event]) -> None:
        """The partner's word to go on with this copy in spite of all doubts, with what the others had spent beyond it.

        Raises `Refused` where there is none.
        """
        with self._lock:
            self._accept(self.state.doubts, tuple(lost))

    def _accept(self, doubts: Sequence[Head], lost: tuple[Event, ...]) -> None:
        """What was lost stands with the first: a crash leaves doubts, and they are asked about again."""
        if not doubts:
            raise Refused(
                "this ledger is in no doubt: it is the newest that is known",
                code="ledger.no_doubt",
                value=self.state.data_set,
            )
        after = secrets.token_hex(16)
        for head in doubts:
            events, lost = events_of(tally(lost)), ()
            number = self.state.next_number
            self._write(Accepted(head=head, lost=events, at=self._now(), number=number, ledger=after))

    def _decide(self, decision: Callable[[], Body]) -> None:
        with self._lock:
            self._write(decision())

    def _write(self, body: Body, *, note: bool = True) -> None:
        """Append a line; it is applied only when it is on the disk. A head that finds no room follows with the next."""
        reading, path = self._reading, self._folder / LINES
        after = apply(reading.ledger, body)
        line = canonical_json(Line(place=len(reading.heads) + 1, previous=reading.last, body=body))
        decode_canonical_json(Line, line, "a line of the ledger")  # what could not be read again is not written
        with _writable(self._folder):
            self._check_unchanged(path)
            append_line(path, line, self._durability, "ledger.line")
        self._reading = dataclasses.replace(
            reading.extended(line), ledger=after, inode=reading.inode or path.stat().st_ino
        )
        if note:
            self._note_head()

    def _note_head(self) -> None:
        try:
            with _writable(self._folder):
                write_file(self._folder / HEAD, canonical_json(self.head), self._durability, "ledger.head")
        except OutOfSpace:
            if len(self._reading.heads) == 1:
                raise

    def _check_unchanged(self, path: Path) -> None:
        """Refuse to write behind lines that are not those that were read."""
        found = path.stat() if path.exists() else None
        size, inode = (found.st_size, found.st_ino) if found else (0, 0)
        if size != self._reading.size or inode != self._reading.inode:
            raise IntegrityError(
                "the ledger was changed by somebody else while it was held, or a write to it failed in the middle",
                code="ledger.changed",
                value=f"{size} bytes",
                limit=f"{self._reading.size} bytes",
                cure="Restart the daemon: it reads the ledger anew and says what is wrong.",
            )

    def _cut(self, size: int) -> None:
        with _writable(self._folder):
            descriptor = os.open(self._folder / LINES, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _is_news(self, sketch: Sketch) -> bool:
        if not self.state.sketches:
            return True
        last = self.state.sketches[-1]
        return overlap(sketch, last).share < _SAME or not _SAME <= (sketch.rows + 1) / (last.rows + 1) <= 1 / _SAME

    def _now(self) -> float:
        return float(self._clock.now())


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn a folder or file that cannot be written into a refusal: without a debit nothing is trained."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        raise Refused(
            "the ledger cannot be written, so nothing may be debited and nothing trained",
            code="ledger.read_only",
            value=error.filename or folder,
            cure="Give the daemon's user the right to write there.",
        ) from error
