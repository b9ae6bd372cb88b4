"""Group commit: events of a run that wait together are applied one after the other, and stored as one change.

A flush to the disk costs the same for one event as for hundreds. Each event has its own outcome, which is what it
would be alone; what follows from all of them is one commit, and the actions are in the order of the events. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from aimass.privacy.transcript import Chain
from aimass.proto.errors import AimassError
from aimass.proto.values import canonical_json
from aimass.proto.views import StepView
from aimass.server import runs
from aimass.server.commits import next_entry, void_entry
from aimass.server.run_views import open_step_view
from aimass.server.store import Commit, Entry, RunRow

__all__ = ["Advance", "Extra", "Group", "Turn", "together"]

Advance = Callable[[runs.Run, runs.Event], tuple[runs.Run, tuple[runs.Action, ...]]]
Extra = Commit | Callable[[Chain], Commit]
"""What is recorded with an event, or what makes it of the history that it extends: which may have grown since the event
was made, by the end of another step."""

_NOTHING: Final = Commit()


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """An event and what is recorded with it. With `of_step` it is void unless that step is still open."""

    event: runs.Event
    extra: Extra = _NOTHING
    of_step: int | None = None

    def recorded(self, chain: Chain) -> Commit:
        """What is recorded with it after `chain`."""
        return self.extra if isinstance(self.extra, Commit) else self.extra(chain)  # noqa: S610  (nothing of Django)


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """What a group of turns comes to; an outcome for each is the run after it, or the error that it alone has."""

    row: RunRow
    chain: Chain
    commit: Commit
    actions: tuple[runs.Action, ...]
    outcomes: tuple[runs.Run | AimassError, ...]
    changed: bool


def together(row: RunRow, chain: Chain, turns: Sequence[Turn], advance: Advance, now: float) -> Group:
    """`turns` in order. An event that raises a named error changes nothing and hinders none of the others."""
    taking = _Taking(row, chain)
    for turn in turns:
        taking.take(turn, advance, now)
    return taking.group()


class _Taking:
    def __init__(self, row: RunRow, chain: Chain) -> None:
        self._row, self._run, self._chain = row, row.run, chain
        self._ended_at: float | None = None
        self._changed = False
        self._actions: list[runs.Action] = []
        self._outcomes: list[runs.Run | AimassError] = []
        self._extras: list[Commit] = []
        self._entries: list[Entry] = []
        self._closed: dict[int, StepView] = {}

    def take(self, turn: Turn, advance: Advance, now: float) -> None:
        before = self._run
        if turn.of_step is not None and str(turn.of_step) not in before.open:
            self._outcomes.append(before)
            return
        try:
            run, actions = advance(before, turn.event)
        except AimassError as error:
            self._outcomes.append(error)
            return
        self._outcomes.append(run)
        if run == before and not actions:
            return
        self._run, self._changed = run, True
        self._actions += actions
        extra = turn.recorded(self._chain)
        self._extras.append(extra)
        self._closed |= {view.index: view for view in extra.steps}
        self._enter(extra.entries)
        for action in actions:
            if isinstance(action, runs.Void):
                self._void(before.run_id, action)
            if isinstance(action, runs.End):
                self._end(before, action, now)

    def _enter(self, entries: Sequence[Entry]) -> None:
        self._entries += entries
        if entries:
            self._chain = entries[-1].chain

    def _void(self, run_id: str, void: runs.Void) -> None:
        closed = void.closed
        self._enter((void_entry(run_id, self._chain, closed, void.reason),))
        self._closed[closed.step.index] = open_step_view(closed, ended=void.reason)

    def _end(self, before: runs.Run, end: runs.End, now: float) -> None:
        """The last entry, unless somebody holds others after those that are here; what the end makes of open steps."""
        self._ended_at = now
        if end.recorded:
            fields = {"event": "ended", "state": end.state, "reason": end.reason, "model": self._run.model}
            self._enter((next_entry(before.run_id, self._chain, canonical_json(fields)),))
        for index, state in before.open.items():
            self._closed.setdefault(int(index), open_step_view(state, ended=end.reason))

    def group(self) -> Group:
        views = {int(index): open_step_view(state) for index, state in self._run.open.items()} | self._closed
        commit = Commit(
            steps=tuple(views.values()),
            entries=tuple(self._entries),
            receipts=tuple(receipt for extra in self._extras for receipt in extra.receipts),
            models=tuple(model for extra in self._extras for model in extra.models),
            ledgers=tuple(held for extra in self._extras for held in extra.ledgers),
            ended_at=self._ended_at,
        )
        row = dataclasses.replace(self._row, run=self._run, ended_at=self._ended_at or self._row.ended_at)
        return Group(row, self._chain, commit, tuple(self._actions), tuple(self._outcomes), self._changed)
