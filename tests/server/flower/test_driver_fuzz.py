"""The run machine around the driver of Flower apps under any order of events: everybody that was asked is answered for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import WrongState
from aimass.proto.step import StepKind
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState, SlotState
from aimass.server import runs, steps
from aimass.server.flower.journal import Past
from tests.support.flower import FOUR, Machine, exchange, flower_plan

Do = Callable[[Machine], None]


def asked(machine: Machine, names: frozenset[str], kind: StepKind) -> None:
    state = machine.state
    number = len(state.past) + len(state.asked)
    machine.ask(number, exchange(number % 10, number % 10, sorted(names), kind))


def in_step(machine: Machine, name: str, kind: str) -> None:
    event: dict[str, steps.StepEvent] = {
        "stored": steps.Stored(partner=name, digest="a" * 64),
        "failed": steps.Failed(partner=name, reason="child.ValueError"),
        "refused": steps.Refused(partner=name, reason="contribution.norm"),
        "time": steps.TimeUp(),
    }
    for index in [int(index) for index in machine.run.open]:
        machine.feed(runs.InStep(index=index, event=event[kind]))
    machine.reduce()


def changed(machine: Machine, change: str) -> None:
    with contextlib.suppress(WrongState):
        machine.feed(runs.Change(change=change, reason="person"))


NAMES = st.sampled_from(FOUR)
DOINGS: st.SearchStrategy[Do] = st.one_of(
    st.builds(
        lambda names, kind: lambda machine: asked(machine, names, kind),
        st.frozensets(NAMES, min_size=1), st.sampled_from([StepKind.TRAIN, StepKind.EVALUATE, StepKind.QUERY]),
    ),
    st.builds(
        lambda name, kind: lambda machine: in_step(machine, name, kind),
        NAMES, st.sampled_from(["stored", "stored", "stored", "failed", "refused", "time"]),
    ),
    st.builds(
        lambda name: lambda machine: machine.feed(runs.Removed(partner=name, reason="trust.revoked")), NAMES
    ),
    st.builds(lambda change: lambda machine: changed(machine, change), st.sampled_from(["pause", "resume"])),
    st.builds(lambda: lambda machine: machine.reduce()),
)  # fmt: skip


def check(machine: Machine, before: tuple[Past, ...]) -> None:
    state = machine.state
    if machine.run.state.final:
        assert (state.past, state.asked, state.sent) == ((), (), ()), "the journal goes with the run's end"
        return
    assert state.past[: len(before)] == before, "the journal only grows"
    assert len(machine.run.open) <= 1
    for past in state.past:
        assert not set(past.replies) & set(past.failures)
        assert set(past.replies) | set(past.failures) == set(past.partners)
    for opened in machine.run.open.values():
        assert set(opened.step.participants) <= set(state.asked[0].partners)
        waited_for = {name for name, slot in opened.slots.items() if slot.state is SlotState.ASKED}
        assert waited_for <= set(machine.run.joined), "nobody waits for who has left"
    if machine.run.state is RunState.RUNNING and not machine.run.open:
        assert not state.asked, "what was asked is being done"
    assert msgspec.json.decode(canonical_json(machine.run), type=runs.Run) == machine.run


@given(st.lists(DOINGS, max_size=40), st.sampled_from([1, 2]), st.booleans())
def test_everybody_that_was_asked_is_answered_for(doings: list[Do], quorum: int, finishes: bool) -> None:
    machine = Machine(flower_plan(quorum=quorum))
    for do in doings:
        if machine.run.state.final:
            break
        before = machine.state.past
        do(machine)
        check(machine, before)
    if finishes and machine.run.state is RunState.RUNNING:
        machine.finish("f" * 64)
        for name in FOUR:
            in_step(machine, name, "time")
        assert (str(machine.run.state), machine.run.model) == ("finished", "f" * 64)
