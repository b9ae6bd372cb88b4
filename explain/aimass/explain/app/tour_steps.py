"""The tour: real questions about one model and its rows, where each is answered, and the answer as it is found now.

No answer is written down here: each is what the library says of the model that is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

from aimass.explain.app.choosing import Chosen, asking_of
from aimass.explain.gap import GapOptions
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.prim import PrimOptions
from aimass.explain.questions import Asking, question
from aimass.explain.results import Result
from aimass.explain.rows import Rows
from aimass.explain.segviz import SegvizOptions

__all__ = ["STEPS", "Step", "steps_of"]

_PARTNER: Final = "partner"


@dataclasses.dataclass(frozen=True)
class Step:
    """A `question`, the `page` that answers it with what in its address, and where to look on it.

    `asking` is what the page asks the library too, `says` the sentences of its result that answer.
    """

    name: str
    question: str
    page: str
    look: str
    asking: Callable[[Chosen], Asking]
    says: Callable[[Result], tuple[str, ...]]
    address: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warning: str = ""


def _gap(chosen: Chosen) -> Asking:
    return asking_of(question("gap"), chosen, GapOptions())


def _lpi(chosen: Chosen) -> Asking:
    return asking_of(question("lpi"), chosen, LpiOptions(row=0))


def _prim(chosen: Chosen) -> Asking:
    return asking_of(question("prim"), chosen, PrimOptions(beside=_beside(chosen)))


def _segviz(chosen: Chosen) -> Asking:
    return asking_of(question("segviz"), chosen, SegvizOptions(beside=_beside(chosen)))


def _beside(chosen: Chosen) -> str:
    """The column that says whose rows they are, where several people's are here."""
    whose = chosen.rows.beside.get(_PARTNER, ()) if isinstance(chosen.rows, Rows) else ()
    return _PARTNER if len(set(map(str, whose))) > 1 else ""


def _of(view: str, count: int) -> Callable[[Result], tuple[str, ...]]:
    """The first sentences of one view."""

    def says(result: Result) -> tuple[str, ...]:
        part = result.views().get(view)
        return () if part is None else part.describe()[:count]

    return says


def _bands(result: Result) -> tuple[str, ...]:
    """Whether predictions mean what they say."""
    told = result.views()["bands"].describe()
    return tuple(line for line in told if "mean what it says" in line or "In no band" in line) or told[:2]


def _holders(result: Result) -> tuple[str, ...]:
    part = result.views().get("holders") or result.views()["bands"]
    return part.describe()[:2]


STEPS: Final = (
    Step(
        "uses",
        "What does the model lean on?",
        "gap",
        "The longest bar of the first picture: the feature whose shuffling hurts most. Its line is the interval.",
        _gap,
        _of("importance", 3),
        warning="It leans on what predicts here. That is not what causes the outcome.",
    ),
    Step(
        "why",
        "Why does it say so of the first patient?",
        "lpi",
        "Orange bars lead to the right and speak for the answer, blue ones to the left and against it; together they "
        "lead from the average to this patient.",
        _lpi,
        lambda result: result.describe()[:3],
        {"row": "0"},
        warning="It says how the model came to its answer, and not whether the answer is right.",
    ),
    Step(
        "means",
        "When it says 80 %, are 80 % ill?",
        "prim",
        "Beside the bands: blue is what was true, with its interval, orange what was predicted.",
        _prim,
        _bands,
        warning="A band of few rows has a wide interval: nothing is proved there either way.",
    ),
    Step(
        "where",
        "For whom are its predictions highest?",
        "prim",
        "Further down: each box is a sentence, judged on rows that did not choose it.",
        _prim,
        _of("boxes", 2),
        warning="Other boxes may hold nearly the same people.",
    ),
    Step(
        "wrong",
        "At which hospital is it wrong most?",
        "segviz",
        "By who holds the rows: a dot is the share of wrong rows, its line the interval.",
        _segviz,
        _holders,
        {"segviz-beside": _PARTNER},
        warning="More error at one hospital may be its patients, its way of measuring, or chance.",
    ),
)
"""In the order of a first look."""

_OF_ONE: Final = dataclasses.replace(
    STEPS[-1],
    question="When is it wrong most?",
    look="By band of the prediction: a dot is the share of wrong rows, its line the interval.",
    address={},
    warning="A band of few rows has a wide interval; near the threshold most models are wrong more often.",
)
"""In place of the last, where all rows are one hospital's."""


def steps_of(chosen: Chosen) -> tuple[Step, ...]:
    """The steps for what was chosen: rows of one hospital are not asked which hospital's are the worst."""
    return STEPS if _beside(chosen) else (*STEPS[:-1], _OF_ONE)
