"""The questions by name: a package for each, which says itself which options it has.

A package exports `explain(model, rows, options, work)`, which may take a `background` too; what it takes and gives is
read from its annotations, so that commands, the report and the app are made for all of them alike.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import typing
from collections.abc import Callable
from typing import Final, Literal

from aimass.explain.images import ImageModel, Images
from aimass.explain.models import Model
from aimass.explain.results import Result
from aimass.explain.rows import Rows
from aimass.explain.texts import TextModel, Texts
from aimass.explain.work import Work
from aimass.proto.errors import NotFound
from aimass.proto.values import Value

__all__ = ["QUESTIONS", "Asking", "Kind", "Question", "question"]

Kind = Literal["rows", "images", "texts"]
"""What a model takes."""


Asked = Rows | Images | Texts
"""What a model is asked about."""


@dataclasses.dataclass(frozen=True)
class Question:
    """`asks` is the question as a person would put it, `module` the package that answers by its `function`.

    `of` says what the model takes: rows of a table, images or texts.
    """

    name: str
    title: str
    asks: str
    module: str
    function: str = "explain"
    of: Kind = "rows"

    @property
    def explain(self) -> Callable[..., Result]:
        """The package's function."""
        found: Callable[..., Result] = getattr(importlib.import_module(self.module), self.function)
        return found

    @property
    def options(self) -> type[Value]:
        """The kind of its options; all have a default."""
        return typing.cast("type[Value]", typing.get_type_hints(self.explain)["options"])

    @property
    def result(self) -> type[Result]:
        """The kind of its result."""
        return typing.cast("type[Result]", typing.get_type_hints(self.explain)["return"])

    @property
    def here(self) -> bool:
        """Whether its package is installed and answers."""
        return importlib.util.find_spec(self.module) is not None and hasattr(
            importlib.import_module(self.module), self.function
        )

    def part(self, view: str) -> Question:
        """One view of the answer alone, for whom the whole takes too long; of packages whose `parts` have it."""
        return dataclasses.replace(self, name=f"{self.name}.{view}", module=f"{self.module}.parts", function=view)

    @property
    def takes_background(self) -> bool:
        """Whether it compares rows with others."""
        return "background" in typing.get_type_hints(self.explain)


@dataclasses.dataclass(frozen=True)
class Asking:
    """A question about a model and rows, images or texts, under options; a `background` goes to those that take one."""

    question: Question
    model: Model | ImageModel | TextModel
    rows: Asked
    options: Value
    background: Rows | None = None

    def answer(self, work: Work) -> Result:
        """What the question's package says."""
        more = {"background": self.background} if self.question.takes_background else {}
        return self.question.explain(self.model, _labelled(self.rows, self.model), self.options, work, **more)


def _labelled(rows: Asked, model: object) -> Asked:
    """Rows whose labels are places in the model's outputs, by name."""
    outputs: tuple[str, ...] = getattr(model, "outputs", ())  # those of images are `classes`, as their masks are
    return rows.labelled(outputs) if isinstance(rows, Rows) and rows.classes and len(outputs) > 1 else rows


QUESTIONS: Final = (
    Question("lpi", "Why this prediction", "why the model predicts what it does for one row", "aimass.explain.lpi"),
    Question("gap", "What the model uses", "what the model uses overall", "aimass.explain.gap"),
    Question(
        "prim", "Where the predictions fall", "in which bands and regions the predictions fall", "aimass.explain.prim"
    ),
    Question("segviz", "Where the model is wrong", "for which rows the model is wrong", "aimass.explain.segviz"),
    Question(
        "pixels",
        "Where the model sees it",
        "where in one image the model sees what it says",
        "aimass.explain.lpi",
        "explain_image",
        "images",
    ),
    Question(
        "space",
        "Where in the images it is predicted",
        "where in images, or in a volume, a model is how sure of a class",
        "aimass.explain.prim",
        "explain_images",
        "images",
    ),
    Question(
        "pieces",
        "Which words it leans on",
        "which pieces of one text speak for what the model says",
        "aimass.explain.lpi",
        "explain_text",
        "texts",
    ),
    Question(
        "masks",
        "Where the segmentation is wrong",
        "which pixels of images a model takes for something else",
        "aimass.explain.segviz",
        "explain_images",
        "images",
    ),
)


def question(name: str) -> Question:
    """One of them by its name; raises `NotFound`."""
    for one in QUESTIONS:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in QUESTIONS)
    raise NotFound("there is no such question", code="explain.question", value=name, limit=known)
