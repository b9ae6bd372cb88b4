"""What a partner permits: one file that its data protection officer can read, and a pure decision over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from aimass.client.coarse import Coarseness
from aimass.client.explain_policy import Explain, explain_rules
from aimass.client.policy_rules import Rule, at_least, at_most
from aimass.client.study_policy import Studies, study_rules
from aimass.client.tree_policy import Trees, tree_rules
from aimass.privacy.dp.events import Unit
from aimass.privacy.dp.private_terms import ANALYSES
from aimass.proto.asks import EXPLAIN
from aimass.proto.boosting import noise_of_trees
from aimass.proto.confinement import Confinement
from aimass.proto.names import Digest, Name, SchemaName
from aimass.proto.personal import trainings
from aimass.proto.plan import Plan, SecureSettings, TrainSettings, planned_rounds
from aimass.proto.plan_settings import TREES
from aimass.proto.values import Value, decode_toml

__all__ = [
    "Admit",
    "Bounds",
    "Confinement",
    "Decision",
    "Pending",
    "Policy",
    "Refuse",
    "Rule",
    "Secure",
    "Studies",
    "Trees",
    "decide",
    "mechanism",
    "read_policy",
    "rules",
]

Positive = Annotated[int, msgspec.Meta(ge=1)]


class AdmittedTask(Value, frozen=True):
    """Code that may run here, a task, a Flower app or an analysis: its name and the digest of its files."""

    name: Name
    digest: Digest
    kind: Literal["task", "app", "analysis"] = "task"


class Bounds(Value, frozen=True):
    """Largest (and smallest) values of a plan's numbers.

    `smallest_noise` is the least noise multiplier of all that a plan has (private steps, metrics, analyses, inside the
    sum), 0 of a plan without; `sampling_rate` the largest share of the rows that a private step may draw. They keep one
    plan from spending a budget in a few loud steps; how much it spends in all the budget says. The clip has no bound:
    noise grows with it.
    """

    rounds: Positive = 1_000
    epochs: Positive = 20
    steps: Positive = 100_000
    smallest_batch: Positive = 1
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    proximal_mu: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    norm: Annotated[float, msgspec.Meta(gt=0)] = 1e6
    smallest_noise: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    sampling_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


class Release(Value, frozen=True):
    """What may leave beside the sum: names of metrics that are summed, of figures shown for this partner alone.

    A figure is no part of any sum: the server sees this partner's own number, under secure aggregation too. Metrics,
    figures and analyses of a data set with a privacy budget leave with the noise that the plan gives them, which its
    budget pays for. Without noise they stay here, unless they may leave `unprotected`, beside the budget.

    A table of a survey without noise tells no count of fewer rows than `smallest_count`, nor what such a count follows
    from beside the number of all rows; several tables together may. `aimass.client.small_counts` has the rule. The sums
    of `statistics`, which training is standardised by, are whole.
    """

    metrics: tuple[str, ...] = ("loss", "accuracy", "auc", "dice")
    figures: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ("statistics",)
    unprotected: bool = False
    smallest_count: Positive = 5


class DataBudget(Value, frozen=True):
    """The most privacy that a data set may ever spend towards each `unit`, over all runs, tasks and servers.

    Stated for a neighbour that has one example or person more or less, at `delta`, which should be well below one in
    their number; for a partner, that what it contributed is hidden and not that it took part. What was spent stands in
    the data set's ledger, and a larger budget is a decision of this file alone.
    """

    data_set: Name
    epsilon: Annotated[float, msgspec.Meta(gt=0, le=50)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    unit: Literal["example", "person", "partner"] = "example"


class Secure(Value, frozen=True):
    """The least that a plan with secure aggregation must promise, and the most that this partner gives.

    `profile`: "malicious" holds against a server that lies; "hbc" also lets in plans that hold only against one that
    follows the protocol. A sum is of `min_cohort` partners at least, and of `smallest_cohort`; a plan must withstand a
    share of `colluders` among the partners. Where sums carry noise an element has `smallest_bits` at least: rounding to
    fewer adds to what a contribution may change, which is paid for in privacy, more so in larger models
    (docs/privacy.md). In one run this partner signs `contributions_per_model` inputs on one model at most (the second,
    so that a round that failed at its end has a way out), and over all runs and servers `contributions_per_data` on one
    model from one data set for one purpose.
    """

    profile: Literal["malicious", "hbc"] = "malicious"
    min_cohort: Annotated[int, msgspec.Meta(ge=3, le=65_535)] = 3
    colluders: Annotated[float, msgspec.Meta(ge=0, lt=0.5)] = 0.0
    smallest_bits: Annotated[int, msgspec.Meta(ge=2, le=32)] = 12
    contributions_per_model: Positive = 2
    contributions_per_data: Positive = 100


class Policy(Value, frozen=True):
    """`policy.toml`.

    `schemas` maps the schema that a plan names to the data set here. `plain_sums` allows contributions that the
    server can read one by one; `secure_aggregation` demands that it cannot, and refuses what cannot do it. `secure`
    holds for every plan with secure aggregation, demanded or not.
    """

    schemas: dict[SchemaName, Name] = {}
    tasks: tuple[AdmittedTask, ...] = ()
    bounds: Bounds = Bounds()
    release: Release = Release()
    smallest_cohort: Positive = 2
    confinement: tuple[Confinement, ...] = ("process",)
    plain_sums: bool = False
    secure_aggregation: bool = False
    secure: Secure = Secure()
    trees: Trees = Trees()
    explain: Explain = Explain()
    budgets: tuple[DataBudget, ...] = ()
    studies: Studies = Studies()

    def __post_init__(self) -> None:
        kinds = [(budget.data_set, budget.unit) for budget in self.budgets]
        if len(set(kinds)) != len(kinds):
            raise ValueError("`budgets` has two for one data set and unit")

    def budgeted(self, data_set: str) -> bool:
        """Whether a data set has a privacy budget."""
        return any(budget.data_set == data_set for budget in self.budgets)

    def protected(self, data_set: str) -> bool:
        """Whether nothing of a data set leaves but what its budget accounts for."""
        return self.budgeted(data_set) and not self.release.unprotected

    @property
    def coarseness(self) -> Coarseness:
        """How rows are joined before trees are grown by them."""
        return Coarseness(least=self.release.smallest_count, parts=self.trees.grid)

    @property
    def smallest_sum(self) -> int:
        """Fewest partners in a secure sum."""
        return max(self.secure.min_cohort, self.smallest_cohort)


@dataclasses.dataclass(frozen=True, slots=True)
class Admit:
    """The plan may run on this data set."""

    data_set: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A person here has to approve the digest of the code of this name first, or the plan's study."""

    reason: str
    name: str
    study: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Refuse:
    """The plan may not run here; `code`, value and limit are what both sides log."""

    code: str
    reason: str
    value: str
    limit: str


Decision = Admit | Pending | Refuse


def read_policy(text: str, what: str) -> Policy:
    """Decode a policy's TOML; an unknown key is an error, so no rule is lost to a slip of the pen."""
    return decode_toml(Policy, text, what)


def decide(policy: Policy, plan: Plan, participants: int, confinement: frozenset[str]) -> Decision:
    """Whether `plan` may run here with that many participants and this level of confinement in force.

    Rules that no approval can cure come first; an unknown task digest waits for a person.
    """
    checked = rules(policy, plan, participants, confinement)
    broken = [rule for rule in checked if not rule.holds]
    for rule in broken:
        if not rule.pending:
            return Refuse(
                f"policy.{rule.name}", "the partner's policy does not allow this plan", rule.value, rule.limit
            )
    if broken:
        reason = f"{_waiting(plan, broken[-1])} waits for approval at the partner"
        return Pending(reason, _name(plan, broken[-1]), study=broken[-1].name == "study")
    return Admit(policy.schemas[plan.data_schema])


def _name(plan: Plan, waits: Rule) -> str:
    if waits.name == "study" and plan.study is not None:
        return plan.study.id
    return plan.explain.name if waits.name == "analysis" and plan.explain is not None else plan.task.name


def _waiting(plan: Plan, waits: Rule) -> str:
    """The code, or the study, that waits, as people name it."""
    if waits.name == "study" and plan.study is not None:
        return f"study {plan.study.id[:8]} of {plan.study.trials} runs"
    if waits.name == "analysis" and plan.explain is not None:
        return f"analysis {plan.explain.name} {plan.explain.digest[:16]}"
    return f"{plan.task.kind} {plan.task.name} {plan.task.digest[:16]}"


def rules(policy: Policy, plan: Plan, participants: int, confinement: frozenset[str]) -> tuple[Rule, ...]:
    """Every rule with the plan's value beside its limit."""
    bounds, code, data_set = policy.bounds, plan.task, policy.schemas.get(plan.data_schema, "")
    known = [admitted for admitted in policy.tasks if (admitted.name, admitted.kind) == (code.name, code.kind)]
    return (
        Rule("schema", plan.data_schema, ", ".join(policy.schemas) or "none", plan.data_schema in policy.schemas),
        *_sums(policy, plan),
        *_privacy(policy, plan),
        *_noise(bounds, plan),
        *tree_rules(policy.trees, policy.release.analyses, plan),
        *explain_rules(
            policy.explain,
            policy.tasks,
            policy.release,
            plan,
            accounted=policy.protected(data_set),
        ),
        at_most("rounds", planned_rounds(plan), bounds.rounds),
        *(_training(bounds, trainings(plan)) if code.kind == "task" else _app(plan, confinement)),
        *_base(plan),
        Rule("cohort", str(participants), f"from {policy.smallest_cohort}", participants >= policy.smallest_cohort),
        Rule(
            "quorum",
            str(plan.cohort.quorum),
            f"from {policy.smallest_cohort}",
            plan.cohort.quorum >= policy.smallest_cohort,
        ),
        Rule(
            "confinement",
            ", ".join(sorted(confinement)) or "none",
            ", ".join(policy.confinement),
            set(policy.confinement) <= confinement,
        ),
        *study_rules(policy.studies, plan, data_set, budgeted=policy.budgeted(data_set)),
        Rule(
            code.kind,
            f"{code.name} {code.digest}",
            ", ".join(f"{each.name} {each.digest}" for each in known) or "none admitted",
            any(each.digest == code.digest for each in known),
            pending=True,
        ),
    )


def _training(bounds: Bounds, trained: Sequence[TrainSettings]) -> tuple[Rule, ...]:
    """How a task is trained, in rounds and for a personal model: the plan says it, the daemon's own trainer does it."""
    batch = min(train.batch_size for train in trained)
    return (
        at_most("epochs", max(train.epochs or 0 for train in trained), bounds.epochs),
        at_most("steps", max(train.steps or 0 for train in trained), bounds.steps),
        Rule("batch_size", str(batch), f"from {bounds.smallest_batch}", batch >= bounds.smallest_batch),
        at_most("learning_rate", max(train.learning_rate for train in trained), bounds.learning_rate),
        at_most("proximal_mu", max(train.proximal_mu for train in trained), bounds.proximal_mu),
    )


def _base(plan: Plan) -> tuple[Rule, ...]:
    """The frozen model that the task builds on, for people: who approves the task's digest approves the base's too."""
    if plan.base is None:
        return ()
    told = f"{plan.base.name} {plan.base.digest}, {plan.base.bytes:,} bytes"
    return (Rule("base", told, "the base that the approved task names", holds=True),)


def _app(plan: Plan, confinement: frozenset[str]) -> tuple[Rule, ...]:
    """What a Flower app does, in words: no bound of a plan reaches into it, so that reading it is what admits it.

    What it reads is held by the machine alone: where that cannot confine it to its files no app runs, whatever levels
    the policy demands of tasks. It may send what it reads.
    """
    confined = "files" in confinement
    reads = "the files and settings of the data set, and nothing else here" if confined else "whatever the daemon may"
    leaves = "what it answers, as it made it" if plan.secure is None else "its update and metrics, in sums alone"
    code = "the code that was approved here"
    return (
        Rule("app_training", "the app chooses batches, steps and learning rate itself", code, holds=True),
        Rule("app_reads", reads, "confinement: files", confined),
        Rule("app_sends", leaves, code, holds=True),
    )


def mechanism(secure: SecureSettings) -> str:
    """What a plan's sums are, in words: as rules, journal and log say it."""
    return f"secure aggregation ({secure.profile}, {secure.bits} bits)"


def _sums(policy: Policy, plan: Plan) -> tuple[Rule, ...]:
    """How a plan's contributions are summed, against what is demanded here."""
    secure, least = plan.secure, policy.secure
    if secure is None:
        return (
            Rule("secure_aggregation", "plain sums", "secure aggregation", not policy.secure_aggregation),
            Rule("plain_sums", "plain sums", "plain_sums = true", policy.plain_sums or policy.secure_aggregation),
        )
    profiles = ("malicious",) if least.profile == "malicious" else ("malicious", "hbc")
    return (
        Rule("secure_aggregation", mechanism(secure), "secure aggregation", holds=True),
        Rule("secure_profile", secure.profile, " or ".join(profiles), secure.profile in profiles),
        at_least("secure_min_cohort", secure.min_cohort, policy.smallest_sum),
        at_least("secure_colluders", secure.colluders, least.colluders),
        *((at_least("secure_bits", secure.bits, least.smallest_bits),) if secure.noise is not None else ()),
    )


def _privacy(policy: Policy, plan: Plan) -> tuple[Rule, ...]:
    """What a data set with a budget asks of a plan; whether the budget is large enough its ledger says."""
    data_set = policy.schemas.get(plan.data_schema, "")
    if not policy.budgeted(data_set):
        return ()
    units = [Unit(budget.unit) for budget in policy.budgets if budget.data_set == data_set]
    widest = Unit.widest(units)
    rules = [
        Rule("privacy", _protection(plan), f"differential privacy for each {widest}", _protects(plan, widest)),
    ]
    if policy.protected(data_set):
        needed = {stage.driver for stage in plan.stages if stage.options.get("required", True) is not False}
        asked = sorted(needed & set(policy.release.analyses))  # (others stay here, and the run goes on)
        noises = {name: _analysis_noise(plan, name) for name in asked}
        told = ", ".join(f"{name}, noise {noise:g}" if noise else name for name, noise in noises.items()) or "none"
        limit = "none without noise (privacy.analyses or the trees' noise_multiplier, or release.unprotected)"
        rules.append(Rule("privacy_analyses", told, limit, all(noises.values())))
    return tuple(rules)


def _analysis_noise(plan: Plan, name: str) -> float:
    """The noise multiplier of what a stage of this name tells, 0 without."""
    if name == TREES:
        return noise_of_trees(plan)
    noise = plan.privacy.analyses if plan.privacy is not None else None
    return 0.0 if noise is None else noise.noise_multiplier


def _noise(bounds: Bounds, plan: Plan) -> tuple[Rule, ...]:
    """How loud the noise must be, and how often a private step may look."""
    least = at_least("noise_multiplier", min(_multipliers(plan), default=0.0), bounds.smallest_noise)
    if (privacy := plan.privacy) is None:
        return (least,)
    return least, at_most("sampling_rate", privacy.sampling_rate, bounds.sampling_rate)


def _multipliers(plan: Plan) -> tuple[float, ...]:
    """Of each noise that a plan has, any of which may be what a budget pays for; of trees also none, which is 0."""
    privacy, whole = plan.privacy, plan.secure and plan.secure.noise
    at_rows = () if privacy is None else (privacy, privacy.metrics, privacy.analyses)
    found = (*(noise.noise_multiplier for noise in at_rows if noise), *((whole.multiplier,) if whole else ()))
    return (*found, noise_of_trees(plan)) if any(stage.driver == TREES for stage in plan.stages) else found


def _protection(plan: Plan) -> str:
    """Whom a plan's noise protects, in words."""
    told = []
    if (privacy := plan.privacy) is not None:
        told.append(f"each {privacy.unit}, noise {privacy.noise_multiplier:g}")
    if plan.secure is not None and (noise := plan.secure.noise) is not None:
        told.append(f"each partner, noise {noise.multiplier:g} inside the sum")
    if trees := noise_of_trees(plan):
        told.append(f"each example, noise {trees:g} on the sums of trees")
    return " and ".join(told) or "none"


def _protects(plan: Plan, unit: Unit) -> bool:
    """Whether what a training step releases is bounded for `unit`: noise for a larger one bounds a smaller one too."""
    if plan.secure is not None and plan.secure.noise is not None:
        return True
    private = plan.privacy is not None and Unit(plan.privacy.unit).size >= unit.size
    if noise_of_trees(plan):
        return unit is Unit.EXAMPLE and (private or not _trains_beside_trees(plan))
    return private


def _trains_beside_trees(plan: Plan) -> bool:
    """Whether a stage trains by steps, which the noise of trees does not reach."""
    return any(stage.driver not in (TREES, EXPLAIN, *ANALYSES) for stage in plan.stages)
