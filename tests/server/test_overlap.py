"""A run whose steps overlap, under any order of events: nobody in two steps, no version of too few, nothing hangs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client import session
from aimass.privacy.transcript import Receipt
from aimass.proto.contribution import Metric
from aimass.proto.errors import WrongState
from aimass.proto.plan import (
    Cohort,
    EarlyStop,
    EvaluateSettings,
    Plan,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
    planned_steps,
)
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Blob
from aimass.proto.values import Scalar, canonical_json
from aimass.proto.views import RunState, SlotState
from aimass.server import run_machine, runs, steps
from aimass.server.drivers.base import Context, Done, Driver, StepResult
from aimass.server.drivers.buffer import Buffer, buffer_of
from aimass.server.drivers.fedbuff import FedBuff, FedBuffState
from aimass.server.drivers.statistics import Statistics

NAMES = ("a", "b", "c", "d", "e")
DRIVER = FedBuff()
DRIVERS: dict[str, Driver] = {"fedbuff": DRIVER, "statistics": Statistics()}


class NoModels:
    """Models of no tensors: what the machine does with a step does not depend on its numbers."""

    def tensor(self, digest: str, name: str) -> Array:
        raise NotImplementedError

    def tensors(self, digest: str) -> Mapping[str, Array]:
        return {}

    def make(self, tensors: Mapping[str, Any], change: Callable[[str, slice], Array]) -> str:
        return "b" * 64

    def blob(self, digest: str) -> Blob:
        raise NotImplementedError

    def put(self, blob: bytes) -> str:
        raise NotImplementedError

    def edit(self, digest: str, names: Collection[str], change: Callable[..., Array]) -> str:
        return hashlib.sha256(digest.encode()).hexdigest()


class NoSums:
    """Sums of no tensors."""

    def weight(self, group: str) -> float:
        return 1.0

    def tensors(self, group: str) -> tuple[str, ...]:
        return ()

    def total(self, group: str, tensor: str) -> Array:
        raise NotImplementedError

    def part(self, group: str, tensor: str, part: slice) -> Array:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Case:
    """A plan in short."""

    quorum: int = 2
    buffer: int = 2
    rounds: int = 3
    staleness: int = 2
    every: int = 0
    exclude: int = 0
    secure: bool = False
    more: bool = False
    stop: bool = False

    @property
    def run(self) -> runs.Run:
        """Nobody has joined it yet."""
        quorum = max(3, self.quorum) if self.secure else self.quorum
        options: dict[str, Scalar] = {"rounds": self.rounds, "buffer": self.buffer, "max_staleness": self.staleness}
        stages = (Stage(driver="fedbuff", options=options), *([Stage(driver="fedbuff", options=options)] * self.more))
        plan = Plan(
            name="test", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1, model="0" * 64,
            stages=stages, train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
            evaluate=EvaluateSettings(every=self.every), secure=SecureSettings() if self.secure else None,
            cohort=Cohort(partners=NAMES, quorum=quorum, exclude_after=self.exclude),
            early_stop=EarlyStop(metric="loss", patience=1) if self.stop and self.every else None,
        )  # fmt: skip
        for stage in stages:
            DRIVER.check(plan, stage)
        participants = {name: runs.Participant() for name in NAMES}
        return runs.Run(run_id="ab" * 16, plan=plan, model=plan.model, participants=participants)


class World:
    """Does to a run what the engine does, with reductions one after the other; it checks what must always hold."""

    def __init__(self, case: Case) -> None:
        self.run, self.models = case.run, NoModels()
        self.waiting: deque[int] = deque()
        """Steps that wait to be reduced."""
        self.actions: list[runs.Action] = []
        self.worked: set[tuple[int, str, int]] = set()
        self.counted: set[tuple[int, str]] = set()
        self.over: list[int] = []

    @property
    def state(self) -> FedBuffState:
        held = run_machine.driver_state(self.run, DRIVER)
        assert isinstance(held, FedBuffState)
        return held

    def feed(self, event: runs.Event) -> tuple[runs.Action, ...]:
        before = self.run
        try:
            self.run, actions = run_machine.apply(before, event, DRIVERS, 100.0)
        except WrongState:
            assert isinstance(event, runs.Change | runs.Readmitted)
            return ()
        for action in actions:
            self._see(before, action)
        self.actions += actions
        self._check()
        return actions

    def _see(self, before: runs.Run, action: runs.Action) -> None:
        match action:
            case runs.Reduce():
                self.waiting.append(action.index)
            case runs.Open(step):
                assert step.quorum <= len(step.participants)
                assert not set(step.participants) & set(self.run.excluded)
                if step.kind is StepKind.TRAIN and before.plan.secure is None:  # a void round is asked for again
                    work = {(self.run.stage, name, step.round) for name in step.participants}
                    assert not work & self.worked, "trained twice"
                    self.worked |= work
            case runs.Commit(closed):
                assert closed.counted is not None
                work_done = {(closed.step.index, name) for name in closed.counted}
                assert not work_done & self.counted, "counted twice"
                self.counted |= work_done
                self.over.append(closed.step.index)
            case runs.Void(closed):
                self.over.append(closed.step.index)

    def _check(self) -> None:
        run = self.run
        asked = [name for held in run.open.values() for name in held.step.participants]
        assert len(asked) == len(set(asked)), "somebody is in two steps"
        assert msgspec.json.decode(canonical_json(run), type=runs.Run) == run
        opened = [action.step.index for action in self.actions if isinstance(action, runs.Open)]
        assert opened == sorted(set(opened))
        assert len(self.over) == len(set(self.over)), "a step ended twice"
        if run.state.final:
            assert not run.open
            return
        assert sorted(self.over + [int(index) for index in run.open]) == opened
        if run.state is RunState.RUNNING and not run.unheard:
            assert run.open, "nobody works, and the run has not ended"
        for held in run.open.values():
            if held.step.kind is StepKind.TRAIN:
                most = buffer_of(run.plan.stages[run.stage]).max_staleness
                assert 0 <= self.state.round + 1 - held.step.round <= most

    def reduce(self) -> None:
        """The step whose turn it is; void where it was given up meanwhile."""
        if not self.waiting:
            return
        index = self.waiting.popleft()
        held = self.run.open.get(str(index))
        if held is None or held.counted is None:
            return
        result = StepResult(held.step, held.counted, {"loss": Metric(1.0, 1.0)}, NoSums())
        before, known = self.state, run_machine.context(self.run)
        after = DRIVER.receive(before, result, self.models, known)
        if after.round > before.round:
            partners = {*before.partners, *held.counted}
            assert len(partners) >= self.run.plan.cohort.quorum, "a version of too few"
            assert after.count == 0
        self.feed(runs.Received(index=index, driver=canonical_json(after).decode(), model=DRIVER.model(after)))

    def restart(self, *, restored: bool) -> None:
        """The server comes back from what it stored; after a restore partners must be heard first."""
        self.waiting.clear()
        if restored and not self.run.state.final:
            self.run = msgspec.structs.replace(self.run, unheard=self.run.joined)
        if not self.run.unheard:
            self.waiting += [held.step.index for held in self.run.open.values() if held.counted is not None]

    def join(self, names: Collection[str] = NAMES) -> None:
        for name in names:
            self.feed(joined(name))

    def bring(self, name: str, *, reduce: bool = True) -> None:
        """What `name` is asked for."""
        for held in list(self.run.open.values()):
            if name in held.step.participants:
                self.feed(runs.InStep(index=held.step.index, event=steps.Stored(partner=name, digest="1" * 64)))
        if reduce:
            self.reduce()

    def at(self, name: str) -> tuple[StepKind, int] | None:
        """The kind and the round of what `name` works on."""
        found = [held.step for held in self.run.open.values() if name in held.step.participants]
        return (found[0].kind, found[0].round) if found else None


def joined(name: str) -> runs.Joined:
    return runs.Joined(partner=name, key=name, device="CPU", confinement="process")


Deed = Callable[[World], object]


def _in_step(world: World, name: str, which: int) -> None:
    """Something happens to a partner where it works; or, to somebody who works nowhere, in a step that is over."""
    index = next((held.step.index for held in world.run.open.values() if name in held.slots), which)
    kinds: list[steps.StepEvent] = [
        steps.Stored(partner=name, digest="1" * 64), steps.Ready(partner=name), steps.Failed(partner=name, reason="x"),
        steps.Refused(partner=name, reason="x"), steps.Stored(partner=name, digest="1" * 64), steps.Ready(partner=name),
        steps.TimeUp(), steps.Lost(partner=name),
    ]  # fmt: skip
    world.feed(runs.InStep(index=index, event=kinds[which]))


def _attempt(world: World, which: int) -> None:
    """An attempt at a secure sum ends, with a sum or without."""
    for held in list(world.run.open.values()):
        for circle in held.attempts.circles if held.attempts else ():
            if circle.members:
                number, digests = circle.number, dict.fromkeys(circle.members, "1" * 64)
                ended = steps.AttemptEnded(number=number, reason="y", at=1.0, absent=circle.members[:1])
                burnt = msgspec.structs.replace(ended, burnt=True)
                events: list[steps.StepEvent] = [steps.Summed(number=number, digests=digests), ended, burnt]
                world.feed(runs.InStep(index=held.step.index, event=events[which]))
                return


def _heard(world: World, name: str) -> None:
    world.feed(runs.Heard(partner=name))


NAME = st.sampled_from(NAMES)
DEEDS = st.one_of(
    st.builds(lambda n, k: lambda w: _in_step(w, n, k), NAME, st.integers(0, 7)),
    st.builds(lambda n: lambda w: _in_step(w, n, 0), NAME),
    st.builds(lambda n: lambda w: _in_step(w, n, 1), NAME),
    st.builds(lambda k: lambda w: _attempt(w, k), st.sampled_from([0, 0, 0, 1, 2])),
    st.just(World.reduce),
    st.builds(lambda n: lambda w: w.feed(joined(n)), NAME),
    st.builds(lambda n: lambda w: w.feed(runs.Declined(partner=n, reason="no")), NAME),
    st.just(lambda w: w.feed(runs.JoinTimeUp())),
    st.builds(lambda n: lambda w: w.feed(runs.Removed(partner=n, reason="revoked")), NAME),
    st.builds(lambda n: lambda w: w.feed(runs.Readmitted(partner=n)), NAME),
    st.builds(lambda c: lambda w: w.feed(runs.Change(change=c, reason="p")), st.sampled_from(["pause", "resume"])),
    st.builds(lambda r: lambda w: w.restart(restored=r), st.booleans()),
    st.builds(lambda n: lambda w: _heard(w, n), NAME),
)  # fmt: skip
CASES = st.builds(
    Case, st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2),
    st.integers(0, 2), st.booleans(), st.booleans(),
)  # fmt: skip


@given(CASES, st.lists(DEEDS, max_size=60), st.booleans())
def test_no_order_of_events_breaks_the_rules_of_steps_that_overlap(case: Case, deeds: list[Deed], stop: bool) -> None:
    world = World(dataclasses.replace(case, stop=stop))
    world.join()
    for deed in deeds:
        deed(world)
    plan = world.run.plan
    for name in NAMES if not case.secure else ():
        for kind in (StepKind.TRAIN, StepKind.EVALUATE):
            asked = [
                action
                for action in world.actions
                if isinstance(action, runs.Open) and action.step.kind is kind and name in action.step.participants
            ]
            assert len(asked) <= planned_steps(plan, kind, "")


@settings(max_examples=30, deadline=None)
@given(CASES, st.lists(NAME, max_size=40))
def test_a_run_whose_partners_answer_in_any_order_ends(case: Case, names: list[str]) -> None:
    world = World(dataclasses.replace(case, quorum=min(case.quorum, 3)))
    world.join()
    for name in [*names, *NAMES * 20]:
        if world.run.plan.secure is None:
            world.bring(name)
            continue
        _in_step(world, name, 1)
        _attempt(world, 0)
        world.reduce()
    assert world.run.state is RunState.FINISHED, world.run.reason
    assert world.state.round == case.rounds


class Listened(World):
    """And partners' own machines hear what is said, receipts before what follows from the commit."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        begun = session.Session(
            run_id="ab" * 16, plan_digest="0" * 64, roster_digest="0" * 64, phase=session.Phase.JOINED
        )  # fmt: skip
        self.sessions = dict.fromkeys(NAMES, begun)

    def hears(self, name: str, event: session.Event) -> tuple[session.Action, ...]:
        self.sessions[name], actions = session.apply(self.sessions[name], event)
        return actions

    def feed(self, event: runs.Event) -> tuple[runs.Action, ...]:
        actions = super().feed(event)
        for action in actions:
            if isinstance(action, runs.Commit):
                self._receipts(action.closed)
        for action in actions:
            match action:
                case runs.TellClosed():
                    self.hears(action.partner, session.StepOver(index=action.index, reason=action.reason))
                case runs.Open(step):
                    for name in step.participants:
                        assert self.sessions[name].step is None, "it still works on another"
                        assert self.hears(name, session.Opened(step=step)) == (session.Train(step=step),)
        return actions

    def _receipts(self, closed: steps.StepState) -> None:
        for name, slot in closed.slots.items():
            if slot.digest or slot.state is SlotState.REFUSED:
                outcome: Literal["counted", "refused"] = "counted" if slot.state is SlotState.COUNTED else "refused"
                told = Receipt(
                    run_id="ab" * 16, step=closed.step.index, partner=name, contribution=slot.digest or "0" * 64,
                    outcome=outcome, reason=slot.reason, entries=1, head="0" * 64,
                )  # fmt: skip
                self.hears(name, session.GotReceipt(receipt=told))

    def does(self, name: str, *, well: bool) -> None:
        """What `name` was asked for: it brings it, or says that it cannot."""
        step = self.sessions[name].step
        if step is None or self.sessions[name].work is not session.Work.WORKING:
            return
        event: steps.StepEvent = steps.Stored(partner=name, digest="1" * 64)
        if well:
            self.hears(name, session.Worked(index=step.index, digest="1" * 64))
            self.hears(name, session.Acknowledged(index=step.index))
        else:
            self.hears(name, session.StepFailed(index=step.index, reason="child.failed: x"))
            event = steps.Failed(partner=name, reason="child.failed: x")
        self.feed(runs.InStep(index=step.index, event=event))


PLAIN = st.builds(
    Case, st.integers(1, 2), st.integers(1, 3), st.integers(2, 6), st.integers(0, 2), st.integers(0, 2),
    st.integers(0, 2),
)  # fmt: skip
ANSWER = st.tuples(NAME, st.sampled_from([True, True, True, False]), st.sampled_from([0, 1, 1, 5]))
WORK = st.one_of(ANSWER, ANSWER, st.integers(0, 20))


@settings(deadline=None)
@given(PLAIN, st.lists(WORK, max_size=60))
def test_a_partner_is_asked_for_a_step_when_it_is_done_with_its_last_one(
    case: Case, work: list[tuple[str, bool, int] | int]
) -> None:
    world = Listened(case)
    world.join()
    for one in work:
        match one:
            case (name, well, summed):
                world.does(name, well=well)
                for _ in range(summed):
                    world.reduce()
            case index:
                world.feed(runs.InStep(index=index, event=steps.TimeUp()))
    for name, held in world.sessions.items():
        for kind in (StepKind.TRAIN, StepKind.EVALUATE):
            assert held.worked.get(f"{kind}:", 0) <= planned_steps(world.run.plan, kind, "")
        if held.step is not None and not world.run.state.final:
            assert world.run.place(name, held.step.index) or str(held.step.index) in world.run.open


# ---------------------------------------------------------------- one by one


def started(**given: Any) -> World:
    world = World(Case(**given))
    world.join()
    return world


def test_whoever_is_done_goes_on_with_the_newest_version_while_a_slow_partner_works() -> None:
    world = started(buffer=2, quorum=2, rounds=9)
    assert [world.at(name) for name in NAMES] == [(StepKind.TRAIN, 1)] * 5
    world.bring("a")
    assert world.at("a") is None  # it has trained this version, which two contributions end
    world.bring("b")
    assert world.at("a") == world.at("b") == (StepKind.TRAIN, 2)
    assert world.at("c") == (StepKind.TRAIN, 1)
    assert world.state.round == 1


def test_a_step_whose_model_is_too_old_is_given_up_and_its_partner_gets_the_newest() -> None:
    world = started(buffer=2, quorum=2, rounds=9, staleness=1)
    for _ in range(2):
        world.bring("a")
        world.bring("b")
    stale = [action for action in world.actions if isinstance(action, runs.Void)]
    assert {action.closed.step.participants for action in stale} == {("c",), ("d",), ("e",)}
    assert all(action.reason.startswith("step.stale: ") for action in stale)
    assert world.at("c") == (StepKind.TRAIN, 3)
    told = [action for action in world.actions if isinstance(action, runs.TellClosed)]
    assert {action.partner for action in told} == {"c", "d", "e"}


def test_who_is_always_too_slow_is_excluded_where_the_plan_says_so() -> None:
    world = started(buffer=1, quorum=1, rounds=9, staleness=0, exclude=2)
    for _ in range(3):
        world.bring("a")
    assert set(world.run.excluded) == {"b", "c", "d", "e"}
    assert world.run.excluded["b"].startswith("run.excluded: nothing in 2 steps in a row; the last: step.stale")


def test_a_contribution_that_waits_to_be_summed_is_given_up_with_its_step() -> None:
    world = started(buffer=1, quorum=1, rounds=9, staleness=0)
    world.bring("a", reduce=False)
    world.bring("b", reduce=False)
    world.reduce()
    assert world.at("b") == (StepKind.TRAIN, 2)
    assert (1, "b") not in world.run.contributions()
    world.reduce()  # that of b's step, which is over: nothing comes of it
    assert world.state.round == 1


def test_a_version_is_made_of_what_is_there_when_nobody_is_left_that_could_train_it() -> None:
    world = started(buffer=5, quorum=2, rounds=2)
    for name in ("a", "b"):
        world.bring(name)
    for name in ("c", "d", "e"):
        index = next(held.step.index for held in world.run.open.values() if name in held.slots)
        world.feed(runs.InStep(index=index, event=steps.Failed(partner=name, reason="child.failed: x")))
        world.reduce()
    assert world.state.round == 1
    assert [world.at(name) for name in NAMES] == [(StepKind.TRAIN, 2)] * 5  # who failed is asked again, once a version


def test_a_buffer_that_cannot_fill_ends_the_run_by_name() -> None:
    world = started(buffer=5, quorum=3)
    for index in range(5):
        world.feed(runs.InStep(index=index, event=steps.TimeUp()))
        world.reduce()
    assert world.run.state is RunState.FAILED
    assert world.run.reason.startswith("fedbuff.starved: ")
    assert "a quorum of 3" in world.run.reason


def test_fewer_partners_than_the_quorum_end_the_run_also_while_steps_are_open() -> None:
    world = started(buffer=2, quorum=4)
    for name in ("a", "b"):
        world.feed(runs.Removed(partner=name, reason="revoked"))
    assert world.run.state is RunState.FAILED
    assert world.run.reason == "3 of 4 partners needed are left"


def test_an_evaluation_is_of_those_that_are_free_and_nobody_waits_for_the_slow() -> None:
    world = started(buffer=2, quorum=2, rounds=2, every=1)
    world.bring("a")
    world.bring("b")
    assert world.at("a") == world.at("b") == (StepKind.EVALUATE, 1)
    assert world.at("c") == (StepKind.TRAIN, 1)
    world.bring("c")
    assert world.at("c") == (StepKind.TRAIN, 2)  # while the others measure
    world.bring("a")
    world.bring("b")
    assert world.at("a") == world.at("b") == (StepKind.TRAIN, 2)


def test_the_last_version_is_measured_by_all() -> None:
    world = started(buffer=2, quorum=2, rounds=1, every=1)
    world.bring("a")
    world.bring("b")
    assert [world.at(name) for name in NAMES] == [(StepKind.EVALUATE, 1)] * 5
    for name in NAMES:
        world.bring(name)
    assert world.run.state is RunState.FINISHED


def test_early_stopping_gives_up_what_is_open_and_excludes_nobody_for_it() -> None:
    world = started(buffer=2, quorum=2, rounds=9, every=1, stop=True, exclude=1, more=True)
    for name in ("a", "b") * 4:  # two versions, each of them measured, and the second is no better
        world.bring(name)
    assert world.run.stage == 1
    assert not world.run.excluded
    assert [world.at(name) for name in NAMES] == [(StepKind.TRAIN, 1)] * 5
    reasons = {action.reason for action in world.actions if isinstance(action, runs.Void)}
    assert reasons == {"step.stage_over: the stage needs no more contributions"}


def test_a_stage_that_is_done_gives_up_what_is_open_and_excludes_nobody_for_it() -> None:
    world = started(buffer=2, quorum=2, rounds=1, exclude=1, more=True)
    world.bring("a")
    world.bring("b")
    assert world.run.stage == 1
    assert not world.run.excluded
    assert [world.at(name) for name in NAMES] == [(StepKind.TRAIN, 1)] * 5
    reasons = {action.reason for action in world.actions if isinstance(action, runs.Void)}
    assert reasons == {"step.stage_over: the last version is made"}


def test_who_joins_late_or_comes_back_is_asked_at_once() -> None:
    world = World(Case(buffer=5, quorum=2))
    world.join(NAMES[:4])
    world.feed(runs.JoinTimeUp())
    assert world.at("e") is None
    world.feed(joined("e"))
    assert world.at("e") == (StepKind.TRAIN, 1)


def test_secure_cohorts_overlap_each_on_one_model_and_of_a_quorum_at_least() -> None:
    six = dataclasses.replace(Case(secure=True, buffer=3, quorum=3, rounds=4)).run
    members = {name: runs.Participant() for name in ("a", "b", "c", "d", "e", "f")}
    world = World(Case())
    world.run = msgspec.structs.replace(
        six,
        participants=members,
        plan=msgspec.structs.replace(six.plan, cohort=msgspec.structs.replace(six.plan.cohort, partners=())),
    )
    world.join(members)
    first, second = world.run.open.values()
    assert len(first.step.participants) == len(second.step.participants) == 3
    for name in first.step.participants:
        _in_step(world, name, 1)
    _attempt(world, 0)
    world.reduce()
    assert world.state.round == 1
    again = world.run.open[str(max(map(int, world.run.open)))].step
    assert again.participants == first.step.participants
    assert (again.round, second.step.round) == (2, 1)
    assert again.inputs != second.step.inputs


def test_two_steps_of_one_partner_end_the_run_of_a_driver_that_asks_for_them() -> None:
    class Twice(FedBuff):
        def next(self, state: FedBuffState, context: Context) -> tuple[Step, ...] | Done:
            return super().next(state, dataclasses.replace(context, open=()))

    run = Case(buffer=5).run
    for name in NAMES:
        run, _ = run_machine.apply(run, joined(name), {"fedbuff": Twice()}, 0.0)
    run, _ = run_machine.apply(run, runs.Change(change="pause", reason=""), {"fedbuff": Twice()}, 0.0)
    run, _ = run_machine.apply(run, runs.Change(change="resume", reason=""), {"fedbuff": Twice()}, 0.0)
    assert run.state is RunState.FAILED
    assert run.reason.startswith("driver.busy: ")


def test_the_history_says_among_whom_steps_that_are_opened_together_were_chosen_and_who_was_away() -> None:
    world = World(Case(buffer=2, quorum=2, rounds=3))
    world.join(NAMES[:4])
    world.feed(runs.Declined(partner="e", reason="no"))
    world.bring("a")
    world.bring("b")
    one, other = [held for held in world.run.open.values() if held.step.round == 2]
    assert (one.candidates, other.candidates) == (("a", "b"), ())
    assert one.away == other.away == {"e": "declined"}  # the others are in steps of their own


def test_the_discount_is_the_papers() -> None:
    assert [Buffer(buffer=1).discount(tau) for tau in (0, 3)] == [1.0, 0.5]
    assert np.isclose(Buffer(buffer=1, staleness_power=1.0).discount(3), 0.25)
