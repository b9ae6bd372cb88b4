"""Plans of Flower apps, and the machine of a run around the driver that listens to one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from aimass.proto.contribution import Contribution
from aimass.proto.flower.records import EMPTY_DIGEST
from aimass.proto.plan import Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.step import Reduce, StepKind
from aimass.proto.values import canonical_json
from aimass.server import run_machine, runs, steps
from aimass.server.drivers.base import Models, StepResult, Sums
from aimass.server.flower.driver import driver
from aimass.server.flower.journal import Asked, Exchange, Finished, State

__all__ = ["FOUR", "Kept", "M", "Machine", "R", "exchange", "flower_plan"]

FOUR = ("east", "north", "south", "west")
M, R = [f"{number:064x}" for number in range(10, 20)], [f"{number:064x}" for number in range(20, 30)]
"""Digests of models and of records."""


def flower_plan(
    names: Sequence[str] = FOUR,
    *,
    quorum: int = 1,
    rounds: int = 2,
    secure: SecureSettings | None = None,
    cohort: Cohort | None = None,
    app: str = "adder",
    digest: str = "0" * 64,
    seed: int = 7,
    config: Mapping[str, bool | int | float | str] | None = None,
) -> Plan:
    """A plan of an app that brings its own model."""
    options = {f"config.{key}": value for key, value in (config or {}).items()}
    return Plan(
        name="flower-test",
        task=TaskRef(name=app, digest=digest, kind="app"),
        data_schema=f"{app}/1",
        seed=seed,
        model=EMPTY_DIGEST,
        stages=(Stage(driver="flower", options={"rounds": rounds, **options}),),
        train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
        cohort=cohort or Cohort(partners=tuple(names), quorum=quorum, step_deadline_s=60.0),
        secure=secure,
    )


def exchange(model: int, records: int, names: Sequence[str] = FOUR, kind: StepKind = StepKind.TRAIN) -> Exchange:
    """Equal messages to `names`."""
    return Exchange(kind=kind, round=records, partners=tuple(names), inputs=(M[model], R[records]))


@dataclasses.dataclass(frozen=True)
class Kept:
    """Replies of which only the digests are known."""

    digests: Mapping[str, str]

    @property
    def partners(self) -> Sequence[str]:
        return tuple(self.digests)

    def of(self, partner: str) -> Contribution:
        raise AssertionError("the driver does not look into replies")

    def keep(self, partner: str) -> str:
        return self.digests[partner]


@dataclasses.dataclass
class Machine:
    """A run of a Flower app without a server: what it heard, what it did."""

    plan: Plan
    here: frozenset[str] = frozenset(FOUR)
    actions: list[runs.Action] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        names = self.plan.cohort.partners
        self.run = runs.Run(
            run_id="ab" * 16, plan=self.plan, model=self.plan.model,
            participants={name: runs.Participant() for name in names},
        )  # fmt: skip
        for name in names:
            self.feed(runs.Joined(partner=name, key=name, device="CPU", confinement="process"))

    def feed(self, event: runs.Event) -> None:
        self.run, actions = run_machine.apply(self.run, event, {"flower": driver}, 100.0, self.here)
        self.actions += actions

    @property
    def state(self) -> State:
        state = run_machine.driver_state(self.run, driver)
        assert isinstance(state, State)
        return state

    @property
    def opened(self) -> steps.StepState:
        (state,) = self.run.open.values()
        return state

    def ask(self, number: int, what: Exchange) -> None:
        self.feed(runs.Said(words=canonical_json(Asked(number=number, exchange=what)).decode()))

    def finish(self, model: str = "") -> None:
        self.feed(runs.Said(words=canonical_json(Finished(model=model)).decode()))

    def answers(self, **said: str | Exception) -> None:
        """Everybody's answer to the open step: a digest's letter, or an error. Then it is reduced."""
        index = self.opened.step.index
        for name, word in said.items():
            if isinstance(word, Exception):
                self.feed(runs.InStep(index=index, event=steps.Failed(partner=name, reason=str(word))))
            else:
                self.feed(runs.InStep(index=index, event=steps.Stored(partner=name, digest=word * 64)))
        self.reduce()

    def reduce(self, sums: Sums | None = None, models: Models | None = None) -> None:
        for action in self._reducing():
            state = self.run.open[str(action.index)]
            kept = {name: state.slots[name].digest for name in action.counted}
            failures = {name: slot.reason for name, slot in state.slots.items() if name not in kept}
            collects = state.step.reduce is Reduce.COLLECT
            result = StepResult(
                state.step, action.counted, {}, sums, None, Kept(kept) if collects else None, failures  # type: ignore[arg-type]
            )  # fmt: skip
            after = driver.receive(self.state, result, models, run_machine.context(self.run))  # type: ignore[arg-type]
            words = canonical_json(after).decode()
            self.feed(runs.Received(index=action.index, driver=words, model=driver.model(after)))

    def _reducing(self) -> Iterator[runs.Reduce]:
        for action in self.actions:
            if isinstance(action, runs.Reduce) and str(action.index) in self.run.open:
                yield action
