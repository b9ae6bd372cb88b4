"""What a partner permits: one file that its data protection officer can read, and a pure decision over it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import msgspec

from aimass.proto.names import Digest, Name, SchemaName
from aimass.proto.plan import Plan, planned_rounds
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
    "decide",
    "read_policy",
    "rules",
]

Confinement = Literal["process", "files", "network", "calls"]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class AdmittedTask(Value, frozen=True):
    """Code that may run here: its name and the digest of its files."""

    name: Name
    digest: Digest


class Bounds(Value, frozen=True):
    """Largest (and smallest) values of a plan's numbers."""

    rounds: Positive = 1_000
    epochs: Positive = 20
    steps: Positive = 100_000
    smallest_batch: Positive = 1
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    proximal_mu: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    norm: Annotated[float, msgspec.Meta(gt=0)] = 1e6


class Release(Value, frozen=True):
    """What may leave beside the sum: names of metrics that are summed, of figures shown for this partner alone."""

    metrics: tuple[str, ...] = ("loss", "accuracy", "auc")
    figures: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ("statistics",)


class Policy(Value, frozen=True):
    """`policy.toml`.

    `schemas` maps the schema that a plan names to the data set here. `plain_sums` allows contributions that the
    server can read one by one; `secure_aggregation` demands that it cannot, and refuses what cannot do it.
    """

    schemas: dict[SchemaName, Name] = {}
    tasks: tuple[AdmittedTask, ...] = ()
    bounds: Bounds = Bounds()
    release: Release = Release()
    smallest_cohort: Positive = 2
    confinement: tuple[Confinement, ...] = ("process",)
    plain_sums: bool = False
    secure_aggregation: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One line of a decision, for people: what was checked, what the plan says, what is allowed."""

    name: str
    value: str
    limit: str
    holds: bool
    pending: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Admit:
    """The plan may run on this data set."""

    data_set: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pending:
    """A person here has to approve the task's digest first."""

    reason: str


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
        return Pending(f"task {plan.task.name} {plan.task.digest[:16]} waits for approval at the partner")
    return Admit(policy.schemas[plan.data_schema])


def rules(policy: Policy, plan: Plan, participants: int, confinement: frozenset[str]) -> tuple[Rule, ...]:
    """Every rule with the plan's value beside its limit."""
    bounds, train = policy.bounds, plan.train
    known = [admitted for admitted in policy.tasks if admitted.name == plan.task.name]
    return (
        Rule("schema", plan.data_schema, ", ".join(policy.schemas) or "none", plan.data_schema in policy.schemas),
        Rule("secure_aggregation", "plain sums", "secure aggregation", not policy.secure_aggregation),
        Rule("plain_sums", "plain sums", "plain_sums = true", policy.plain_sums or policy.secure_aggregation),
        _most("rounds", planned_rounds(plan), bounds.rounds),
        _most("epochs", train.epochs or 0, bounds.epochs),
        _most("steps", train.steps or 0, bounds.steps),
        Rule(
            "batch_size",
            str(train.batch_size),
            f"from {bounds.smallest_batch}",
            train.batch_size >= bounds.smallest_batch,
        ),
        _most("learning_rate", train.learning_rate, bounds.learning_rate),
        _most("proximal_mu", train.proximal_mu, bounds.proximal_mu),
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
        Rule(
            "task",
            f"{plan.task.name} {plan.task.digest}",
            ", ".join(f"{task.name} {task.digest}" for task in known) or "none admitted",
            any(task.digest == plan.task.digest for task in known),
            pending=True,
        ),
    )


def _most(name: str, value: float, limit: float) -> Rule:
    return Rule(name, f"{value:g}", f"to {limit:g}", value <= limit)
