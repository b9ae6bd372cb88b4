"""The run machine under any order of events: counted once, never under the quorum, final stays final."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import WrongState
from aimass.proto.plan import Cohort, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Layout
from aimass.proto.values import Value, canonical_json
from aimass.proto.views import ParticipantState, RunState, SlotState
from aimass.server import run_machine, runs, steps
from aimass.server.drivers.base import Context, Done, ExpectedGroups, Progress

NAMES = ("east", "north", "west")


class CountState(Value, frozen=True):
    done: int = 0


class Counting:
    """A driver of three steps whose model is the number of steps."""

    name = "counting"
    state_type = CountState

    def check(self, plan: Plan, stage: Stage) -> None:
        return None

    def start(self, context: Context, model: str) -> CountState:
        return CountState()

    def next(self, state: CountState, context: Context) -> tuple[Step, ...] | Done:
        if state.done == 3:
            return Done(self.model(state), "three steps")
        quorum = min(context.plan.cohort.quorum, len(context.joined))
        return (
            Step(index=context.next_index, kind=StepKind.TRAIN, round=state.done, participants=context.joined,
                 inputs=(self.model(state),), quorum=quorum, deadline_s=10.0),
        )  # fmt: skip

    def expects(self, step: Step, layout: Layout, plan: Plan) -> ExpectedGroups:
        return {}

    def receive(self, state: CountState, result: Any, models: Any, context: Context) -> CountState:
        return CountState(done=state.done + 1)

    def model(self, state: CountState) -> str:
        return f"{state.done:064x}"

    def progress(self, state: CountState, context: Context) -> Progress:
        return Progress(state.done, 3)


DRIVER = Counting()
DRIVERS = {"counting": DRIVER}


RULES = {
    "plain": Cohort(partners=NAMES),
    "late": Cohort(partners=NAMES, late="next"),
    "patient": Cohort(partners=NAMES, late="next", late_rounds=2, grace_s=5.0),
    "strict": Cohort(partners=NAMES, exclude_after=1, readmit_after=1, connected=True),
    "all": Cohort(partners=NAMES, late="next", grace_s=1.0, exclude_after=2, readmit_after=2),
}


def new_run(quorum: int = 2, rule: str = "plain") -> runs.Run:
    plan = Plan(
        name="test", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1, model="0" * 64,
        stages=(Stage(driver="counting"),), train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
        cohort=msgspec.structs.replace(RULES[rule], quorum=quorum),
    )  # fmt: skip
    return runs.Run(run_id="ab" * 16, plan=plan, model=plan.model, participants={n: runs.Participant() for n in NAMES})


def joined(name: str, key: str | None = None) -> runs.Joined:
    return runs.Joined(partner=name, key=key or name, device="CPU", confinement="process")


def stored(name: str, index: int) -> runs.InStep:
    return runs.InStep(index=index, event=steps.Stored(partner=name, digest="1" * 64))


@dataclasses.dataclass
class World:
    """Applies events as the engine does, and checks what must hold after each."""

    run: runs.Run
    actions: list[runs.Action] = dataclasses.field(default_factory=list)
    commits: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    counted: set[tuple[int, str]] = dataclasses.field(default_factory=set)

    def feed(self, event: runs.Event) -> None:
        before = self.run
        try:
            self.run, actions = run_machine.apply(self.run, event, DRIVERS, 100.0)
        except WrongState:
            assert isinstance(event, runs.Change | runs.Readmitted)
            return
        self.actions += actions
        if before.state.final:
            assert self.run == before
            assert not actions
        for action in actions:
            if isinstance(action, runs.Reduce):
                self.reduce(action)
            if isinstance(action, runs.Commit):
                assert action.closed.counted is not None
                assert len(action.closed.counted) >= action.closed.step.quorum
                self.commits.append(action.closed.counted)
                work = {(action.closed.origin(name).index, name) for name in action.closed.counted}
                assert not work & self.counted, "counted twice"
                self.counted |= work
                assert work & before.contributions() == work
            if isinstance(action, runs.Open):
                asked = set(action.step.participants)
                assert not asked & set(action.step.carried)
                assert not asked & set(self.run.excluded)
                assert action.step.quorum <= len(asked)
        assert msgspec.json.decode(canonical_json(self.run), type=runs.Run) == self.run

    def reduce(self, action: runs.Reduce) -> None:
        state = run_machine.driver_state(self.run, DRIVER)
        after = DRIVER.receive(state, None, None, run_machine.context(self.run))
        self.feed(runs.Received(index=action.index, driver=canonical_json(after).decode(), model=DRIVER.model(after)))


EVENTS = st.one_of(
    st.builds(joined, st.sampled_from([*NAMES, "stranger"])),
    st.builds(lambda n, p: runs.Declined(partner=n, reason="no", pending=p), st.sampled_from(NAMES), st.booleans()),
    st.builds(lambda n: runs.Removed(partner=n, reason="revoked"), st.sampled_from([*NAMES, "stranger"])),
    st.builds(lambda n: runs.Readmitted(partner=n), st.sampled_from([*NAMES, "stranger"])),
    st.just(runs.JoinTimeUp()),
    st.builds(stored, st.sampled_from([*NAMES, "stranger"]), st.integers(0, 4)),
    st.builds(
        lambda n, i, kind: runs.InStep(index=i, event=kind(partner=n, reason="x")),
        st.sampled_from(NAMES), st.integers(0, 4), st.sampled_from([steps.Refused, steps.Failed]),
    ),
    st.builds(lambda i: runs.InStep(index=i, event=steps.TimeUp()), st.integers(0, 4)),
    st.builds(lambda c: runs.Change(change=c, reason="person"), st.sampled_from(["pause", "resume", "stop", "fail"])),
    st.builds(lambda i: runs.Received(index=i, driver="{}", model="f" * 64), st.integers(0, 4)),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=60), st.integers(1, 3), st.sampled_from(sorted(RULES)))
def test_no_order_of_events_breaks_the_rules_of_a_run(events: list[runs.Event], quorum: int, rule: str) -> None:
    world = World(new_run(quorum, rule))
    for event in events:
        world.feed(event)
    run = world.run
    assert len(world.commits) <= 3
    assert run.state is not RunState.FINISHED or len(world.commits) == 3
    assert sum(isinstance(action, runs.End) for action in world.actions) == int(run.state.final)
    if run.state is RunState.RUNNING:
        assert run.open or not run.joined
    assert len({(index, name) for name, step, _, _ in run.places() for index in [step.index]}) == len([*run.places()])
    opened = [action.step.index for action in world.actions if isinstance(action, runs.Open)]
    assert opened == sorted(set(opened))


def finish(world: World) -> None:
    for name in NAMES:
        world.feed(joined(name))
    for index in range(3):
        for name in NAMES:
            world.feed(stored(name, index))


def test_a_run_of_three_steps_finishes_with_everybody_counted() -> None:
    world = World(new_run())
    finish(world)
    assert world.run.state is RunState.FINISHED
    assert world.commits == [NAMES] * 3
    assert world.run.model == f"{3:064x}"


def test_the_golden_transcript_of_a_run_with_a_late_and_a_refused_partner() -> None:
    world = World(new_run())
    for name in NAMES:
        world.feed(joined(name))
    world.feed(stored("east", 0))
    world.feed(runs.InStep(index=0, event=steps.Refused(partner="north", reason="contribution.not_finite: NaN")))
    world.feed(stored("west", 0))
    world.feed(stored("west", 1))
    world.feed(stored("east", 1))
    world.feed(runs.InStep(index=1, event=steps.TimeUp()))
    told = [type(action).__name__ for action in world.actions]
    assert told == ["Open", "Reduce", "Commit", "Open", "TellClosed", "Reduce", "Commit", "Open"]
    assert world.commits == [("east", "west"), ("east", "west")]


def test_too_few_contributions_at_the_deadline_fail_the_run_with_the_reason() -> None:
    world = World(new_run(quorum=3))
    for name in NAMES:
        world.feed(joined(name))
    world.feed(stored("east", 0))
    world.feed(runs.InStep(index=0, event=steps.TimeUp()))
    assert world.run.state is RunState.FAILED
    assert "1 of 3 contributions" in world.run.reason
    assert "north" in world.run.reason


def test_a_second_partner_under_the_same_participant_key_is_declined() -> None:
    world = World(new_run())
    world.feed(joined("east", "same"))
    world.feed(joined("north", "same"))
    assert world.run.participants["north"].state is ParticipantState.DECLINED
    assert "run.participant_key" in world.run.participants["north"].reason


def test_a_paused_run_takes_contributions_and_opens_no_new_step_until_it_is_resumed() -> None:
    world = World(new_run())
    for name in NAMES:
        world.feed(joined(name))
    world.feed(runs.Change(change="pause", reason="x"))
    for name in NAMES:
        world.feed(stored(name, 0))
    assert world.commits == [NAMES]
    assert world.run.open == {}
    world.feed(runs.Change(change="resume", reason="x"))
    assert list(world.run.open) == ["1"]


def test_a_change_that_the_state_does_not_allow_is_refused_by_name() -> None:
    run = new_run()
    for change in ("pause", "resume"):
        with pytest.raises(WrongState):
            run_machine.apply(run, runs.Change(change=change, reason=""), DRIVERS, 0.0)


def test_the_slots_of_a_step_that_is_stored_twice_count_once() -> None:
    world = World(new_run())
    for name in NAMES:
        world.feed(joined(name))
    world.feed(stored("east", 0))
    world.feed(stored("east", 0))
    assert world.run.open["0"].slots["east"].state is SlotState.STORED
    assert world.run.open["0"].slots["north"].state is SlotState.ASKED
