"""Events that are committed together come to what they come to one by one; each keeps its own outcome."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.transcript import Chain
from aimass.proto.errors import AimassError, WrongState
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState, StepView
from aimass.server import run_machine, runs
from aimass.server.commits import next_entry
from aimass.server.run_views import open_step_view
from aimass.server.store import Commit, Entry, ModelRow, ReceiptRow, RunRow
from aimass.server.turns import Group, Turn, together
from tests.server.test_run_machine import DRIVER, DRIVERS, EVENTS, NAMES, RULES, joined, new_run, stored

NOW = 100.0


def advance(run: runs.Run, event: runs.Event) -> tuple[runs.Run, tuple[runs.Action, ...]]:
    return run_machine.apply(run, event, DRIVERS, NOW)


def new_row(quorum: int = 2, rule: str = "plain") -> RunRow:
    run = new_run(quorum, rule)
    return RunRow(run.run_id, "sam", 1.0, None, b"plan", "1" * 64, "2" * 64, run)


@dataclasses.dataclass
class Tables:
    """What the store holds after commits."""

    row: RunRow
    chain: Chain = dataclasses.field(default_factory=Chain)
    steps: dict[int, StepView] = dataclasses.field(default_factory=dict)
    entries: list[Entry] = dataclasses.field(default_factory=list)
    receipts: list[ReceiptRow] = dataclasses.field(default_factory=list)
    models: list[ModelRow] = dataclasses.field(default_factory=list)
    actions: list[runs.Action] = dataclasses.field(default_factory=list)
    outcomes: list[Any] = dataclasses.field(default_factory=list)

    def take(self, row: RunRow, chain: Chain, commit: Commit, actions: tuple[runs.Action, ...]) -> None:
        self.row, self.chain = row, chain
        self.steps |= {view.index: view for view in commit.steps}
        self.entries += commit.entries
        self.receipts += commit.receipts
        self.models += commit.models
        self.actions += actions

    def one_by_one(self, turn: Turn) -> None:
        """The plain version: one event, one commit."""
        if turn.of_step is not None and str(turn.of_step) not in self.row.run.open:
            self.outcomes.append(self.row.run)
            return
        try:
            run, actions = advance(self.row.run, turn.event)
        except AimassError as error:
            self.outcomes.append(error.code)
            return
        self.outcomes.append(run)
        if run == self.row.run and not actions:
            return
        extra = turn.recorded(self.chain)
        views = {view.index: view for view in extra.steps}
        for index, state in run.open.items():
            views.setdefault(int(index), open_step_view(state))
        entries, ended_at = list(extra.entries), None
        for action in actions:
            if isinstance(action, runs.End):
                ended_at = NOW
                fields = {"event": "ended", "state": action.state, "reason": action.reason, "model": run.model}
                entries.append(
                    next_entry(run.run_id, entries[-1].chain if entries else self.chain, canonical_json(fields))
                )
                for index, state in self.row.run.open.items():
                    views.setdefault(int(index), open_step_view(state, ended=action.reason))
        commit = dataclasses.replace(extra, steps=tuple(views.values()), entries=tuple(entries))
        row = dataclasses.replace(self.row, run=run, ended_at=ended_at or self.row.ended_at)
        self.take(row, entries[-1].chain if entries else self.chain, commit, actions)

    def grouped(self, turns: list[Turn]) -> Group:
        group = together(self.row, self.chain, turns, advance, NOW)
        self.outcomes += [one.code if isinstance(one, AimassError) else one for one in group.outcomes]
        if group.changed:
            self.take(group.row, group.chain, group.commit, group.actions)
        return group


def reduced(tables: Tables, action: runs.Reduce) -> Turn:
    """What the engine comes back with when a step was summed: computed from what is stored then."""
    run, index = tables.row.run, action.index
    if str(index) not in run.open:
        return Turn(runs.Received(index=index, driver="{}", model="f" * 64), of_step=index)
    after = DRIVER.receive(run_machine.driver_state(run, DRIVER), None, None, run_machine.context(run))
    entry = next_entry(run.run_id, tables.chain, b"step %d" % index)
    view = open_step_view(run.open[str(index)])
    extra = Commit(
        steps=(view,), entries=(entry,), receipts=(ReceiptRow(index, "east", entry.chain.entries, b"", b""),),
        models=(ModelRow(run.run_id, index, f"{index:064x}", 0, 1, NOW),),
    )  # fmt: skip
    received = runs.Received(index=index, driver=canonical_json(after).decode(), model=DRIVER.model(after))
    return Turn(received, extra, of_step=index)


@given(
    st.lists(st.lists(EVENTS, max_size=8), max_size=12),
    st.integers(1, 3),
    st.sampled_from(sorted(RULES)),
    st.data(),
)
def test_any_grouping_of_any_events_is_stored_and_answered_as_one_by_one(
    groups: list[list[runs.Event]], quorum: int, rule: str, data: st.DataObject
) -> None:
    row = new_row(quorum, rule)
    grouped, plain = Tables(row), Tables(row)
    summed: list[Turn] = []
    joining: list[runs.Event] = [joined(name) for name in NAMES]
    for events in (joining, *groups):
        turns = [Turn(event) for event in events]
        for turn in summed:
            turns.insert(data.draw(st.integers(0, len(turns))), turn)
        group = grouped.grouped(turns)
        summed = [reduced(grouped, action) for action in group.actions if isinstance(action, runs.Reduce)]
        for turn in turns:
            plain.one_by_one(turn)
    assert grouped == plain


def test_a_change_that_is_refused_hinders_none_that_waits_with_it() -> None:
    row = new_row()
    resume = runs.Change(change="resume", reason="too early")
    turns = [Turn(resume), *(Turn(joined(name)) for name in NAMES), Turn(resume)]
    group = together(row, Chain(), turns, advance, NOW)
    refused = [type(outcome) for outcome in group.outcomes]
    assert refused == [WrongState, runs.Run, runs.Run, runs.Run, WrongState]
    assert group.row.run.state is RunState.RUNNING


def test_a_sum_that_comes_after_the_end_in_the_same_group_leaves_nothing() -> None:
    tables = Tables(new_row())
    tables.grouped([Turn(joined(name)) for name in NAMES])
    closed = tables.grouped([Turn(stored(name, 0)) for name in NAMES])
    (reduce,) = [action for action in closed.actions if isinstance(action, runs.Reduce)]
    stop = runs.Change(change="stop", reason="a person")
    group = tables.grouped([Turn(stop), reduced(tables, reduce)])
    assert (group.row.run.state, group.commit.models, len(group.commit.entries)) == (RunState.STOPPED, (), 1)


def test_events_that_change_nothing_are_no_commit() -> None:
    group = together(new_row(), Chain(), [Turn(stored("east", 0)), Turn(stored("stranger", 3))], advance, NOW)
    assert not group.changed


def test_a_sum_that_failed_after_the_end_of_its_run_is_void_and_no_error() -> None:
    fail = Turn(runs.Change(change="fail", reason="the sum failed"), of_step=0)
    stop = Turn(runs.Change(change="stop", reason="a person"))
    group = together(new_row(), Chain(), [stop, fail], advance, NOW)
    assert [outcome.reason for outcome in group.outcomes if isinstance(outcome, runs.Run)] == ["a person"] * 2


def test_what_is_recorded_with_an_event_extends_the_history_as_it_is_when_its_turn_comes() -> None:
    tables = Tables(new_row())
    tables.grouped([Turn(joined(name)) for name in NAMES])
    made = tables.chain  # as it was when these were made, both of them

    def entered(chain: Chain) -> Commit:
        return Commit(entries=(next_entry("ab" * 16, chain, b"{}"),))

    group = tables.grouped([Turn(stored(name, 0), entered) for name in NAMES[:2]])
    assert [entry.chain.entries for entry in group.commit.entries] == [made.entries + 1, made.entries + 2]
    assert group.chain == made.extended(group.commit.entries[0].data).extended(group.commit.entries[1].data)
