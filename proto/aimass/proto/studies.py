"""A study: many runs over the same data that search for settings, whose privacy is asked for as a whole."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from aimass.proto.names import RunId
from aimass.proto.values import Scalar, Value, canonical_json

__all__ = ["Study", "StudyId", "study_digest"]

StudyId = RunId
"""Sixteen random bytes in lower-case hexadecimal, which the submitter draws once for a study."""

Setting = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,64}(\.[a-z0-9_-]{1,64}){0,7}\Z")]


class Study(Value, frozen=True):
    """The study that a run is a trial of: the same section, to the letter, stands in the plan of each of its runs.

    It has `trials` runs at most, all seeds and all that are stopped early counted. `costliest` names, by their dotted
    names in the plan, the settings of the run that would cost most of all: so many steps, so little noise. What it does
    not name may differ among the runs as far as it makes none dearer. Before the first of them touches its data a
    partner reserves `trials` times the cost of the costliest, spends each run from that, and refuses a run that is not
    covered. What no run has spent is free again when the study ends.
    """

    id: StudyId
    trials: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    costliest: Annotated[dict[Setting, Scalar], msgspec.Meta(max_length=100)] = {}

    def __post_init__(self) -> None:
        if any(name.partition(".")[0] == "study" for name in self.costliest):
            raise ValueError("`costliest` names settings of the runs, and none of `study` itself")


def study_digest(study: Study) -> str:
    """SHA-256 of the section, in hexadecimal: who approved it approved no other."""
    return hashlib.sha256(canonical_json(study)).hexdigest()
