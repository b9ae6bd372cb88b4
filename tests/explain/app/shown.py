"""What a page says, as text."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

__all__ = ["said"]


def said(page: AppTest) -> str:
    """All texts of a page in one, without the marks that keep names from being markup."""
    parts = [
        *(one.value for kind in ("title", "subheader", "markdown", "caption", "error", "warning", "info", "code")
          for one in page.get(kind)),
    ]  # fmt: skip
    return "\n".join(parts).replace("\\", "")
