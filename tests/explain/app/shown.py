"""What a page says, as text."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest

__all__ = ["said"]

_KINDS = ("title", "subheader", "markdown", "caption", "error", "warning", "info", "code")


def said(page: AppTest) -> str:
    """All texts of a page in one, without the marks that keep names from being markup and figures on one line."""
    elements: list[Any] = [one for kind in _KINDS for one in page.get(kind)]
    return "\n".join(str(one.value) for one in elements).replace("\\", "").replace("\u00a0", " ")
