"""What people and programs are shown of a server: one shape for the wire, the Python SDK and `--json`."""

from __future__ import annotations

import enum
from typing import Literal

from aimass.proto.origin import Origin
from aimass.proto.outcomes import Outcome
from aimass.proto.plan import Plan
from aimass.proto.statistics import Statistics
from aimass.proto.step import StepKind
from aimass.proto.traffic import Moved
from aimass.proto.values import Value

__all__ = [
    "ConnectedPartner",
    "EnrolmentList",
    "EnrolmentView",
    "LayerSummary",
    "MetricView",
    "ModelList",
    "ModelView",
    "ParticipantState",
    "ParticipantView",
    "PersonView",
    "ReceiptList",
    "ReceiptView",
    "RunList",
    "RunState",
    "RunSummary",
    "RunView",
    "ServerView",
    "SlotState",
    "StepSummary",
    "StepView",
]


class RunState(enum.StrEnum):
    """Life of a run. FINISHED, STOPPED and FAILED are final."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing more can happen."""
        return self in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)


class ParticipantState(enum.StrEnum):
    """Where a partner stands in a run."""

    INVITED = "invited"
    JOINED = "joined"
    DECLINED = "declined"
    EXCLUDED = "excluded"
    REMOVED = "removed"


class SlotState(enum.StrEnum):
    """Where a partner stands in a step."""

    WAITING = "waiting"
    ASKED = "asked"
    READY = "ready"
    STORED = "stored"
    COUNTED = "counted"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"


class ParticipantView(Value, frozen=True):
    """A partner in a run, with the reason where it does not take part."""

    partner: str
    state: ParticipantState
    connected: bool
    participant: str = ""
    device: str = ""
    confinement: str = ""
    reason: str = ""


class MetricView(Value, frozen=True):
    """A metric over the cohort: `mean` = total / weight; `by_partner` holds only figures that policies released."""

    mean: float
    weight: float
    by_partner: dict[str, float] = {}


class LayerSummary(Value, frozen=True):
    """How a step changed one tensor: L2 norms of the change and of the way from the run's first model.

    `similarity` is the cosine with the change before, `quantiles` are of the new values at 0, 5, 25, 50, 75, 95, 100 %.
    """

    norm: float
    drift: float
    similarity: float | None
    quantiles: tuple[float, ...]


class StepSummary(Value, frozen=True):
    """The same over all tensors, by layer (the 128 largest), and a seeded sketch.

    The inner product of two steps' sketches estimates that of their changes, whichever the two steps are.
    """

    norm: float
    drift: float
    similarity: float | None
    layers: dict[str, LayerSummary]
    sketch: tuple[float, ...]


class StepView(Value, frozen=True):
    """One step; times are Unix seconds. `carried` are partners whose late work for an earlier step counts in it.

    `attempts` says how often a secure sum was tried, `failed_attempts` why some came to none, and who was missing.
    `statistics` is what a survey's step came to.
    """

    index: int
    kind: StepKind
    round: int
    purpose: str
    state: str
    opened_at: float
    deadline_at: float
    slots: dict[str, SlotState]
    reasons: dict[str, str] = {}
    carried: dict[str, int] = {}
    attempts: int = 0
    failed_attempts: tuple[str, ...] = ()
    committed_at: float | None = None
    model: str = ""
    metrics: dict[str, MetricView] = {}
    summary: StepSummary | None = None
    statistics: Statistics | None = None
    transcript_head: str = ""


class RunSummary(Value, frozen=True):
    """A line of `aimass run list`. An offline run computes on shards of one data set, and not at partners."""

    run_id: str
    name: str
    task: str
    state: RunState
    reason: str
    round: int
    rounds: int
    partners: int
    created_at: float
    ended_at: float | None
    model: str
    owner: str
    kind: Literal["federated", "offline"] = "federated"


class RunView(Value, frozen=True):
    """A run in full, as its owner and operators see it. `disk_bytes` is what its kept models take, `moved` what of it
    crossed the wire. An offline run has an `origin`, and no participants. Of a page of its steps `more` says that there
    may be others behind it. `outcome` is what became of its model where its plan says `[promote]`."""

    summary: RunSummary
    plan: Plan
    plan_digest: str
    participants: tuple[ParticipantView, ...]
    steps: tuple[StepView, ...]
    disk_bytes: int
    transcript_entries: int
    transcript_head: str
    moved: Moved = Moved()
    origin: Origin | None = None
    more: bool = False
    outcome: Outcome | None = None


class StudyView(Value, frozen=True):
    """A study as its owner sees it: how many of its `trials` were submitted, and whether it has ended."""

    id: str
    runs: int
    trials: int
    ended: bool


class RunList(Value, frozen=True):
    """Runs, newest first."""

    runs: tuple[RunSummary, ...]


class ReceiptView(Value, frozen=True):
    """What the server told a partner about its contribution, with the signature in hexadecimal."""

    step: int
    partner: str
    outcome: str
    contribution: str
    body: str
    signature: str


class ReceiptList(Value, frozen=True):
    """Receipts of a run by step and partner."""

    run_id: str
    receipts: tuple[ReceiptView, ...]


class ModelView(Value, frozen=True):
    """A committed model: the blob's digest and where it comes from; whether its bytes are still kept."""

    digest: str
    bytes: int
    run_id: str
    run_name: str
    task: str
    step: int
    round: int
    committed_at: float
    metrics: dict[str, MetricView] = {}
    kept: bool = True


class ModelList(Value, frozen=True):
    """Committed models, newest first."""

    models: tuple[ModelView, ...]


class ConnectedPartner(Value, frozen=True):
    """A roster member and whether its daemon is connected."""

    name: str
    connected: bool
    since: float | None
    software: str
    roster_epoch: int


class ServerView(Value, frozen=True):
    """`aimass server status`."""

    name: str
    software: str
    protocol_min: int
    protocol_max: int
    started_at: float
    roster_epoch: int
    roster_digest: str
    partners: tuple[ConnectedPartner, ...]
    runs: dict[str, int]
    pending_enrolments: int
    free_bytes: int


class PersonView(Value, frozen=True):
    """Whom a service takes the caller for, `through` which service if one brought them by a token, and until when."""

    name: str
    role: str
    through: str
    until: float


class EnrolmentView(Value, frozen=True):
    """A request that waits for the root holder; `request` is its canonical JSON."""

    name: str
    role: str
    fingerprint: str
    received_at: float
    request: str


class EnrolmentList(Value, frozen=True):
    """What `aimass server enrolments` writes to a file for `aimass pki roster sign`."""

    requests: tuple[EnrolmentView, ...]
