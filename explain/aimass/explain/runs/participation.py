"""Who took part in a run's steps, who was late, failed or was not asked, and how long the steps took."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Final

import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Heat, Layer, Line, Panel, Picture, Points, names_axis
from aimass.explain.results import Array, Columns, Result
from aimass.explain.runs.readings import committed, lineage_of_run, thinned
from aimass.explain.words import joined, number, percent
from aimass.proto.views import RunView, SlotState

__all__ = ["Participation", "participation"]

_STATES: Final = ("not asked", "counted", "late", "failed", "refused", "other")
_PLACES: Final = {SlotState.COUNTED: 1, SlotState.LATE: 2, SlotState.FAILED: 3, SlotState.REFUSED: 4}
_MOST_PARTNERS: Final = 40
"""That have a line each in the picture; of more, the share that was counted is shown by step and by partner."""
_MOST_STEPS: Final = 400


class Participation(Result, frozen=True, kw_only=True, eq=False, tag="runs.participation"):
    """`states` uint8 [partners, steps] are places in `names`; `seconds` float64 [steps] from opening to commit.

    `reasons` counts by its words why somebody failed or was refused.
    """

    partners: tuple[str, ...]
    steps: Array
    kinds: tuple[str, ...]
    states: Array
    seconds: Array
    reasons: dict[str, int]
    names: tuple[str, ...] = _STATES

    @property
    def counted(self) -> Array:
        """float64 [partners]: the share of the steps for which each was asked in which its work was counted."""
        asked = (self.states > 0).sum(axis=1)
        share: Array = (self.states == 1).sum(axis=1) / np.maximum(asked, 1)
        return share

    def describe(self) -> tuple[str, ...]:
        """How many took part, who was missing most, why, and what a step took, which is all of an offline run."""
        if not len(self.steps):
            return ("No step of this run has ended yet.",)
        return (*(self._attendance() if self.partners else ()), self._lasted())

    def _attendance(self) -> list[str]:
        share = percent(float((self.states == 1).sum() / max((self.states > 0).sum(), 1)))
        asked = f"{len(self.partners)} partners were asked in {len(self.steps)} steps"
        said = [f"{asked}; of what was asked {share} was counted."]
        missing = np.argsort(self.counted, kind="stable")[:3]
        often = [f"{self.partners[p]} ({percent(float(self.counted[p]))})" for p in missing if self.counted[p] < 1]
        if often:
            said.append(f"Least often counted: {joined(often)}.")
        if self.reasons:
            most = sorted(self.reasons.items(), key=lambda one: (-one[1], one[0]))[:3]
            said.append(f"Why: {'; '.join(f'{reason} ({times})' for reason, times in most)}.")
        return said

    def _lasted(self) -> str:
        middle, longest = float(np.median(self.seconds)), int(np.argmax(self.seconds))
        return (
            f"A step took {number(middle)} s (median), the longest, step {self.steps[longest]}, "
            f"{number(float(self.seconds[longest]))} s."
        )

    def picture(self) -> Picture:
        """Partners by step, or shares of very many, above the seconds."""
        times = Panel(
            "seconds", Axis("step", whole=True), Axis("seconds"), (_line(self.steps, self.seconds),), height=140
        )
        return Picture(
            "Who took part",
            (*(self._who() if self.partners or not len(self.steps) else ()), times),
            "A cell is a partner in a step, its colour what came of it; below it how long each step took."
            if self.partners
            else "A line of how long each step took.",
            "Why a partner was slow: its machine, its link and its data look alike from here."
            if self.partners
            else "Why a step was slow: the machine, its disk and the rows look alike from here.",
        )

    def _who(self) -> tuple[Panel, ...]:
        if len(self.partners) <= _MOST_PARTNERS and len(self.steps) <= _MOST_STEPS:
            edges = np.arange(len(self.steps) + 1) - 0.5
            present = np.unique(np.concatenate([[0, 1], self.states.ravel()])).astype(np.int64)
            bands = tuple(place - 0.5 for place in range(1, len(present)))
            heat = Heat(
                edges,
                np.arange(len(self.partners) + 1) - 0.5,
                np.searchsorted(present, self.states).astype(np.float64),
                "state",
                bands=bands,
                band_names=tuple(self.names[place] for place in present),
            )
            return (
                Panel(
                    "",
                    Axis("step, in order", domain=(-0.5, len(self.steps) - 0.5), grid=False, whole=True),
                    names_axis(self.partners),
                    (heat,),
                ),
            )
        asked = np.maximum((self.states > 0).sum(axis=0), 1)
        share = (self.states == 1).sum(axis=0) / asked
        counts, edges = np.histogram(self.counted, bins=10, range=(0, 1))
        words = tuple(f"{percent(low)} to {percent(high)}" for low, high in itertools.pairwise(edges))
        step, shares = Axis("step", whole=True), Axis("share", domain=(0, 1))
        return (
            Panel("share counted by step", step, shares, (_line(self.steps, share),)),
            Panel("partners by how often they were counted", Axis("partners"), names_axis(words),
                  (Bars(np.arange(10), counts.astype(np.float64)),)),
        )  # fmt: skip

    def to_columns(self) -> Columns:
        """A row a partner and step."""
        partner, step = np.indices(self.states.shape).reshape(2, -1)
        return {
            "partner": [self.partners[p] for p in partner],
            "step": self.steps[step].tolist(),
            "kind": [self.kinds[s] for s in step],
            "state": [self.names[int(self.states[p, s])] for p, s in zip(partner, step, strict=True)],
            "seconds": self.seconds[step].tolist(),
        }


def participation(run: RunView) -> Participation:
    """Of a run's committed steps. Partners and reasons are what its owner and operators are shown."""
    steps = committed(run)
    partners = tuple(sorted({partner for step in steps for partner in step.slots}))
    place = {partner: index for index, partner in enumerate(partners)}
    states = np.zeros((len(partners), len(steps)), np.int64)
    for column, step in enumerate(steps):
        for partner, state in step.slots.items():
            states[place[partner], column] = _PLACES.get(state, len(_STATES) - 1)
    return Participation(
        lineage=lineage_of_run(run),
        partners=partners,
        steps=np.array([step.index for step in steps], np.int64),
        kinds=tuple(str(step.kind) for step in steps),
        states=states.astype(np.uint8),
        seconds=np.array([(step.committed_at or step.opened_at) - step.opened_at for step in steps], np.float64),
        reasons=dict(Counter(reason for step in steps for reason in step.reasons.values())),
    )


def _line(x: Array, y: Array) -> Layer:
    kept = thinned(np.asarray(y, np.float64), 1_000)
    return Points(x[:1], y[:1]) if len(x) == 1 else Line(x[kept], y[kept])
