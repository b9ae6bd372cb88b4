"""How stored runs and steps are shown to people: pure functions from states to views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aimass.privacy.transcript import Chain
from aimass.proto.contribution import STATE_LOST, Metric
from aimass.proto.reports import StepReport
from aimass.proto.step import StepKind
from aimass.proto.traffic import Moved
from aimass.proto.views import MetricView, ModelView, ParticipantView, RunSummary, RunView, StepSummary, StepView
from aimass.server.drivers.base import Progress
from aimass.server.steps import StepState
from aimass.server.store import ModelRow, RunRow

__all__ = [
    "by_round",
    "evaluation_of",
    "model_view",
    "open_step_view",
    "reported_view",
    "run_summary",
    "run_view",
    "step_view",
]

_LOST: Final = (
    "session.state_lost: counted, and trained without what it had kept from earlier steps: that is lost there"
)


def open_step_view(state: StepState, ended: str = "") -> StepView:
    """A step that is open, or that the run's end closed for the reason `ended`."""
    return StepView(
        index=state.step.index,
        kind=state.step.kind,
        round=state.step.round,
        purpose=state.step.purpose,
        state="cancelled" if ended else "open" if state.counted is None else "closing",
        opened_at=state.opened_at,
        deadline_at=state.deadline_at,
        slots={name: slot.state for name, slot in state.slots.items()},
        reasons={name: slot.reason for name, slot in state.slots.items() if slot.reason},
        carried=dict(state.step.carried),
        attempts=state.attempts.begun if state.attempts is not None else 0,
        failed_attempts=state.attempts.failed if state.attempts is not None else (),
    )


def step_view(
    state: StepState,
    committed_at: float,
    model: str,
    metrics: Mapping[str, Metric],
    figures: Mapping[str, Mapping[str, float]],
    summary: StepSummary | None,
) -> StepView:
    """A step that is being committed. Figures of single partners are those that their policies released."""
    names = sorted(set(metrics) | {name for released in figures.values() for name in released})
    views = {
        name: MetricView(
            mean=metrics[name].total / metrics[name].weight if name in metrics else float("nan"),
            weight=metrics[name].weight if name in metrics else 0.0,
            by_partner={partner: released[name] for partner, released in figures.items() if name in released},
        )
        for name in names
        if name in metrics
    }
    opened = open_step_view(state)
    lost = {name: _LOST for name, released in figures.items() if STATE_LOST in released}
    return StepView(
        index=opened.index,
        kind=opened.kind,
        round=opened.round,
        purpose=opened.purpose,
        state="committed",
        opened_at=opened.opened_at,
        deadline_at=opened.deadline_at,
        slots=opened.slots,
        reasons=opened.reasons | lost,
        carried=opened.carried,
        attempts=opened.attempts,
        failed_attempts=opened.failed_attempts,
        committed_at=committed_at,
        model=model,
        metrics=views,
        summary=summary,
    )


def reported_view(report: StepReport, now: float, model: str, summary: StepSummary | None) -> StepView:
    """A step of an offline run as it was reported at `now`; `model` is what it made, empty where it made none."""
    return StepView(
        index=report.index,
        kind=report.kind,
        round=report.round,
        purpose=report.purpose,
        state="committed",
        opened_at=now - report.seconds,
        deadline_at=now,
        slots=report.slots,
        reasons=report.reasons,
        committed_at=now,
        model=model,
        metrics={name: MetricView(mean=one.mean, weight=one.weight) for name, one in report.metrics.items()},
        summary=summary,
        statistics=report.statistics,
    )


def run_summary(row: RunRow, progress: Progress) -> RunSummary:
    """A line about a run."""
    run = row.run
    return RunSummary(
        run_id=row.run_id,
        name=run.plan.name,
        task=run.plan.task.name,
        state=run.state,
        reason=run.reason,
        round=progress.round,
        rounds=progress.rounds,
        partners=len(run.participants) if run.offline is None else run.offline.origin.shards,
        created_at=row.created_at,
        ended_at=row.ended_at,
        model=run.model,
        owner=row.owner,
        kind="federated" if run.offline is None else "offline",
    )


def run_view(
    row: RunRow,
    chain: Chain,
    stored: Sequence[StepView],
    connected: frozenset[str],
    progress: Progress,
    disk_bytes: int,
    moved: Moved,
) -> RunView:
    """A run in full."""
    participants = tuple(
        ParticipantView(
            partner=name,
            state=member.state,
            connected=name in connected,
            participant=member.key,
            device=member.device,
            confinement=member.confinement,
            reason=member.reason,
        )
        for name, member in sorted(row.run.participants.items())
    )
    return RunView(
        summary=run_summary(row, progress),
        plan=row.run.plan,
        plan_digest=row.plan_digest,
        participants=participants,
        steps=tuple(stored),
        disk_bytes=disk_bytes,
        moved=moved,
        transcript_entries=chain.entries,
        transcript_head=chain.head,
        origin=row.run.offline.origin if row.run.offline is not None else None,
    )


def by_round(stored: Sequence[StepView]) -> dict[int, list[StepView]]:
    """Steps by their round: who looks at every model of a run need not look through all steps for each."""
    found: dict[int, list[StepView]] = {}
    for step in stored:
        found.setdefault(step.round, []).append(step)
    return found


def evaluation_of(row: ModelRow, stored: Sequence[StepView]) -> StepView | None:
    """The evaluation that followed a committed model; not that of a personal stage, which measures other models."""
    own = (step for step in stored if step.kind is StepKind.EVALUATE and not step.purpose)
    after = (step for step in own if step.index > row.step)
    return next((step for step in after if step.round == row.round), None)


def model_view(row: ModelRow, run: RunRow, stored: Sequence[StepView], *, kept: bool) -> ModelView:
    """A committed model with the metrics of the evaluation that followed it: `stored` are the steps of its round at
    least."""
    evaluated = evaluation_of(row, stored)
    return ModelView(
        digest=row.digest,
        bytes=row.bytes,
        run_id=row.run_id,
        run_name=run.run.plan.name,
        task=run.run.plan.task.name,
        step=row.step,
        round=row.round,
        committed_at=row.committed_at,
        metrics=evaluated.metrics if evaluated else {},
        kept=kept,
    )
