"""`aimass client status | pending | approve | show | journal | policy`: what runs here, and what is permitted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aimass.client import study_cli
from aimass.client.local_link import ask_daemon
from aimass.proto.console import emit, plain, say

if TYPE_CHECKING:
    from aimass.client.preview import PreviewSum
    from aimass.client.run_folder import RunFolder
    from aimass.client.session import Session
    from aimass.client.shared_rows import Cell, SharedArray
    from aimass.proto.plan import Plan

__all__ = [
    "approve",
    "come_back",
    "journal",
    "pending",
    "policy_check",
    "policy_show",
    "preview",
    "show",
    "status",
    "stop",
    "withdraw",
]

_MOST_ROWS: Final = 20
"""Of what is shared, on a screen."""
_ALONE: Final = "later steps, as if this partner were alone: its own sums stand for the federation's"


def status(args: argparse.Namespace) -> int:
    """The running daemon at a glance."""
    emit(args, ask_daemon(args, command="status"))
    return 0


def stop(args: argparse.Namespace) -> int:
    """Stop the running daemon."""
    emit(args, ask_daemon(args, command="stop"))
    return 0


def _waiting(args: argparse.Namespace) -> list[dict[str, str]]:
    from aimass.client.plan_figure import plan_figure
    from aimass.client.run_folder import run_folders
    from aimass.client.session import Phase
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.plan import decode_plan

    waiting = []
    for folder in run_folders(args.dir / "state", UNINTERRUPTED):
        session = folder.load()
        if session is not None and session.phase is Phase.PENDING:
            plan = decode_plan(folder.plan())
            figure = plan_figure(plan)
            waiting.append(
                {
                    "run": session.run_id[:8],
                    "plan": plan.name,
                    "task": plan.task.name,
                    "kind": plan.task.kind,
                    "digest": plan.task.digest,
                    "reason": session.reason,
                    "sums": _sums(plan),
                    "privacy": "none stated" if figure is None else figure.sentence(),
                    "study": "none" if plan.study is None else f"{plan.study.id[:8]}, {plan.study.trials} runs",
                }
            )
    return waiting


def _sums(plan: Plan) -> str:
    """What the server sees of a step, in a few words."""
    secure = plan.secure
    if secure is None:
        return "each partner's contribution"
    many = "1 sum" if secure.groups == 1 else f"{secure.groups} sums"
    return f"{many} of {secure.min_cohort} partners or more ({secure.profile})"


def pending(args: argparse.Namespace) -> int:
    """What waits for a person here."""
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED

    roster = Keeper(args.dir, UNINTERRUPTED).pending
    emit(args, {"runs": _waiting(args), "roster": f"epoch {roster.roster.epoch}" if roster else "none"})
    return 0


def preview(args: argparse.Namespace) -> int:
    """The numbers of one's own rows that a run would take, before any of them leaves."""
    from aimass.client.preview import Preview
    from aimass.proto.values import convert

    folder, session = _found(args)
    if _of_study(folder):
        return study_cli.preview(args, session.run_id)
    answer = ask_daemon(args, command="preview", run=session.run_id)
    if args.json:
        emit(args, answer)
        return 0
    shown = convert(Preview, answer, "the daemon's answer")
    later = [{"step": number} | _previewed(one) for number, step in enumerate(shown.later, start=2) for one in step]
    emit(
        args,
        {
            "analysis": shown.analysis,
            "over": f"{shown.rows:,} {shown.which_rows.replace('_', '-')} rows of this partner",
            "shared": shown.shared,
            **dict(map(_first_rows, shown.arrays)),
            "leaves": [_previewed(one) for one in shown.sums],
            "then": list(shown.then),
            **({_ALONE: later} if later else {}),
        },
    )
    return 0


def _first_rows(shared: SharedArray) -> tuple[str, list[dict[str, Cell]]]:
    """As many as a screen holds, under how many there are; `--json` has all."""
    few = [dict(zip(shared.columns, row, strict=True)) for row in shared.rows[:_MOST_ROWS]]
    rest = f", the first {_MOST_ROWS} (all: --json)" if len(shared.rows) > _MOST_ROWS else ""
    return f"shared {shared.name}, {len(shared.rows):,} rows{rest}", few


def _previewed(one: PreviewSum) -> dict[str, object]:
    return {
        "sums": one.name,
        "shape": str(list(one.shape)),
        "numbers": _few(one.numbers),
        "cells that stay here": one.stay_here,
        "noise": f"{one.noise:.4g}",
    }


def _few(numbers: Sequence[float]) -> str:
    """As many as a line holds; `--json` has all."""
    told = ", ".join(f"{number:.6g}" for number in numbers[:24])
    return f"{told}, … ({len(numbers)} in all: --json)" if len(numbers) > 24 else told


def _of_study(folder: RunFolder) -> bool:
    """Whether a run is of a study, and takes nothing that could be shown beside what that reserves."""
    from aimass.proto.plan import decode_plan

    plan = decode_plan(folder.plan())
    return plan.study is not None and plan.explain is None


def approve(args: argparse.Namespace) -> int:
    """Admit a task or an app, by its digest; or a study, by a run of it."""
    from aimass.client.code import code_named
    from aimass.proto.errors import BadInput

    if (args.task is None) == (args.study is None):
        raise BadInput(
            "name the code that is approved, or a run whose study is", code="client.approve",
            cure="aimass client approve TASK, or --study RUN: aimass client pending shows what waits.",
        )  # fmt: skip
    if args.study is not None:
        args.run = args.study
        return study_cli.approve(args, _found(args)[1].run_id)
    code = code_named(args.dir, args.task, args.digest or "")
    ask_daemon(args, command="approve-task", name=code.name, digest=code.digest, kind=code.kind)
    emit(args, {"approved": code.name, "kind": code.kind, "digest": code.digest})
    return 0


def journal(args: argparse.Namespace) -> int:
    """Every release, the chain verified."""
    from aimass.client.journal import read_journal

    lines = read_journal(args.dir / "journal.jsonl")
    if args.json:
        emit(args, lines)
    else:
        emit(
            args,
            [
                {
                    "at": line.at,
                    "run": line.run_id[:8],
                    "step": line.step,
                    "kind": line.kind,
                    "bytes": line.bytes,
                    "figures": ",".join(line.figures),
                    "mechanisms": ",".join(line.mechanisms),
                }
                for line in lines
            ],
        )
    return 0


def withdraw(args: argparse.Namespace) -> int:
    """Leave a run, or all; what was counted is listed."""
    from aimass.client.withdrawal import withdrawals
    from aimass.proto.errors import BadInput

    if args.all == bool(args.run):
        raise BadInput("name one run, or give --all", code="client.withdraw", cure="aimass client status lists them.")
    if args.all:
        left = ask_daemon(args, command="withdraw-all")
    else:
        left = ask_daemon(args, command="withdraw", run=_found(args)[1].run_id)
    report, told = withdrawals(args.dir, left["withdrawn"]), left["server_told"]
    if args.json:
        emit(args, [plain(item) | {"server_told": told} for item in report])
        return 0
    there = (
        "deleted at the server unless it is being summed right now"
        if told
        else "the server cannot be reached: it is told at the next connection, and may count what it holds until then"
    )
    for item in report:
        emit(
            args,
            {
                "withdrawn_from": item.run_id,
                "counted_in_models": len(item.counted),
                "not_counted": f"{item.not_counted}; {there}",
                "released_bytes": item.released_bytes,
                "counted": [{"step": c.step, "contribution": c.contribution, "entry": c.entries} for c in item.counted],
            },
        )
    if not report:
        emit(args, {"withdrawn_from": "no run: this partner took part in none"})
    return 0


def come_back(args: argparse.Namespace) -> int:
    """Take part in new runs again."""
    ask_daemon(args, command="return")
    emit(args, {"takes_part": True})
    return 0


def _found(args: argparse.Namespace) -> tuple[RunFolder, Session]:
    """The run that was named."""
    from aimass.client.run_folder import run_folders
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.errors import NotFound

    found = [
        (folder.changed_at, folder, session)
        for folder in run_folders(args.dir / "state", UNINTERRUPTED)
        if (session := folder.load()) is not None and (args.run == "last" or session.run_id.startswith(args.run))
    ]
    if not found or (args.run != "last" and len(found) > 1):
        raise NotFound(
            "no such run here, or more than one", code="client.run", value=args.run, limit=len(found),
            cure="aimass client status lists the runs of this partner.",
        )  # fmt: skip
    return max(found, key=lambda entry: entry[0])[1:]


def show(args: argparse.Namespace) -> int:
    """One run as this partner saw it."""
    from aimass.client.journal import read_journal
    from aimass.client.withdrawal import withdrawals

    folder, session = _found(args)
    (report,) = withdrawals(args.dir, [session.run_id])
    inputs = _inputs(args, session)
    lines = [line for line in read_journal(args.dir / "journal.jsonl") if line.run_id == session.run_id]
    emit(
        args,
        {
            "run": session.run_id,
            "phase": session.phase,
            "reason": session.reason or None,
            "plan_digest": session.plan_digest,
            "roster_digest": session.roster_digest,
            "step": session.step.index if session.step else None,
            "begun": session.worked,
            "history_entries": len(session.heads),
            "history_head": session.heads[-1] if session.heads else None,
            "released_bytes": report.released_bytes,
            "counted": [c.step for c in report.counted],
            "releases": [
                {"step": line.step, "kind": line.kind, "bytes": line.bytes, "mechanisms": ",".join(line.mechanisms)}
                for line in lines
            ],
            **_learnt(args, folder),
            **({"secure_sums": inputs} if session.secure else {}),
            **({"plan": json.loads(folder.plan())} if args.json else {"plan": folder.plan().decode()}),
        },
    )
    return 0


def _learnt(args: argparse.Namespace, folder: RunFolder) -> dict[str, Any]:
    """What the server could learn, under the policy of now; nothing of a plan that cannot be read here."""
    from aimass.client.keeper import Keeper
    from aimass.client.learning import learning
    from aimass.client.plan_figure import plan_figure
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.errors import AimassError
    from aimass.proto.plan import decode_plan

    try:
        plan = decode_plan(folder.plan())
        partners = len(plan.cohort.partners or Keeper(args.dir, UNINTERRUPTED).roster.partners)
        learnt = learning(plan, _policy(args), partners, plan_figure(plan))
        return {"server": plain(learnt) if args.json else learnt.lines}
    except AimassError as error:
        return {"server": f"not known: {error}"}


def _inputs(args: argparse.Namespace, session: Session) -> list[dict[str, str | int]]:
    """How far this partner went in the secure sums of a run, by round and attempt; receipts name the input's digest."""
    from aimass.client.secure_records import read_records
    from aimass.privacy.secagg.context import purpose_id
    from aimass.privacy.secagg.rounds import number_of

    run = bytes.fromhex(session.run_id)
    last = {
        (record.round, record.attempt): record
        for record, counted in read_records(args.dir / "state" / "secagg.jsonl")
        if record.run_id == purpose_id(run, counted.purpose)
    }
    return [
        {
            "step": step,
            "attempt": number_of(attempt),
            "went_to": record.phase.name.lower(),
            "input": record.payload_digest.hex(),
        }
        for (step, attempt), record in sorted(last.items())
    ]


def _policy(args: argparse.Namespace) -> Any:
    from aimass.client.partner import policy_in

    return policy_in(args.dir)


def policy_show(args: argparse.Namespace) -> int:
    """The policy in force."""
    emit(args, _policy(args))
    return 0


def _drafted(args: argparse.Namespace) -> Plan:
    """The plan that a person would submit, of a task or of a Flower app."""
    from aimass.proto.app_plan import AppDraft, app_plan, read_app_draft
    from aimass.proto.apps import read_app
    from aimass.proto.asking import asked_analysis
    from aimass.proto.errors import BadInput
    from aimass.proto.plan import read_plan_draft
    from aimass.proto.surveys import asks_columns
    from aimass.proto.task import load, locate

    text = "" if args.plan is None else args.plan.read_text("utf-8")
    if args.flower is not None:
        return app_plan(read_app(args.flower), read_app_draft(text, str(args.plan)) if text else AppDraft(), {})[0]
    if args.plan is None:
        raise BadInput("name a plan, or an app", code="client.plan", cure="aimass client policy check PLAN.")
    draft = read_plan_draft(text, str(args.plan))
    source = locate(draft.task)
    schema = load(source).schema if asks_columns(draft) else None
    explain = None if schema is None else asked_analysis(draft, schema)
    return draft.complete(source.digest, "0" * 64, schema, explain=explain)


def policy_check(args: argparse.Namespace) -> int:
    """Each rule with the value of a plan and the limit, and what the server could learn; exit code 3 where a rule does
    not hold."""
    from aimass.client.keeper import Keeper
    from aimass.client.learning import learning
    from aimass.client.plan_figure import plan_figure
    from aimass.client.policy import rules
    from aimass.proto.confinement import enforceable
    from aimass.proto.durable import UNINTERRUPTED

    plan = _drafted(args)
    partners = len(plan.cohort.partners or Keeper(args.dir, UNINTERRUPTED).roster.partners)
    policy = _policy(args)
    checked = rules(policy, plan, partners, frozenset(enforceable(args.dir)))
    found = [{"rule": r.name, "holds": r.holds, "plan": r.value, "limit": r.limit} for r in checked]
    learnt = learning(plan, policy, partners, plan_figure(plan))
    if args.json:
        emit(args, {"rules": found, "server": plain(learnt)})
    else:
        emit(args, found)
        emit(args, learnt.lines)
        if args.flower is None and policy.budgeted(policy.schemas.get(plan.data_schema, "")):
            say(args, f"whether it fits what is left of the budget: aimass client budget --plan {args.plan}")
    return 0 if all(rule.holds for rule in checked) else 3
