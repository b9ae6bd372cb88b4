"""The front door: who looks, which pages there are for them, and the one that is asked for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import streamlit as st

from aimass.explain.app.entrance import arrive, led_back, way_out
from aimass.explain.app.house import Here, house
from aimass.explain.app.pages_table import PageSpec, pages_for
from aimass.explain.app.shell import guarded
from aimass.explain.app.unmet import unmet_told
from aimass.proto.errors import NotFound

__all__ = ["render", "show_page"]

_ICON: Final = Path(__file__).with_name("icon.png")
"""Of the package: a browser is not sent to anybody else for it."""

# White words on the light blue that is legible on black are not legible themselves.
_STYLE: Final = (
    "<style>[data-testid=stMultiSelectTagsContainer] [data-tag] {background: #0062A0; color: #ffffff}</style>"
)


def render() -> None:
    """One run of the script: called anew at each move of a viewer."""
    st.set_page_config(page_title="AIMass", page_icon=str(_ICON), layout="wide")
    st.html(_STYLE)
    shown = house()
    person = None
    with guarded():
        person = arrive(shown)
    if person is None:
        return
    here = shown.visit(person, _viewer())
    pages = _pages(here)
    page = st.navigation(list(pages.values()), position="hidden")
    led_back(shown, pages)
    with st.sidebar:
        _menu(here, pages)
        way_out(shown, person)
    page.run()


def show_page(name: str) -> None:
    """One page by its name, without the menu; raises `NotFound` for one that this person may not see."""
    shown = house()
    person = arrive(shown)
    if person is None:
        return None
    here = shown.visit(person, _viewer())
    for spec in pages_for(here.person):
        if spec.name == name:
            return _shown(spec, here)
    raise NotFound("there is no such page", code="app.page", value=name)


def _viewer() -> str:
    """The session: a tab until it is reloaded."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx  # noqa: PLC0415

    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def _pages(here: Here) -> dict[str, Any]:
    """Streamlit's pages by name, the first of which is shown where the address names none."""
    return {
        spec.name: st.Page(
            functools.partial(_shown, spec, here),
            title=spec.title,
            icon=spec.icon,
            url_path=spec.name,
            default=place == 0,
        )
        for place, spec in enumerate(pages_for(here.person))
    }


def _menu(here: Here, pages: dict[str, Any]) -> None:
    """Links by group. (Streamlit's own menu of groups is no list that a screen reader can walk.)"""
    group = ""
    for spec in pages_for(here.person):
        if spec.group != group:
            group = spec.group
            st.caption(f"**{group}**")
        st.page_link(pages[spec.name], width="stretch")


def _shown(spec: PageSpec, here: Here) -> None:
    with unmet_told(spec.name), guarded():
        spec.render(here)
