"""Who takes part in a run: a line a partner, with where it stands, what came of what it was asked, and its privacy."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, names_axis
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import committed, lineage_of_run
from aimass.explain.words import counted, joined, percent
from aimass.privacy.dp.spending import spent_by_partner
from aimass.proto.views import ParticipantState, RunView, SlotState

__all__ = ["Partners", "partners"]

_CAME_TO: Final = ("counted", "late", "failed", "refused")
_SLOTS: Final = {
    SlotState.COUNTED: 0, SlotState.LATE: 1, SlotState.FAILED: 2, SlotState.REFUSED: 3,
}  # fmt: skip
_COLOURS: Final = ("series:2", "series:1", "series:5", "series:3")
_MOST_SHOWN: Final = 40
_OUT: Final = frozenset({ParticipantState.DECLINED, ParticipantState.EXCLUDED, ParticipantState.REMOVED})
_NOT_SHOWN: Final = (
    "How long each partner computes, and its bytes: a server knows seconds of steps and bytes of the whole run. "
    "Epsilon is of this run alone."
)


class Partners(Result, frozen=True, kw_only=True, eq=False, tag="runs.partners"):
    """`states` say where each stands, empty of a run over shards; `asked` int64 [partners] counts all its steps.

    `came_to` [partners, 4] counts those that were counted, late, failed and refused; `epsilon` [partners] NaN of no
    promise. Of a run that is `over` it does not matter who is connected.
    """

    over: bool
    names: tuple[str, ...]
    states: tuple[str, ...]
    connected: tuple[bool, ...]
    devices: tuple[str, ...]
    reasons: tuple[str, ...]
    asked: Array
    came_to: Array
    epsilon: Array

    @property
    def share(self) -> Array:
        """float64 [partners]: of what each was asked, how much was counted; NaN of one that was never asked."""
        found: Array = np.where(self.asked > 0, self.came_to[:, 0] / np.maximum(self.asked, 1), np.nan)
        return found

    def describe(self) -> tuple[str, ...]:
        """How many there are, who is out and why, who dropped out most."""
        if not self.names:
            return ("No partner has been invited yet.",)
        away = sum(not here and bool(state) for here, state in zip(self.connected, self.states, strict=True))
        away = 0 if self.over else away
        said = [f"{counted(len(self.names), 'partner')}" + (f", {away} of them not connected now." if away else ".")]
        out = [n for n, state in zip(self.names, self.states, strict=True) if state in _OUT]
        if out:
            said.append(f"Out of the run: {joined(out[:5])}{f' and {len(out) - 5} more' if len(out) > 5 else ''}.")
        lost = self.came_to[:, 1:].sum(axis=1)
        worst = int(np.argmax(lost))
        if lost[worst]:
            told = ", ".join(f"{n} {w}" for n, w in zip(self.came_to[worst, 1:], _CAME_TO[1:], strict=True) if n)
            said.append(f"{self.names[worst]} dropped out most: {told}, of {self.asked[worst]} steps.")
        return tuple(said)

    def picture(self) -> Picture:
        """A bar a partner in parts, those that dropped out most on top; of very many how many dropped out how often."""
        panel = self._each() if len(self.names) <= _MOST_SHOWN else self._many()
        return Picture(
            "What came of what partners were asked",
            (panel,),
            "A bar is the steps that a partner was asked in, by what came of them: whoever dropped out most is on top."
            if len(self.names) <= _MOST_SHOWN
            else "A bar is how many partners lost that share of the steps they were asked in: late, failed or refused.",
            _NOT_SHOWN,
        )

    def _each(self) -> Panel:
        order = np.argsort(-self.came_to[:, 1:].sum(axis=1), kind="stable")
        ends = np.cumsum(self.came_to[order], axis=1).astype(np.float64)
        begins = ends - self.came_to[order]
        layers = tuple(
            Bars(np.arange(len(order)), ends[:, part], begin=begins[:, part], colours=(_COLOURS[part],), series=name)
            for part, name in enumerate(_CAME_TO)
            if self.came_to[:, part].any()
        )
        return Panel("", Axis("steps"), names_axis(tuple(self.names[place] for place in order)), layers)

    def _many(self) -> Panel:
        lost = 1 - self.share[self.asked > 0]
        counts, edges = np.histogram(lost, bins=10, range=(0, 1))
        words = tuple(f"{percent(low)} to {percent(high)}" for low, high in itertools.pairwise(edges))
        return Panel("", Axis("partners"), names_axis(words, "share lost"), (Bars(np.arange(10), counts * 1.0),))

    def to_columns(self) -> Columns:
        """A row a partner."""
        return {
            "partner": self.names,
            "state": self.states,
            "connected": self.connected,
            "asked": self.asked.tolist(),
            **{name: self.came_to[:, place].tolist() for place, name in enumerate(_CAME_TO)},
            "share_counted": _known(self.share),
            "epsilon": _known(self.epsilon),
            "device": self.devices,
            "reason": self.reasons,
        }


def partners(run: RunView) -> Partners:
    """Of all that were invited or asked; what its owner and operators are shown."""
    held = {one.partner: one for one in run.participants}
    steps = committed(run)
    names = tuple(sorted({*held, *(name for step in run.steps for name in step.slots)}))
    came_to, asked = np.zeros((len(names), len(_CAME_TO)), np.int64), np.zeros(len(names), np.int64)
    place = {name: at for at, name in enumerate(names)}
    for (name, state), times in Counter(one for step in steps for one in step.slots.items()).items():
        asked[place[name]] += times
        if state in _SLOTS:
            came_to[place[name], _SLOTS[state]] += times
    spent = spent_by_partner(run)
    figures = [spent[name].epsilon if name in spent else None for name in names]
    return Partners(
        lineage=lineage_of_run(run),
        over=run.summary.state.final,
        names=names,
        states=tuple(str(held[name].state) if name in held else "" for name in names),
        connected=tuple(name in held and held[name].connected for name in names),
        devices=tuple(held[name].device if name in held else "" for name in names),
        reasons=tuple(held[name].reason if name in held else "" for name in names),
        asked=asked,
        came_to=came_to,
        epsilon=np.array([np.nan if one is None else one for one in figures], np.float64),
        caveats=(_NOT_SHOWN,),
    )


def _known(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
