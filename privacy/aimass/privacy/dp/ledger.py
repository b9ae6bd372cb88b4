"""The rules by which a data set's privacy is spent, as pure decisions; `ledger_file` makes them durable.

One ledger belongs to one data set, as its partner names it, over all runs, tasks and servers. What may be spent is
reserved before any data is touched, and counts in full from then on. Only two things give back: a cancellation before
the training started, in the same process, and a training that took fewer steps than it reserved. What a crash leaves
open is spent. Time is kept for people to read and decides nothing.

A function here either returns the line to write, or raises what forbids it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable

from aimass.privacy.dp.accounting import Accountant, Figure, unbounded
from aimass.privacy.dp.events import Budget, Event, Tally, events_of, tally
from aimass.privacy.dp.ledger_lines import (
    Committed,
    EntryState,
    Released,
    Reserved,
    Spent,
    Started,
    StudyOpened,
)
from aimass.privacy.dp.ledger_reading import rolled_back
from aimass.privacy.dp.ledger_state import Entry, Ledger, beyond
from aimass.privacy.dp.study_rules import check_begins, check_inside, open_study_of, told_events
from aimass.proto.errors import NotFound, Refused, WrongState

__all__ = [
    "Refusal",
    "Standing",
    "cancel",
    "check_resend",
    "check_trusted",
    "commit",
    "open_study",
    "refused",
    "reserve",
    "restart",
    "standing",
    "start",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """One budget: the figure of what is settled, that of what is reserved too, and what is left of epsilon."""

    budget: Budget
    settled: Figure
    whole: Figure

    @property
    def left(self) -> float:
        """What may be added to epsilon; events add less than they cost alone, so this is no price."""
        return max(0.0, self.budget.epsilon - self.whole.epsilon)


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a debit is not made: how much it would add, how much is left, since when, and what has no bound."""

    standing: Standing
    after: Figure
    since: float
    without_bound: tuple[Event, ...]

    @property
    def asked(self) -> float:
        """What the debit would add to epsilon."""
        return self.after.epsilon - self.standing.whole.epsilon if math.isfinite(self.after.epsilon) else math.inf

    def error(self) -> Refused:
        """The refusal as an error."""
        budget, unit = self.standing.budget, self.standing.budget.terms.unit
        if self.without_bound:
            relation = budget.terms.relation.replace("-", " ")
            return Refused(
                f"this data set has a budget for each {unit}, and an event has no bound for it",
                code="ledger.no_bound",
                value=_named(self.without_bound[:3]),
                limit=f"mechanisms with a bound for one {unit}, {relation}",
                cure=f"Use a mechanism that protects a {unit}, or take the budget for it back; "
                "noise inside a secure sum has its bound for replace-special.",
            )
        return Refused(
            "the privacy budget of this data set is too small",
            code="ledger.E_BUDGET",
            value=f"{self.asked:.4f} more, {self.after.sentence()}",
            limit=f"{self.standing.left:.4f} left of {budget.epsilon:g} since {_moment(self.since)}",
            cure="Plan fewer rounds or more noise, or ask the partner to raise the budget of this data set.",
        )


def reserve(
    ledger: Ledger,
    accountant: Accountant,
    *,
    run_id: str,
    round_: int,
    purpose: str,
    events: Iterable[Event],
    at: float,
    study: int | None = None,
) -> Reserved:
    """The reservation of one step. Raises `Refused` where it does not fit every budget, or its study."""
    check_trusted(ledger)
    asked = _merged(events)
    if study is not None:
        check_inside(open_study_of(ledger, study), run_id, asked)
        if refusal := refused(ledger, accountant, ()):  # the budget was lowered since it was reserved
            raise refusal.error()
    elif refusal := refused(ledger, accountant, asked):
        raise refusal.error()
    return Reserved(
        number=ledger.next_number, run_id=run_id, round=round_, purpose=purpose, events=asked, at=at, study=study
    )


def open_study(
    ledger: Ledger,
    accountant: Accountant,
    *,
    name: str,
    events: Iterable[Event],
    at: float,
    trials: int = 0,
    terms: str | None = None,
) -> StudyOpened:
    """The reservation of a whole study, of `trials` runs at most. Raises `Refused` where it does not fit every budget,
    or where there was a study of this name."""
    check_trusted(ledger)
    asked = _merged(events)
    check_begins(ledger, name, asked)
    if refusal := refused(ledger, accountant, asked):
        raise refusal.error()
    return StudyOpened(number=ledger.next_number, name=name, events=asked, at=at, trials=trials, terms=terms)


def refused(ledger: Ledger, accountant: Accountant, asked: tuple[Event, ...]) -> Refusal | None:
    """Why these events may not be reserved on top of all that counts, by the first budget that they break."""
    if not ledger.budgets:
        raise Refused(
            "this data set has no privacy budget",
            code="ledger.no_budget",
            value=ledger.data_set,
            cure="State one in the policy before anything is debited.",
        )
    settled, pending, more = ledger.settled(), ledger.pending(), tally(asked)
    whole = Counter(pending)
    whole.update(more)
    for stand in _standing(ledger.budgets, settled, pending, accountant):
        terms = stand.budget.terms
        after = accountant.figure(terms, settled, whole)
        if after.epsilon > stand.budget.epsilon or not math.isfinite(after.epsilon):
            without = unbounded(more, terms) or unbounded(settled, terms) or unbounded(pending, terms)
            return Refusal(stand, after, ledger.changed_at, without)
    return None


def standing(ledger: Ledger, accountant: Accountant) -> tuple[Standing, ...]:
    """Each budget with what stands against it."""
    return _standing(ledger.budgets, ledger.settled(), ledger.pending(), accountant)


def _standing(
    budgets: tuple[Budget, ...], settled: Tally, pending: Tally, accountant: Accountant
) -> tuple[Standing, ...]:
    return tuple(
        Standing(
            budget,
            accountant.figure(budget.terms, settled),
            accountant.figure(budget.terms, settled, pending),
        )
        for budget in budgets
    )


def start(ledger: Ledger, number: int, at: float) -> Started:
    """The training begins: to be written before data is touched."""
    _in_state(ledger, number, EntryState.RESERVED, "start")
    check_trusted(ledger)
    return Started(number=number, at=at)


def cancel(ledger: Ledger, number: int, at: float) -> Released:
    """Give back a reservation that never started. Whoever restarts has spent it: call it in the same process alone."""
    _in_state(ledger, number, EntryState.RESERVED, "cancel")
    return Released(number=number, at=at)


def commit(ledger: Ledger, number: int, events: Iterable[Event], result: str, at: float) -> Committed:
    """The training ended and its encoded update has the digest `result`: as many steps as reserved, or fewer."""
    entry = _in_state(ledger, number, EntryState.TRAINING, "commit")
    spent = events_of(tally(events))
    if over := beyond(tally(spent), tally(entry.reserved)):
        raise Refused(
            "more was spent than was reserved",
            code="ledger.E_LEDGER",
            value=told_events(over),
            limit=told_events(entry.reserved),
            cure="This is a fault of the software: the entry is counted in full, and its update must not leave.",
        )
    return Committed(number=number, events=spent, result=result, at=at)


def check_resend(ledger: Ledger, number: int, result: str) -> None:
    """Let the same encoded update go out again without a debit; raises `WrongState` for any other."""
    entry = _in_state(ledger, number, EntryState.COMMITTED, "send again")
    if entry.result != result:
        raise WrongState(
            "this is another update than the one that was debited",
            code="ledger.other_update",
            value=result,
            limit=entry.result,
            cure="Reserve anew: new training or new noise is a new debit.",
        )


def restart(ledger: Ledger, at: float) -> tuple[Spent, ...]:
    """What a new process finds open is spent: nobody can know what became of it. Studies go on."""
    return tuple(Spent(number=entry.number, at=at) for entry in ledger.entries.values() if entry.open)


def check_trusted(ledger: Ledger) -> None:
    """Raise `Refused` while a head is known that these lines do not lead to: nothing is reserved then."""
    if ledger.doubts:
        raise rolled_back(ledger.doubts[0], ledger.ledger)


def _in_state(ledger: Ledger, number: int, state: EntryState, what: str) -> Entry:
    entry = ledger.entries.get(number)
    if entry is None:
        raise NotFound("the ledger has no such entry", code="ledger.entry", value=number)
    if entry.state is not state:
        raise WrongState(
            f"an entry that is {entry.state} cannot {what}", code="ledger.state", value=number, limit=state.value
        )
    return entry


def _merged(events: Iterable[Event]) -> tuple[Event, ...]:
    asked = events_of(tally(events))
    if not asked:
        raise Refused("a debit names no event", code="ledger.empty", cure="Name what is to be spent.")
    return asked


def _named(events: Iterable[Event]) -> str:
    return ", ".join(f"{type(each.mechanism).__name__} for one {each.unit}" for each in events)


def _moment(at: float) -> str:
    try:
        return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):  # a clock that is beyond all calendars
        return f"second {at:g}"
