"""`aimass client budget`: what a data set may spend, has spent, and what a plan would cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from aimass.proto.console import emit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aimass.client.budget_picture import History
    from aimass.client.policy import Policy
    from aimass.privacy.dp.accounting import Accountant
    from aimass.privacy.dp.ledger_lines import Head
    from aimass.privacy.dp.ledger_reading import Reading
    from aimass.privacy.dp.ledger_state import Ledger

__all__ = ["budget", "standing_rows"]


def budget(args: argparse.Namespace) -> int:
    """Every budget with what is spent, reserved and left; by run; and the price of a plan."""
    from aimass.client.partner import policy_in
    from aimass.privacy.dp.ledger_file import HEAD, LINES
    from aimass.privacy.dp.ledger_reading import read_doubts, rolled_back
    from aimass.proto.errors import NotFound

    policy = policy_in(args.dir)
    names = sorted({one.data_set for one in policy.budgets if args.data_set in ("", one.data_set)})
    if not names:
        what = "this data set has no privacy budget" if args.data_set else "no data set here has a privacy budget"
        raise NotFound(
            what, code="budget.none", value=args.data_set or None,
            cure="State one under [[budgets]] in policy.toml.",
        )  # fmt: skip
    found, histories = [], []
    for name in names:
        # Read as it stands: the daemon may hold it. What is open in it may yet be given back in part.
        folder = args.dir / "state" / "ledgers" / name
        reading, doubts = read_doubts(folder / LINES, folder / HEAD)
        ledger = reading.ledger
        doubt = (
            {"doubt": f"{rolled_back(doubts[0], ledger.ledger).sentence()} {_known(reading, doubts)}"} if doubts else {}
        )
        found.append({"data_set": name, **doubt, **_told(args, policy, name, ledger)})
        histories += _histories(args, policy, name, ledger)
    if args.picture is not None:
        _draw(args.picture, histories)
    if args.json:
        emit(args, found)
        return 0
    emit(args, [{"data_set": one["data_set"], **row} for one in found for row in one["budgets"]])
    for key in ("runs", "studies", "plan"):
        rows = [{"data_set": one["data_set"], **row} for one in found for row in one.get(key, [])]
        if rows:
            emit(args, {key: rows})
    for one in found:
        if "doubt" in one:
            emit(args, {"nothing_debited": f"{one['data_set']}: {one['doubt']}"})
    if args.over_time:
        _chart(histories)
    return 0


def _histories(args: argparse.Namespace, policy: Policy, name: str, ledger: Ledger) -> list[History]:
    """What was spent over time, of each budget of a data set; nothing where nobody asks for it."""
    if args.picture is None and not args.over_time:
        return []
    from aimass.client.budget import budgets_of
    from aimass.client.budget_picture import history
    from aimass.privacy.dp.accounting import Accountant

    return [history(name, ledger, one, Accountant()) for one in budgets_of(policy, name)]


def _draw(path: Path, histories: Sequence[History]) -> None:
    import time

    from aimass.client.budget_picture import svg
    from aimass.proto.console import write_output
    from aimass.proto.errors import BadInput

    if path.suffix.lower() != ".svg":
        raise BadInput(
            "pictures are drawn as SVG, which every browser shows", code="budget.picture", value=path.name,
            limit=".svg", cure="Name a file that ends in .svg.",
        )  # fmt: skip
    write_output(path, svg(histories, time.time()).encode())


def _chart(histories: Sequence[History]) -> None:
    import sys
    import time

    from aimass.client.budget_picture import chart

    for one in histories:
        sys.stdout.write("\n" + "".join(f"{line}\n" for line in chart(one, time.time())))


def _known(reading: Reading, doubts: Sequence[Head]) -> str:
    """How far another copy went, for the partner alone: line numbers tell how much a data set was used."""
    return f"This copy has {len(reading.heads)} lines, the newest that is known {max(head.lines for head in doubts)}."


def _told(args: argparse.Namespace, policy: Policy, name: str, ledger: Ledger) -> dict[str, Any]:
    import dataclasses

    from aimass.client.budget import budgets_of
    from aimass.client.study_cli import study_rows
    from aimass.privacy.dp.accounting import Accountant
    from aimass.privacy.dp.ledger_state import run_name

    accountant, budgets = Accountant(), budgets_of(policy, name)
    stated = dataclasses.replace(ledger, budgets=budgets)
    told: dict[str, Any] = {
        "budgets": standing_rows(stated, accountant),
        "runs": [
            {
                "run": run_name(run_id),
                "steps": sum(counts.values()),
                "epsilon_alone": round(accountant.figure(budgets[0].terms, counts).epsilon, 4),
            }
            for run_id, counts in ledger.runs().items()
        ],
        "studies": study_rows(policy, stated, accountant),
    }
    if args.plan is not None:
        told["plan"] = _price(args, stated, accountant)
    return told


def standing_rows(ledger: Ledger, accountant: Accountant) -> list[dict[str, Any]]:
    """Each budget of a ledger with what is spent, reserved and left."""
    from aimass.privacy.dp import ledger as rules

    return [
        {
            "each": str(one.budget.terms.unit),
            "epsilon": one.budget.epsilon,
            "delta": one.budget.terms.delta,
            "spent": round(one.settled.epsilon, 4),
            "with_reserved": round(one.whole.epsilon, 4),
            "left": round(one.left, 4),
            "by": one.whole.accountant,
        }
        for one in rules.standing(ledger, accountant)
    ]


def _price(args: argparse.Namespace, ledger: Ledger, accountant: Any) -> list[dict[str, Any]]:
    """One more round of a plan, after its analyses: the figure with it, and how many rounds fit."""
    from collections import Counter

    from aimass.client.budget import widest_of
    from aimass.privacy.dp.calibrate import rounds_left
    from aimass.privacy.dp.events import tally
    from aimass.privacy.dp.private_terms import analysis_events, round_events
    from aimass.privacy.dp.unknown_model import dearest_sum
    from aimass.proto.errors import BadInput
    from aimass.proto.plan import planned_rounds, read_plan_draft

    plan = read_plan_draft(args.plan.read_text("utf-8"), str(args.plan))
    one = round_events(plan, None, args.rows, widest_of(ledger.budgets), sent=dearest_sum(plan.secure))
    if not one:
        raise BadInput(
            "the plan has no differential privacy", code="budget.plan", value=plan.name,
            cure="A plan has it by [privacy], [secure.noise] or the trees' noise_multiplier: docs/scientist.md.",
        )  # fmt: skip
    counted = Counter(ledger.settled())
    counted.update(ledger.pending())
    counted.update(tally(analysis_events(plan)))
    rows = []
    for budget in ledger.budgets:
        after = Counter(counted)
        after.update(tally(one))
        rows.append(
            {
                "each": str(budget.terms.unit),
                "epsilon_after_one_round": round(accountant.figure(budget.terms, after).epsilon, 4),
                "rounds_planned": planned_rounds(plan),
                "rounds_that_fit": rounds_left(budget, one, counted),
            }
        )
    return rows
