"""What the lines of a ledger add up to: entries, studies, budgets, doubts, as one frozen value.

`replay` takes lines as they stand and refuses those that no decision of `ledger` returns: such a file was edited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from aimass.privacy.dp.events import Budget, Event, Tally, events_of, tally
from aimass.privacy.dp.ledger_lines import (
    Accepted,
    Body,
    Budgeted,
    Committed,
    Doubted,
    EntryState,
    Head,
    Opened,
    Released,
    Reserved,
    Sketched,
    Spent,
    Started,
    StudyClosed,
    StudyOpened,
)
from aimass.privacy.dp.ledger_studies import Study
from aimass.privacy.dp.sketch import Sketch
from aimass.proto.errors import IntegrityError

__all__ = ["EMPTY", "LOST", "Entry", "Ledger", "apply", "beyond", "replay", "run_name"]

_COUNTED: Final = (EntryState.RESERVED, EntryState.TRAINING, EntryState.COMMITTED, EntryState.SPENT)
_LOST_RUN: Final = "0" * 32

LOST: Final = "lost"
"""In place of a run: what a copy had spent that is lost, whichever runs those were."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One reservation and what became of it. `events` are what it counts for; `reserved` what it asked for."""

    number: int
    run_id: str
    round: int
    purpose: str
    reserved: tuple[Event, ...]
    events: tuple[Event, ...]
    state: EntryState
    since: float
    changed: float
    study: int | None = None
    result: str = ""

    @property
    def open(self) -> bool:
        """Whether more may come of it."""
        return self.state in {EntryState.RESERVED, EntryState.TRAINING}

    @property
    def counts(self) -> tuple[Event, ...]:
        """What it counts for: nothing, where it was given back."""
        return self.events if self.state in _COUNTED else ()


@dataclasses.dataclass(frozen=True, slots=True)
class Ledger:
    """All that the lines say."""

    data_set: str = ""
    ledger: str = ""
    opened_at: float = 0.0
    budgets: tuple[Budget, ...] = ()
    entries: Mapping[int, Entry] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    studies: Mapping[int, Study] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    sketches: tuple[Sketch, ...] = ()
    another: frozenset[str] = frozenset()
    doubts: tuple[Head, ...] = ()
    accepted: tuple[Head, ...] = ()
    changed_at: float = 0.0
    """When what counts changed last: since then as much is left as is left now."""

    @property
    def next_number(self) -> int:
        """Of the next entry or study."""
        return len(self.entries) + len(self.studies) + 1

    def given_up(self, head: Head) -> bool:
        """Whether the partner has accepted that these lines do not lead to `head`: to it, or to a later one of lines
        that are lost and went under an id that is none of this ledger any more."""
        return any(
            head == each or (head.ledger == each.ledger != self.ledger and head.lines <= each.lines)
            for each in self.accepted
        )

    def settled(self) -> Tally:
        """What can change no more."""
        return tally(
            event
            for entry in self.entries.values()
            if entry.state in {EntryState.COMMITTED, EntryState.SPENT} and not self._inside(entry)
            for event in entry.events
        )

    def pending(self) -> Tally:
        """What is reserved and may yet be given back in part: open entries, and studies as a whole."""
        alone = [e.events for e in self.entries.values() if e.open and not self._inside(e)]
        whole = [study.events for study in self.studies.values() if study.open]
        return tally(event for events in (*alone, *whole) for event in events)

    def study_named(self, name: str) -> Study | None:
        """The study of a name, open or closed: there is one at most."""
        return next((study for study in self.studies.values() if study.name == name), None)

    def used_at(self, study: Study) -> float:
        """When a study was last drawn on, or began."""
        return max(
            (entry.changed for entry in self.entries.values() if entry.study == study.number), default=study.since
        )

    def runs(self) -> Mapping[str, Tally]:
        """What each run counts for. Their figures do not add up: epsilon does not."""
        found: dict[str, list[Event]] = {}
        for entry in self.entries.values():
            if entry.counts:
                found.setdefault(entry.run_id, []).extend(entry.counts)
        return {run_id: tally(events) for run_id, events in found.items()}

    def _inside(self, entry: Entry) -> bool:
        return entry.study is not None and self.studies[entry.study].open


def run_name(run_id: str) -> str:
    """A run as people are shown it, or LOST."""
    return LOST if run_id == _LOST_RUN else run_id[:8]


def beyond(counts: Tally, most: Tally) -> tuple[Event, ...]:
    """What of `counts` is not covered by `most`."""
    return events_of({kind: max(0, times - most.get(kind, 0)) for kind, times in counts.items()})


EMPTY: Final = Ledger()
"""Before the first line."""


def apply(ledger: Ledger, body: Body) -> Ledger:
    """The ledger after one more line; raises `IntegrityError` for a line that no function here returns."""
    return replay((body,), ledger)


def replay(bodies: Iterable[Body], ledger: Ledger = EMPTY) -> Ledger:
    """The ledger after all of `bodies`."""
    draft = _Draft(ledger)
    for body in bodies:
        draft.take(body)
    return draft.frozen()


class _Draft:
    """A ledger in the making: lines in, one frozen value out."""

    def __init__(self, ledger: Ledger) -> None:
        self._entries, self._studies = dict(ledger.entries), dict(ledger.studies)
        self._rest = dataclasses.replace(ledger, entries={}, studies={})

    def frozen(self) -> Ledger:
        return dataclasses.replace(
            self._rest, entries=MappingProxyType(self._entries), studies=MappingProxyType(self._studies)
        )

    def take(self, body: Body) -> None:
        if isinstance(body, Opened) == bool(self._rest.ledger):
            raise _impossible(body)
        match body:
            case Opened():
                self._change(data_set=body.data_set, ledger=body.ledger, opened_at=body.at, changed_at=body.at)
            case Budgeted():
                self._change(budgets=body.budgets, changed_at=body.at)
            case Sketched():
                sketches, another = (*self._rest.sketches, body.sketch), self._rest.another.union(body.another)
                self._change(sketches=sketches, another=another)
            case Doubted():
                self._change(doubts=(*self._rest.doubts, body.head))
            case Accepted():
                self._accept(body)
            case Reserved():
                self._reserve(body)
            case StudyOpened():
                self._expect(body, body.number == self._next())
                self._studies[body.number] = Study(
                    body.number, body.name, body.events, True, body.at, body.trials, body.terms or ""
                )
                self._change(changed_at=body.at)
            case StudyClosed():
                self._close(body)
            case Started():
                self._move(body, (EntryState.RESERVED,), EntryState.TRAINING)
            case Released():
                self._draw(self._move(body, (EntryState.RESERVED,), EntryState.RELEASED), ())
            case Spent():
                self._move(body, (EntryState.RESERVED, EntryState.TRAINING), EntryState.SPENT)
            case Committed():
                held = self._move(body, (EntryState.TRAINING,), EntryState.COMMITTED)
                self._expect(body, not beyond(tally(body.events), tally(held.reserved)))
                self._entries[body.number] = dataclasses.replace(held, events=body.events, result=body.result)
                self._draw(held, body.events)

    def _close(self, body: StudyClosed) -> None:
        study = self._studies.get(body.number)
        if study is None or not study.open or any(e.study == body.number and e.open for e in self._entries.values()):
            raise _impossible(body)
        self._studies[body.number] = dataclasses.replace(study, open=False)
        self._change(changed_at=body.at)

    def _reserve(self, body: Reserved) -> None:
        self._expect(body, body.number == self._next())
        if body.study is not None:
            study = self._studies.get(body.study)
            if study is None or not study.open:
                raise _impossible(body)
            self._expect(body, not study.beyond(body.events) and not study.full(body.run_id))
            self._studies[body.study] = study.changed(body.run_id, (), body.events)
        self._entries[body.number] = Entry(
            body.number,
            body.run_id,
            body.round,
            body.purpose,
            body.events,
            body.events,
            EntryState.RESERVED,
            body.at,
            body.at,
            body.study,
        )
        self._change(changed_at=body.at)

    def _draw(self, entry: Entry, events: tuple[Event, ...]) -> None:
        """An entry counts for `events` from now on, in place of what it reserved; its study knows."""
        if entry.study is not None:
            self._studies[entry.study] = self._studies[entry.study].changed(entry.run_id, entry.reserved, events)

    def _accept(self, body: Accepted) -> None:
        self._expect(body, body.number == self._next())
        self._entries[body.number] = Entry(
            body.number, _LOST_RUN, 0, "lost", body.lost, body.lost, EntryState.SPENT, body.at, body.at
        )
        rest = tuple(head for head in self._rest.doubts if head != body.head)
        accepted, ledger = (*self._rest.accepted, body.head), body.ledger or self._rest.ledger
        self._change(doubts=rest, accepted=accepted, ledger=ledger, changed_at=body.at)

    def _move(
        self, body: Started | Released | Spent | Committed, before: tuple[EntryState, ...], after: EntryState
    ) -> Entry:
        entry = self._entries.get(body.number)
        if entry is None or entry.state not in before:
            raise _impossible(body)
        moved = self._entries[body.number] = dataclasses.replace(entry, state=after, changed=body.at)
        if after in {EntryState.RELEASED, EntryState.COMMITTED}:
            self._change(changed_at=body.at)
        return moved

    def _change(self, **fields: object) -> None:
        self._rest = dataclasses.replace(self._rest, **fields)  # type: ignore[arg-type]  # names of this class alone

    def _next(self) -> int:
        return len(self._entries) + len(self._studies) + 1

    def _expect(self, body: Body, right: bool) -> None:
        if not right:
            raise _impossible(body)


def _impossible(body: Body) -> IntegrityError:
    return IntegrityError(
        "a ledger says what cannot have happened",
        code="ledger.impossible",
        value=body,
        cure="Restore the ledger from its newest copy; nothing is debited until it is whole.",
    )
