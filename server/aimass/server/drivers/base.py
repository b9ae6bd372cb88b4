"""What a driver is: a pure proposer of steps whose state is a frozen value, kept with each commit.

The engine knows steps alone. A new purpose costs a driver and an entry point in the group `aimass.drivers`. What is too
large for a state is a blob whose digest the state names: it is kept as long as it is named there and the run goes on.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution, Metric
from aimass.proto.errors import NotFound
from aimass.proto.plan import Plan, Stage
from aimass.proto.statistics import Statistics
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Blob, Layout
from aimass.proto.values import Value

__all__ = [
    "Checking",
    "Context",
    "Done",
    "Driver",
    "ExpectedGroups",
    "Listener",
    "Models",
    "Overlapping",
    "Progress",
    "Replies",
    "StepResult",
    "Sums",
    "Surveying",
    "find_driver",
]

ExpectedGroups = Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a driver may know when it proposes: the plan, its stage, who takes part now, the next step's index, and
    which steps are open."""

    plan: Plan
    stage: Stage
    joined: tuple[str, ...]
    next_index: int
    open: tuple[Step, ...] = ()

    @property
    def free(self) -> tuple[str, ...]:
        """Who takes part and is in no open step, sorted."""
        busy = {name for step in self.open for name in step.participants}
        return tuple(name for name in self.joined if name not in busy)

    def step_of_all(
        self, kind: StepKind, purpose: str, inputs: tuple[str, ...], *, number: int = 0, required: bool = True
    ) -> Step:
        """A step of everybody who takes part now, closed as the plan's cohort says; `number` stands as its round."""
        cohort = self.plan.cohort
        return Step(
            index=self.next_index,
            kind=kind,
            purpose=purpose,
            round=number,
            participants=self.joined,
            inputs=inputs,
            quorum=min(cohort.quorum, len(self.joined)),
            deadline_s=cohort.step_deadline_s,
            required=required,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """The stage is complete with this model."""

    model: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Rounds done and planned, for people."""

    round: int
    rounds: int


class Sums(Protocol):
    """The reduced contributions of a step."""

    def weight(self, group: str) -> float:
        """Sum of the weights of a group."""
        ...

    def tensors(self, group: str) -> Collection[str]:
        """Names of a group's tensors."""
        ...

    def total(self, group: str, tensor: str) -> Array:
        """float64: the weighted sum of a tensor, in participant order."""
        ...

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor."""
        ...


class Replies(Protocol):
    """Contributions one by one, of a step that collects them."""

    @property
    def partners(self) -> Sequence[str]:
        """Whose they are, in the order of the participants' keys."""
        ...

    def of(self, partner: str) -> Contribution:
        """A partner's; its arrays are views, and nothing of them is read before their elements are."""
        ...

    def codec(self, partner: str) -> Codec | None:
        """How a partner's update is compressed; None where it is not."""
        ...

    def keep(self, partner: str) -> str:
        """Store a partner's contribution as the blob that it is; its digest. It stays while the state names it."""
        ...


class Models(Protocol):
    """Models by digest, and new ones made from them block by block."""

    def tensor(self, digest: str, name: str) -> Array:
        """One tensor, read-only."""
        ...

    def tensors(self, digest: str) -> Mapping[str, Array]:
        """All tensors by name, read-only; nothing is read before its elements are."""
        ...

    def make(self, tensors: Mapping[str, tuple[str, tuple[int, ...]]], change: Callable[[str, slice], Array]) -> str:
        """Store a blob of these tensors, by name their element type and shape; its digest.

        `change(name, part)` gives float64 [part] of the flattened tensor. Parts begin at even elements.
        """
        ...

    def blob(self, digest: str) -> Blob:
        """A blob as it is."""
        ...

    def put(self, blob: bytes) -> str:
        """Store a small blob, as it is; its digest. It stays while the state names it."""
        ...

    def edit(self, digest: str, names: Collection[str], change: Callable[[str, slice, Array], Array]) -> str:
        """Store the model with the tensors `names` changed; its digest.

        `change(name, part, old)` gives float64 [part] for the stored elements `old` of the flattened tensor, or int64.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """What a committed step brought; `within` is the noised share of partners whose updates were within the clip.

    `replies` are there where the step collects. `failures` says why partners brought nothing.
    """

    step: Step
    counted: tuple[str, ...]
    metrics: Mapping[str, Metric]
    sums: Sums
    within: float | None = None
    replies: Replies | None = None
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Driver(Protocol):
    """See the module. `state_type` is decoded from the JSON that was stored with the last commit."""

    @property
    def name(self) -> str:
        """As plans name it."""
        ...

    @property
    def state_type(self) -> type[Value]:
        """The type of its state."""
        ...

    def check(self, plan: Plan, stage: Stage) -> None:
        """Raise `BadInput` where the stage's options, or the plan, do not suit this driver."""
        ...

    def start(self, context: Context, model: str) -> Any:
        """The first state, from the model that the stage before left."""
        ...

    def next(self, state: Any, context: Context) -> tuple[Step, ...] | Done:
        """The steps to open now, all of them results of `state` alone; or that the stage is done.

        No step is for a `Listener`, which waits for what it is to hear, and for an `Overlapping` driver, which waits
        for open ones.
        """
        ...

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups | None:
        """Groups, tensors, dtypes and shapes of a contribution to a `plan`'s step, from the layout of its model.

        None: any numbers, as large as the server takes them; for steps that collect.
        """
        ...

    def receive(self, state: Any, result: StepResult, models: Models, context: Context) -> Any:
        """The state after a step."""
        ...

    def model(self, state: Any) -> str:
        """Digest of the model that `state` stands for."""
        ...

    def progress(self, state: Any, context: Context) -> Progress:
        """Rounds done and planned."""
        ...


@runtime_checkable
class Listener(Driver, Protocol):
    """A driver that does what a program says which runs beside the engine: see `runs.Said`. All of it is pure."""

    def hear(self, state: Any, words: str, context: Context) -> Any:
        """The state after these words; they may come twice."""
        ...

    def settle(self, state: Any, context: Context) -> Any:
        """The state where those alone take part that `context` names, before `next` is asked; no step is open."""
        ...

    def ended(self, state: Any) -> Any:
        """What stays of the state when the run has ended: enough for `progress`, and nothing that was to go on with."""
        ...

    def check_reply(self, contribution: Contribution) -> None:
        """Raise `BadInput` for what the program could not read, of a step that collects."""
        ...

    def measured(self, contribution: Contribution) -> Mapping[str, Metric]:
        """What a reply says in numbers, for people who watch the run."""
        ...


@runtime_checkable
class Checking(Protocol):
    """A driver that knows more of its steps' contributions than their shapes."""

    def check_sums(self, plan: Plan, step: Step, model: Blob, tensors: Mapping[str, Array]) -> None:
        """Raise `BadInput` where the tensors of a contribution's group, or of the sum, contradict one another, or the
        step's model."""
        ...


@runtime_checkable
class Overlapping(Driver, Protocol):
    """A driver that is asked for steps whenever something changed, also while others are open: `context` says which.

    A partner works on one step at a time: `next` names those alone that are free, or nobody and waits.
    """

    def outdated(self, state: Any, context: Context) -> Mapping[int, str]:
        """Open steps of which nothing is of use any more, by index, and why: they are given up."""
        ...


@runtime_checkable
class Surveying(Protocol):
    """A driver whose steps find statistics: they are stored with the step."""

    def statistics(self, state: Any) -> Statistics | None:
        """What the step came to that `state` is the state after."""
        ...


def find_driver(name: str) -> Driver:
    """The installed driver of this name; raises `NotFound` that lists all, or for one that cannot be imported."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="aimass.drivers")}
    if name not in entries:
        raise NotFound("no such driver", code="driver.unknown", value=name, limit=", ".join(sorted(entries)))
    try:
        driver: Driver = entries[name].load()
    except Exception as error:  # (its package may be broken in any way; the runs of other drivers go on)
        raise NotFound(
            f"the driver {name} cannot be imported",
            code="driver.broken",
            value=type(error).__name__,
            cure="Install its package, and what that needs, again.",
        ) from error
    return driver
