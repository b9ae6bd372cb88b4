"""The plan of a run: what every partner reads, checks against its policy and hashes before anything happens.

A plan is frozen and validated; its canonical JSON bytes are stored and signed over as they are, so both sides mean
the same thing by its SHA-256. Partners take every number that shapes their work from the plan, never from a later
message: a server cannot raise the learning rate of one partner between two rounds.

A plan outlives releases: it is stored and joined as the bytes that it came in, and its digest is over those. A field
that is added has a default that means what a plan without it meant.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from aimass.proto.asks import EXPLAIN, AskedAnalysis
from aimass.proto.bases import Base
from aimass.proto.compression import Compress
from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.methods import Method, check_method, method_of
from aimass.proto.names import Digest, Name, SchemaName
from aimass.proto.personal import BEFORE, PERSONAL, check_personal
from aimass.proto.plan_settings import (
    TREE_DEPTH,
    TREES,
    AdaptiveClip,
    AnalysisNoise,
    Cohort,
    DistributedNoise,
    EarlyStop,
    EvaluateSettings,
    MetricNoise,
    Needs,
    PrivacySettings,
    Promote,
    SecureSettings,
    Stage,
    TrainSettings,
)
from aimass.proto.step import StepKind
from aimass.proto.studies import Study
from aimass.proto.values import Value, canonical_json, decode_canonical_json, decode_toml

__all__ = [
    "FLOWER",
    "MAX_PLAN_BYTES",
    "AdaptiveClip",
    "AnalysisNoise",
    "Cohort",
    "Compress",
    "DistributedNoise",
    "EarlyStop",
    "EvaluateSettings",
    "MetricNoise",
    "Needs",
    "Plan",
    "PlanDraft",
    "PrivacySettings",
    "Promote",
    "SecureSettings",
    "Stage",
    "Study",
    "TaskRef",
    "TrainSettings",
    "analyses_of",
    "costliest_run",
    "decode_plan",
    "encode_plan",
    "plan_digest",
    "planned_rounds",
    "planned_steps",
    "read_plan_draft",
    "whole_option",
]

MAX_PLAN_BYTES: Final = 1 << 20

FLOWER: Final = "flower"
"""The driver of the one stage of a plan with a Flower app."""


class TaskRef(Value, frozen=True):
    """The code that runs at partners, by name and by the digest that their policies admit: a task, or a Flower app."""

    name: Name
    digest: Digest
    kind: Literal["task", "app"] = "task"


class Plan(Value, frozen=True):
    """Everything that decides what a run computes. Equal plans over equal shards end in the same model, bit for bit.

    `seed` starts the first model and every partner's random streams. `model` is the digest of the first model's
    safetensors blob, which the submitter builds from the task and the seed. `schema` is the task's own, for analyses
    that ask about its columns: all sides take names, bounds and categories from it. `base` is the frozen model that the
    task builds on, which each side holds by its digest: the first model is what the run trains beside it. `explain` is
    the analysis that the stage of this driver runs, with every number of it. `study` is the search that the run is a
    trial of.
    """

    name: Name
    task: TaskRef
    data_schema: SchemaName
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    model: Digest
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1, max_length=100)]
    train: TrainSettings
    evaluate: EvaluateSettings = EvaluateSettings()
    early_stop: EarlyStop | None = None
    cohort: Cohort = Cohort()
    secure: SecureSettings | None = None
    privacy: PrivacySettings | None = None
    schema: Schema | None = None
    compress: Compress | None = None
    base: Base | None = None
    needs: Needs | None = None
    promote: Promote | None = None
    explain: AskedAnalysis | None = None
    study: Study | None = None
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        if self.schema is not None and self.schema.name != self.data_schema:
            raise ValueError(f"`schema` is {self.schema.name}, and `data_schema` {self.data_schema}")
        _check_app(self)
        _check_explain(self)
        _check(self)

    @property
    def method(self) -> Method:
        """What partners do in its training steps."""
        return method_of(stage.driver for stage in self.stages)

    @property
    def keeps_state(self) -> bool:
        """Whether partners keep something from one counted training step to the next."""
        fed_back = self.compress is not None and self.compress.error_feedback
        return self.method == "scaffold" or self.train.keep_optimizer or bool(self.train.keep_local) or fed_back


class PlanDraft(Value, frozen=True):
    """A plan as a person writes it: the task's digest and the first model are filled in at submission."""

    name: Name
    task: Name
    data_schema: SchemaName
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1, max_length=100)]
    train: TrainSettings
    evaluate: EvaluateSettings = EvaluateSettings()
    early_stop: EarlyStop | None = None
    cohort: Cohort = Cohort()
    secure: SecureSettings | None = None
    privacy: PrivacySettings | None = None
    compress: Compress | None = None
    needs: Needs | None = None
    promote: Promote | None = None
    study: Study | None = None

    def __post_init__(self) -> None:
        _check(self)

    def complete(
        self,
        task_digest: str,
        model_digest: str,
        schema: Schema | None = None,
        base: Base | None = None,
        explain: AskedAnalysis | None = None,
    ) -> Plan:
        """The plan that this draft becomes with the task's digest, schema and base, the first model's digest, and what
        its stage `explain` asks."""
        return Plan(
            name=self.name,
            task=TaskRef(name=self.task, digest=task_digest),
            data_schema=self.data_schema,
            seed=self.seed,
            model=model_digest,
            stages=self.stages,
            train=self.train,
            evaluate=self.evaluate,
            early_stop=self.early_stop,
            cohort=self.cohort,
            secure=self.secure,
            privacy=self.privacy,
            compress=self.compress,
            needs=self.needs,
            promote=self.promote,
            study=self.study,
            schema=schema,
            base=base,
            explain=explain,
        )


def _check(plan: Plan | PlanDraft) -> None:
    _check_secure(plan)
    _check_privacy(plan)
    check_method((stage.driver for stage in plan.stages), plan.train, plan.privacy, plan.secure)
    _check_compress(plan)
    _check_study(plan)


def _check_secure(plan: Plan | PlanDraft) -> None:
    """Raise `ValueError` where a plan asks for secure sums and for what they cannot give."""
    secure, cohort = plan.secure, plan.cohort
    if secure is None:
        return
    if cohort.quorum < secure.groups * secure.min_cohort:
        raise ValueError(
            f"`quorum` {cohort.quorum} is less than {secure.groups} groups of {secure.min_cohort} (`secure.min_cohort`)"
        )
    if cohort.late != "refuse":
        raise ValueError('`late = "next"` is for plain sums: a masked input fits the sum that it was masked for')
    if plan.early_stop is not None and plan.early_stop.metric not in secure.metrics:
        raise ValueError("`early_stop` watches a metric that is not among `secure.metrics`")


def _check_compress(plan: Plan | PlanDraft) -> None:
    """Raise `ValueError` where an update cannot be compressed as the plan says."""
    compress, secure = plan.compress, plan.secure
    if compress is None:
        return
    if method_of(stage.driver for stage in plan.stages) == "scaffold":
        raise ValueError(
            "`compress` is for updates: of a control variate, which `scaffold` sends beside them, partners and server "
            "would hold different ones. Take `averaging`"
        )
    if secure is not None and compress.sparsify == "top-k":
        raise ValueError(
            "`top-k` does not go with `secure`: each partner would send other elements, so that they have no sum "
            'under masks, and which ones would tell of its rows. Take `sparsify = "random-mask"`, the same for all'
        )
    if secure is not None and compress.quantise != "none":
        raise ValueError(
            "`compress.quantise` does not go with `secure`, whose lanes are rounded without bias already: leave it "
            "out, and set `secure.bits` to as few bits as an element shall have"
        )


def _check_study(plan: Plan | PlanDraft) -> None:
    """Raise `ValueError` where the costliest run of a study would be none."""
    if plan.study is None:
        return
    try:
        costliest_run(plan, plan.study)
    except BadInput as error:
        told = BadInput(error.what, code=error.code, value=error.value, limit=error.limit)  # who reads it adds a cure
        raise ValueError(f"`study.costliest`: {told.sentence()}") from error


P = TypeVar("P", bound="Plan | PlanDraft")


def costliest_run(plan: P, study: Study) -> P:
    """The plan of the run of `study` that would cost most, from that of any of its runs; it is of no study itself."""
    return with_settings(msgspec.structs.replace(plan, study=None), study.costliest, "the costliest run of the study")


def _check_app(plan: Plan) -> None:
    """Raise `ValueError` where a plan mixes a Flower app with what only tasks have."""
    app = plan.task.kind == "app"
    if any((stage.driver == FLOWER) != app for stage in plan.stages):
        raise ValueError(f"a Flower app has stages of the driver {FLOWER!r}, and no other code has them")
    if app and len(plan.stages) != 1:
        raise ValueError("a Flower app is one stage: what it does after what its ServerApp says")
    if app and plan.compress is not None:
        raise ValueError("`compress` is for the updates of tasks: a Flower app has mods of its own for its replies")
    if app and plan.base is not None:
        raise ValueError("`base` is a task's: an app brings its models itself")
    if app and plan.privacy is not None:
        raise ValueError(
            "`privacy` is made by the training of tasks: what a Flower app does with single rows nobody can promise. "
            "Use `secure.noise`, which protects each partner as a whole"
        )


def _check_explain(plan: Plan) -> None:
    """Raise `ValueError` where what is asked of an analysis and the stage that asks it do not go together."""
    stages = sum(stage.driver == EXPLAIN for stage in plan.stages)
    if stages > 1:
        raise ValueError(f"two stages {EXPLAIN!r}: partners know a step by its driver, so that a plan has one")
    if plan.explain is not None and (not stages or plan.schema is None):
        raise ValueError(f"`explain` goes with a stage of the driver {EXPLAIN!r} and the task's `schema`")


def _check_privacy(plan: Plan | PlanDraft) -> None:
    """Raise `ValueError` where a plan asks for differential privacy and for what would break its promise.

    A kept optimiser is welcome: its moments are made from noised gradients alone, and cost nothing more.
    """
    _check_distributed(plan)
    check_personal(plan)
    privacy, train = plan.privacy, plan.train
    if privacy is None:
        return
    if train.steps is None:
        raise ValueError("`privacy` needs `train.steps`: steps are what is accounted, and epochs would tell the rows")
    if train.weight != "one":
        raise ValueError('`privacy` needs `train.weight = "one"`: the number of rows is private too')
    if privacy.rows_per_person is not None and privacy.rows_per_person > train.batch_size:
        raise ValueError(
            f"`privacy.rows_per_person` {privacy.rows_per_person} is more than the {train.batch_size} rows of "
            "`train.batch_size`: a person's rows are held in memory together"
        )
    if train.accumulate != 1 or train.checkpointing:
        raise ValueError(
            "`privacy` keeps each row's activations for its gradient, of `train.batch_size` rows at once: for less "
            "memory lower that, and leave `train.accumulate` and `train.checkpointing` out"
        )
    if train.gradient_clip is not None:
        raise ValueError("`train.gradient_clip` stands beside `privacy.clip`, which clips each row's gradient: drop it")


def _check_distributed(plan: Plan | PlanDraft) -> None:
    """Raise `ValueError` where noise inside a secure sum would not be what it is accounted for."""
    secure, train = plan.secure, plan.train
    if secure is None or secure.noise is None:
        return
    if train.weight != "one":
        raise ValueError('`secure.noise` needs `train.weight = "one"`: the number of rows is private too')
    if secure.rule != "mean":
        raise ValueError('`secure.noise` needs `rule = "mean"`: other rules look at more than the sum has noise for')
    if secure.groups != 1:
        raise ValueError("`secure.noise` needs one group: its noise is made for the sum of all")
    if secure.noise.members < secure.min_cohort:
        raise ValueError(f"`secure.noise.members` is less than the {secure.min_cohort} of `secure.min_cohort`")
    if train.keep_local:
        raise ValueError(
            "`secure.noise` is planned, and accounted for, on all numbers of a model: leave `train.keep_local` out, or "
            "protect rows or persons with `privacy`, which goes with it"
        )
    if secure.noise.delta * secure.noise.members > 1:
        raise ValueError("`secure.noise.delta` is above one in `secure.noise.members`: it would promise nothing")


def planned_rounds(plan: Plan | PlanDraft) -> float:
    """Training rounds of all stages together; infinite where a stage's number cannot be read."""
    return sum(_rounds(stage, without=0) for stage in plan.stages)


def planned_steps(plan: Plan | PlanDraft, kind: StepKind, purpose: str) -> float:
    """How many steps of one kind and purpose the plan can lead to: a partner does no more.

    Training once a round; evaluation after every so many rounds and after the last of a stage, and twice for personal
    models; an analysis as often as the stages of its name say. Queries are an app's alone, and it has no analyses: what
    a task is asked as a query would pass by what holds for analyses.
    """
    if kind is StepKind.TRAIN:
        return planned_rounds(plan)
    if kind is StepKind.EVALUATE and purpose:
        return sum(stage.driver == PERSONAL for stage in plan.stages) if purpose in (BEFORE, PERSONAL) else 0
    if kind is StepKind.EVALUATE:
        return sum(_evaluations(_rounds(stage, without=0), plan.evaluate.every) for stage in plan.stages)
    named = [stage for stage in plan.stages if stage.driver == purpose]
    return sum(analyses_of(plan, stage) for stage in named if (stage.driver == FLOWER) == (kind is StepKind.QUERY))


def analyses_of(plan: Plan | PlanDraft, stage: Stage) -> float:
    """How often a stage asks for the analysis of its name: once where it says nothing, twice where it refines; of trees
    once for their bins, and once for each level of a round; of an explanation once a phase, which no draft says.
    """
    if stage.driver == EXPLAIN:
        return plan.explain.steps if isinstance(plan, Plan) and plan.explain is not None else 1
    if stage.driver == TREES:
        return 1 + _rounds(stage, without=0) * whole_option(stage, "depth", without=TREE_DEPTH)
    return _rounds(stage, without=1) * (2 if stage.options.get("refine") is True else 1)


def _evaluations(rounds: float, every: int) -> float:
    if not every:
        return 0
    return math.ceil(rounds / every) if math.isfinite(rounds) else rounds


def _rounds(stage: Stage, without: int) -> float:
    return whole_option(stage, "rounds", without)


def whole_option(stage: Stage, option: str, without: int) -> float:
    """A stage's option that is a whole number, `without` where the stage does not say it; infinite where it is none."""
    found = stage.options.get(option, without)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else math.inf


def read_plan_draft(text: str, what: str = "the plan") -> PlanDraft:
    """Decode a person's TOML; raises `BadInput` with the path of the fault."""
    return decode_toml(PlanDraft, text, what)


def encode_plan(plan: Plan) -> bytes:
    """The canonical JSON bytes of `plan`: what is stored, sent, hashed and checked."""
    return canonical_json(plan)


def decode_plan(data: bytes) -> Plan:
    """Strictly decode a plan's bytes; raises `BadInput` for anything but canonical JSON.

    Fields with defaults may be missing, as in the plans of earlier releases; the digest stays that of the bytes.
    """
    if len(data) > MAX_PLAN_BYTES:
        raise BadInput("the plan is too large", code="plan.size", value=len(data), limit=f"{MAX_PLAN_BYTES} bytes")
    return decode_canonical_json(Plan, data, "the plan")


def plan_digest(data: bytes) -> str:
    """SHA-256 of a plan's exact bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
