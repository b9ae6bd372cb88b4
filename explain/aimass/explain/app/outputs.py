"""Which of a model's outputs pages are about, and which columns are one feature: the same on each page."""

from __future__ import annotations

import streamlit as st

from aimass.explain.app.choosing import let_go, linked
from aimass.explain.app.unmet import bound

__all__ = ["choose_output", "typed_groups"]


def choose_output(outputs: tuple[str, ...], label: str, otherwise: str) -> str | None:
    """The name of an output, kept in the address; of more than two also the empty one, which means `otherwise`.

    Of two the last comes first, as it is what is usually asked for. None where the address names one that is none.
    """
    choices = tuple(reversed(outputs)) if len(outputs) <= 2 else ("", *outputs)
    let_go("output", choices)
    return linked("output", label, choices, named=lambda one: one or otherwise)


def typed_groups() -> tuple[str, ...]:
    """Columns that count as one feature, each group as the library has it: name=column,column."""
    said = st.text_input(
        "Columns that are one feature",
        key=bound("groups"),
        bind="query-params",
        placeholder="diet=fat,sugar; lab=chol,fbs",
        max_chars=2_000,
    )
    return tuple(part.strip() for part in said.split(";") if part.strip())
