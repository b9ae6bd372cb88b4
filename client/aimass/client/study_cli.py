"""`aimass client preview | approve --study | budget end-study`: what a study reserves, and an owner's word on it."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from aimass.client.local_link import ask_daemon
from aimass.proto.console import emit

if TYPE_CHECKING:
    from aimass.client.policy import Policy
    from aimass.client.study_preview import StudyPreview
    from aimass.privacy.dp.accounting import Accountant
    from aimass.privacy.dp.ledger_state import Ledger

__all__ = ["approve", "end", "preview", "study_rows"]


def preview(args: argparse.Namespace, run_id: str) -> int:
    """What the study of a run reserves of the budget here."""
    _show(args, ask_daemon(args, command="preview-study", run=run_id))
    return 0


def approve(args: argparse.Namespace, run_id: str) -> int:
    """Let the study of a run reserve it."""
    _show(args, ask_daemon(args, command="approve-study", run=run_id))
    return 0


def _show(args: argparse.Namespace, answer: dict[str, Any]) -> None:
    from aimass.client.study_preview import StudyPreview
    from aimass.proto.values import convert

    if args.json:
        emit(args, answer)
        return
    shown = convert(StudyPreview, answer, "the daemon's answer")
    emit(
        args,
        {
            "study": shown.study,
            "runs": f"{shown.trials} at most",
            "costliest_run": {name: str(value) for name, value in shown.costliest.items()} or "as the plan is",
            "reserves": _costs(shown),
            "ends": f"when it is said to, or {shown.ends_after_days:g} days after the last step of a run",
            "beyond_policy": list(shown.beyond_policy) or "none: every rule lets its costliest run in",
            "waits": shown.waits or "no: it may begin",
        },
    )


def _costs(shown: StudyPreview) -> list[dict[str, str]] | str:
    return [
        {
            "each": one.each,
            "one costliest run": _epsilon(one.costliest_run),
            "the whole study": _epsilon(one.study),
            "left now": _epsilon(one.left),
            "left with the study reserved": _epsilon(one.left_after) if one.fits else "too little: it does not fit",
            "delta": f"{one.delta:g}",
        }
        for one in shown.costs
    ] or "nothing: this data set has no privacy budget"


def _epsilon(value: float) -> str:
    return f"epsilon {value:.4f}" if math.isfinite(value) else "no bound for this unit"


def study_rows(policy: Policy, ledger: Ledger, accountant: Accountant) -> list[dict[str, Any]]:
    """The studies of a ledger: how far they are, what they reserved and what their runs count for, each alone."""
    if not ledger.budgets:
        return []
    terms = ledger.budgets[0].terms
    return [
        {
            "study": study.name,
            "state": "open" if study.open else "ended",
            "runs": f"{len(study.runs)} of {study.trials or 'any number'}",
            "reserved_epsilon_alone": round(accountant.figure(terms, study.events).epsilon, 4),
            "spent_epsilon_alone": round(accountant.figure(terms, study.drawn).epsilon, 4),
            "since": _moment(study.since),
            "ends_unsaid": _moment(ledger.used_at(study) + policy.studies.days * 86_400) if study.open else None,
        }
        for study in ledger.studies.values()
    ]


def _moment(at: float) -> str:
    import datetime as dt

    try:
        return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):  # a clock that was beyond all calendars
        return f"second {at:g}"


def end(args: argparse.Namespace) -> int:
    """End a study in every ledger here; the daemon does it where it runs."""
    from aimass.proto.errors import NotFound, Unavailable

    study = _named(args)
    try:
        ended = ask_daemon(args, command="end-study", study=study)["ended"]
    except Unavailable:
        ended = _end_here(args, study)
    if not ended:
        raise NotFound(
            "this study is not open here", code="client.study", value=args.study,
            cure="aimass client budget lists the studies of this partner.",
        )  # fmt: skip
    emit(args, {"study": study, "ended": True})
    return 0


def _named(args: argparse.Namespace) -> str:
    """The whole id of a study that is open in a ledger here."""
    from aimass.privacy.dp.ledger_file import LINES
    from aimass.privacy.dp.ledger_reading import read_lines
    from aimass.proto.errors import NotFound

    ledgers = [read_lines(path).ledger for path in (args.dir / "state" / "ledgers").glob(f"*/{LINES}")]
    studies = [study for ledger in ledgers for study in ledger.studies.values()]
    found = {study.name for study in studies if study.open and study.name.startswith(args.study)}
    if len(found) != 1 or not args.study:
        raise NotFound(
            "no such study is open here, or more than one", code="client.study", value=args.study, limit=len(found),
            cure="aimass client budget lists the studies of this partner.",
        )  # fmt: skip
    return found.pop()


def _end_here(args: argparse.Namespace, study: str) -> bool:
    from contextlib import closing

    from aimass.client.budget import Budgets
    from aimass.proto.clock import SystemClock
    from aimass.proto.durable import UNINTERRUPTED

    root = args.dir / "state" / "ledgers"
    with closing(Budgets(root, UNINTERRUPTED, SystemClock())) as budgets:
        budgets.ledgers.hold_begun(sorted(path.name for path in root.iterdir() if path.is_dir()))
        return budgets.end_study(study)
