"""GAP: what a model uses overall."""

from __future__ import annotations

from aimass.explain.app.choosing import asking_of, choose_model_and_rows
from aimass.explain.app.house import Here
from aimass.explain.app.shell import answered, frame, header, lineage_line
from aimass.explain.questions import question

__all__ = ["render"]


def render(here: Here) -> None:
    """The views of `gap` over the rows that were chosen."""
    asked = question("gap")
    header(asked.title, "Which columns the predictions hang on, how sure that is, and in which way they act.")
    chosen = choose_model_and_rows(here)
    if chosen is None:
        return
    result = answered(here, asking_of(asked, chosen, asked.options()), asked.title, private=chosen.private)
    if result is None:
        return
    lineage_line(result.lineage)
    for name, part in result.views().items():
        frame(part, f"gap-{name}", name.capitalize())
