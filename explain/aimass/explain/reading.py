"""How each kind of result is read, and what it does not show, for whoever sees its picture the first time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from aimass.explain.results import Result

__all__ = ["READINGS", "Reading", "reading_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """`how` says what stands where and what is good; `not_shown` the conclusion that people draw too soon."""

    how: str
    not_shown: str


READINGS: Final[Mapping[str, Reading]] = {
    "runs.course": Reading(
        "One line a metric by round; the band is the spread over those partners whose policies release their figures.",
        "A better held-out figure at one site says nothing of other sites, and the last round need not be the best.",
    ),
    "runs.participation": Reading(
        "A row a partner, a column a step; the colour says whether its work was counted, late, refused or lost.",
        "Why a partner was away: its own log says that. Who was counted most did not contribute most.",
    ),
    "runs.privacy": Reading(
        "What was promised against a row, or a person, after each round: epsilon at the delta that is named.",
        "What an attacker learnt. It bounds what anybody could learn, whatever else they know.",
    ),
    "runs.layers": Reading(
        "A row a tensor, a column a round; the colour is the norm of the change, or the way from the first model.",
        "Importance: a layer that moves much need not matter much for what is predicted.",
    ),
    "runs.relations": Reading(
        "How alike the changes of two layers went over the rounds: 1 together, -1 against one another, 0 unrelated.",
        "Cause: layers that move together may both follow the learning rate.",
    ),
    "runs.trajectory": Reading(
        "The way of the model in the two directions in which it moved most, from the first round to the last.",
        "Distances in other directions: the share that these two hold is told with the picture.",
    ),
}


def reading_of(result: Result) -> Reading:
    """The two lines of a result's kind."""
    return READINGS[str(type(result).__struct_config__.tag)]
