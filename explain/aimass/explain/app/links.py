"""Links from one page of the app to another, with what its address is to hold."""

from __future__ import annotations

import streamlit as st

from aimass.explain.app.house import Here
from aimass.explain.app.pages_table import pages_for
from aimass.explain.app.wording import plain

__all__ = ["link_to"]


def link_to(here: Here, page: str, label: str, **address: str) -> None:
    """A link that reads `label`, a text of anybody's; the text alone where this person has no such page."""
    spec = next((spec for spec in pages_for(here.person) if spec.name == page), None)
    if spec is None:
        st.markdown(f"**{plain(label)}**", width="content")
        return
    there = st.Page(_elsewhere, title=spec.title, icon=spec.icon, url_path=spec.name)
    st.page_link(there, label=plain(label), icon=spec.icon, query_params=address)


def _elsewhere() -> None:
    """Stands for the page: a link names it by its address alone."""
