"""What a run's server could learn of its partners: read from the plan and from what the server was shown. Pure.

A plan says what leaves under which protection; a partner's policy may be stricter, never laxer, and is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from aimass.explain.runs.spending import told_spent
from aimass.explain.words import counted, joined, percent
from aimass.privacy.dp.spending import planned_spent
from aimass.proto.plan import Plan
from aimass.proto.plan_settings import SecureSettings
from aimass.proto.values import Value
from aimass.proto.views import RunView, SlotState

__all__ = ["Exposed", "exposure"]

_MOST_NAMED = 8
_STRONG = 10.0
"""An epsilon above bounds little of what anybody could learn of a row."""


class Exposed(Value, frozen=True):
    """One thing that leaves: `what`, how far it is `guarded`, and a sentence that says who learns what of it."""

    what: str
    guarded: Literal["yes", "partly", "no"]
    says: str


_ROWS = Exposed(
    what="the rows",
    guarded="no",
    says="The run was offline and asked no partner: whoever computed it read all rows of its data set.",
)


def exposure(run: RunView) -> tuple[Exposed, ...]:
    """Updates, metrics, single partners' figures, who took part, and what the model itself remembers.

    Of an offline run that its rows were at hand, and what the model remembers: it asked no partner.
    """
    return (_ROWS, _model(run.plan)) if run.summary.kind == "offline" else tuple(_exposed(run))


def _exposed(run: RunView) -> Iterator[Exposed]:
    yield _updates(run.plan)
    yield _metrics(run.plan)
    yield _released(run)
    yield _attendance(run)
    yield _model(run.plan)
    if run.plan.explain is not None:
        yield _analysis(run.plan)


def _updates(plan: Plan) -> Exposed:
    if plan.secure is None:
        noise = " Each carries the noise of its partner." if plan.privacy is not None else ""
        return Exposed(
            what="updates",
            guarded="partly" if plan.privacy is not None else "no",
            says=f"The sum is plain: the server sees each partner's update by itself.{noise}",
        )
    secure = plan.secure
    who = {"malicious": "even one that lies", "hbc": "if it follows the protocol"}[secure.profile]
    return Exposed(
        what="updates",
        guarded="yes",
        says=(
            f"The server, {who}, learns {_sums(secure)} of at least {secure.min_cohort} partners and no partner's own, "
            f"as long as no more than {percent(secure.colluders)} of the partners work together with it."
        ),
    )


def _sums(secure: SecureSettings) -> str:
    return "the sum" if secure.groups == 1 else f"{secure.groups} sums a step, each"


def _metrics(plan: Plan) -> Exposed:
    if plan.secure is not None:
        return Exposed(
            what="metrics", guarded="yes", says=f"{joined(list(plan.secure.metrics))} go through the same sum."
        )
    noise = plan.privacy is not None and plan.privacy.metrics is not None
    return Exposed(
        what="metrics",
        guarded="partly" if noise else "no",
        says="Each partner's figures reach the server" + (", with noise." if noise else " as they are."),
    )


def _released(run: RunView) -> Exposed:
    """Whose own figures the server shows, because their policies let it."""
    named: dict[str, set[str]] = {}
    for step in run.steps:
        for metric, view in step.metrics.items():
            for partner in view.by_partner:
                named.setdefault(partner, set()).add(metric)
    if not named:
        return Exposed(what="single partners' figures", guarded="yes", says="No partner released figures of its own.")
    metrics = sorted(set().union(*named.values()))
    return Exposed(
        what="single partners' figures",
        guarded="partly",
        says=f"{_few(sorted(named))} let the server show {joined(metrics)} of their own.",
    )


def _few(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    return joined(names) if rest <= 0 else joined([*names[:_MOST_NAMED], f"{rest:,} more partners"])


def _attendance(run: RunView) -> Exposed:
    asked = {name for step in run.steps for name in step.slots}
    gone = {
        name
        for step in run.steps
        for name, slot in step.slots.items()
        if slot in (SlotState.LATE, SlotState.FAILED, SlotState.REFUSED)
    }
    answers = f"when each answered, and that {_few(sorted(gone))} once did not" if gone else "and when each answered"
    were = "was" if len(asked) == 1 else "were"
    told = f"The server knows that {counted(len(asked), 'partner')} {were} asked, {answers}."
    return Exposed(what="who took part", guarded="no", says=told)


def _model(plan: Plan) -> Exposed:
    spent = planned_spent(plan, 1, quick=True)
    if spent.epsilon is None:
        return Exposed(
            what="the model itself",
            guarded="no",
            says="It was trained without differential privacy: whoever has it may find traces of single rows in it.",
        )
    return Exposed(
        what="the model itself",
        guarded="yes" if spent.epsilon <= _STRONG else "partly",
        says=f"Whatever is done with it, the whole run as planned costs {told_spent(spent)} at most.",
    )


def _analysis(plan: Plan) -> Exposed:
    summed = plan.secure is not None
    return Exposed(
        what="the analysis's answers",
        guarded="partly",
        says="Counts over rows leave, with the smallest that the policy allows and its noise, "
        + ("as sums over partners." if summed else "of each partner by itself."),
    )
