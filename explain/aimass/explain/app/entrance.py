"""The entrance of an app with a login: who comes in, the page before it, and the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from aimass.explain.app.house import House
from aimass.explain.app.login import LoggedIn
from aimass.explain.app.login_file import TokenKind
from aimass.explain.app.pages_table import PAGES
from aimass.explain.app.people import Person, local_person
from aimass.explain.app.shell import told_error
from aimass.explain.app.wanted import Place, browser_of
from aimass.explain.app.wording import plain
from aimass.proto.errors import AimassError, NotFound, Refused, Unauthenticated
from aimass.proto.secret import Secret

__all__ = ["arrive", "led_back", "streamlit_identity", "way_out"]

_ARRIVED: Final = "_arrived"
_ENDED: Final = frozenset({"people.expired", "app.logged_out"})
_COOKIE: Final = "_streamlit_xsrf"


def arrive(house: House) -> Person | None:
    """Who looks; None where nobody is let in, which is shown. Raises `Unavailable` where the server cannot be asked."""
    if not house.settings.login:
        return local_person(house.settings.path(house.settings.home))
    here = house.identity()
    if here is None:
        _login_page(house, None)
        return None
    try:
        return house.logins.person(here.token)
    except Unauthenticated as error:
        _login_page(house, error)
    except Refused as error:
        _refused_page(here, error)
    return None


def streamlit_identity(kind: TokenKind) -> LoggedIn | None:
    """Who is logged in by Streamlit's cookie, if anybody is."""
    if not st.user.is_logged_in:
        return None
    token = st.user.tokens.get(kind, "")
    if not token:
        raise NotFound(
            "the identity provider gave no such token",
            code="app.login_token",
            value=kind,
            cure="Set expose_tokens in the login file to one that it gives.",
        )
    calls = next((str(st.user[name]) for name in ("name", "email", "sub") if st.user.get(name)), "somebody")
    return LoggedIn(calls, Secret(token.encode("latin-1", "replace")))


def way_out(house: House, person: Person) -> None:
    """Who one is, and out; without a login there is no out."""
    st.caption(f"{plain(person.name)}, {person.role}")
    if person.token is not None and st.button("Log out", icon=":material/logout:"):
        house.logins.end(person.token)
        st.logout()
        st.stop()  # a part of the page that saw the end would run it anew, and what sends the browser away be lost


def led_back(house: House, pages: Mapping[str, Any]) -> None:
    """Go on to where somebody was before the login, once, if it is one of their pages, which come by name."""
    if not house.settings.login or st.session_state.get(_ARRIVED):
        return
    st.session_state[_ARRIVED] = True
    place = house.wanted.take(_browser())
    if place is None or st.query_params.to_dict():
        return
    if (page := pages.get(place.page)) is not None:
        st.switch_page(page, query_params=dict(place.query))


def _browser() -> str:
    return browser_of(str(st.context.cookies.get(_COOKIE, "")))


def _login_page(house: House, error: AimassError | None) -> None:
    """Under every page's address, so that a link leads here and to no other page."""

    def page() -> None:
        st.title("AIMass explainer", anchor=False)
        if error is not None and error.code in _ENDED:
            st.info("Your login has ended.")
        elif error is not None:
            told_error(error)
        st.markdown("Log in at your organisation to see models and runs.")
        if st.button("Log in", icon=":material/login:"):
            query = {name: st.query_params.get_all(name) for name in st.query_params}
            house.wanted.keep(_browser(), Place(shown.url_path or PAGES[0].name, query))
            st.login()

    shown = _alone(page)
    shown.run()


def _refused_page(here: LoggedIn, error: AimassError) -> None:
    def page() -> None:
        st.title("AIMass explainer", anchor=False)
        st.markdown(f"You are logged in as **{plain(here.calls)}**.")
        told_error(error)
        if st.button("Log out", icon=":material/logout:"):
            st.logout()

    _alone(page).run()


def _alone(page: Callable[[], None]) -> Any:
    """A page that stands under all addresses."""
    places = [st.Page(page, title="Log in", url_path=spec.name, default=not at) for at, spec in enumerate(PAGES)]
    return st.navigation(places, position="hidden")
