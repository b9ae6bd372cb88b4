"""The rules of a study in a ledger, as pure decisions: what begins one, who draws on it, what ends it.

A study counts as a whole from its beginning to its end. Runs draw on it step by step, each step in full before it
begins; at the end what none has drawn counts no more. So what its runs may have spent was reserved at any time, whoever
ends it and whenever: a study that ends too early costs its submitter runs, and nobody privacy.
"""

from __future__ import annotations

from collections.abc import Iterable

from aimass.privacy.dp.covering import MOST_KINDS
from aimass.privacy.dp.events import Event
from aimass.privacy.dp.ledger_lines import Spent, StudyClosed
from aimass.privacy.dp.ledger_state import Ledger
from aimass.privacy.dp.ledger_studies import Study
from aimass.proto.errors import NotFound, Refused

__all__ = [
    "check_begins",
    "check_inside",
    "check_terms",
    "check_trial",
    "end_study",
    "open_study_of",
    "told_events",
]


def check_begins(ledger: Ledger, name: str, asked: tuple[Event, ...]) -> None:
    """Raise `Refused` for a study whose name was used, or that reserves for more mechanisms than can be compared."""
    if (known := ledger.study_named(name)) is not None:
        raise _differs(known) if known.open else _over(known)
    if len(asked) > MOST_KINDS:
        raise Refused(
            "a study reserves for few mechanisms, so that it can be said what they cover",
            code="ledger.study_kinds",
            value=len(asked),
            limit=MOST_KINDS,
            cure="Plan fewer kinds of noise.",
        )


def check_terms(study: Study, terms: str) -> None:
    """Raise `Refused` where a run states other terms than those that its study was begun with."""
    if study.terms != terms:
        raise _differs(study)


def check_trial(study: Study, run_id: str) -> None:
    """Raise `Refused` for a run that is none of a study's, which is over or has as many as it may have."""
    if not study.open:
        raise _over(study)
    if study.full(run_id):
        raise Refused(
            "the study has had as many runs as it reserved for",
            code="ledger.study_trials",
            value=f"one more than {study.trials}",
            limit=study.trials,
            cure="End the study, and begin another of as many runs as are wanted.",
        )


def _over(study: Study) -> Refused:
    """The refusal of a study that was closed here: what it had not spent is free for others since."""
    return Refused(
        "this study has ended here",
        code="ledger.study_ended",
        value=study.name[:8],
        cure="Begin another: its runs need a reservation of their own.",
    )


def _differs(study: Study) -> Refused:
    """The refusal of other terms under the name of a study that was begun."""
    return Refused(
        "another study was begun under this id",
        code="ledger.study_changed",
        value=study.name[:8],
        cure="The section `study` is the same in all plans of a study, to the letter: draw another id for another one.",
    )


def check_inside(study: Study, run_id: str, asked: tuple[Event, ...]) -> None:
    """Raise `Refused` where a step of a run does not fit what is left of its study."""
    check_trial(study, run_id)
    if over := study.beyond(asked):
        raise Refused(
            "a trial asks for more than is left of its study",
            code="ledger.E_BUDGET",
            value=told_events(over),
            limit=told_events(study.events),
            cure="Close the study and open one that reserves more.",
        )


def end_study(ledger: Ledger, number: int, at: float) -> tuple[Spent | StudyClosed, ...]:
    """Give back what no trial has drawn, whatever they do: an open step is spent in full, and settled no more."""
    study = open_study_of(ledger, number)
    at_work = (entry for entry in ledger.entries.values() if entry.study == study.number and entry.open)
    return (*(Spent(number=entry.number, at=at) for entry in at_work), StudyClosed(number=number, at=at))


def open_study_of(ledger: Ledger, number: int) -> Study:
    """The study of a number; raises `NotFound` where it is not open."""
    study = ledger.studies.get(number)
    if study is None or not study.open:
        raise NotFound("the ledger has no such open study", code="ledger.study", value=number)
    return study


def told_events(events: Iterable[Event]) -> str:
    """Events as a refusal names them."""
    return ", ".join(f"{each.times} x {type(each.mechanism).__name__} for one {each.unit}" for each in events)
