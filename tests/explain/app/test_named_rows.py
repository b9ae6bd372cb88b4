"""Named rows are for whom they are meant, and nobody else learns that they are there."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.choosing import rows_of, subject_of
from aimass.explain.app.house import House
from aimass.explain.app.jobs import Jobs
from aimass.explain.app.login import LoggedIn, Logins
from aimass.explain.app.people import Person, rows_for
from aimass.explain.app.settings import AppSettings, PersonRole, RowsSetting
from aimass.privacy.pki import Role
from aimass.proto.errors import NotFound
from aimass.proto.secret import Secret
from aimass.proto.settings import read_settings
from aimass.proto.up.founding import _template
from aimass.proto.views import PersonView
from tests.explain.app.conftest import opened_page
from tests.explain.app.hearts import heart_settings, settled
from tests.explain.app.shown import said
from tests.support.datasets import dataset

TOKEN = Secret(b"head.body.signature")
ALL = {Role.OPERATOR, Role.SCIENTIST, Role.ANALYST}


@pytest.mark.parametrize(
    ("roles", "login", "expected"),
    [
        ((), None, ALL),
        ((), TOKEN, {Role.OPERATOR, Role.SCIENTIST}),
        (("analyst",), TOKEN, {Role.ANALYST}),
        (("analyst", "operator"), None, {Role.ANALYST, Role.OPERATOR}),
        (("operator",), None, {Role.OPERATOR}),
    ],
)
def test_rows_are_for_their_roles_and_with_a_login_not_for_analysts_unless_that_is_said(
    roles: tuple[PersonRole, ...], login: Secret | None, expected: set[Role]
) -> None:
    settings = AppSettings(rows=(RowsSetting(name="a", files=("a.csv",), roles=roles),))
    found = {role for role in Role if rows_for(settings, Person("somebody", role, login))}
    assert found == expected


@pytest.fixture
def seen(entered: Callable[..., House], tmp_path: Path) -> Callable[..., AppTest]:
    """A page of an app with a login to somebody of a role; `for_analysts` says who may ask about the second rows."""
    heart = heart_settings(tmp_path)

    def see(page: str, role: str, *, for_analysts: bool = False, **address: str) -> AppTest:
        first, second = heart.rows
        if for_analysts:
            second = msgspec.structs.replace(second, roles=("analyst",))
        settings = msgspec.structs.replace(heart, rows=(first, second), login="login.toml")
        house = entered(settings, identity=lambda: LoggedIn("Cleo", TOKEN))
        house.logins = Logins(lambda _: PersonView(name="cleo@house", role=role, through="app", until=math.inf))
        return opened_page(page, model="heart@champion", **address)

    return see


def offered(page: AppTest) -> list[str]:
    return list(page.selectbox(key="rows").options)


def test_an_analyst_who_logs_in_is_offered_uploads_and_what_is_meant_for_analysts(seen: Callable[..., AppTest]) -> None:
    assert offered(seen("lpi", "analyst")) == ["Upload a file…"]
    assert offered(seen("lpi", "operator")) == ["hungarian", "unknown", "Upload a file…"]
    assert offered(settled(seen("lpi", "analyst", for_analysts=True))) == ["unknown", "Upload a file…"]


def test_what_a_page_computes_is_computed_in_the_turn_of_who_logged_in(
    seen: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    ask = Jobs.ask

    def heard(jobs: Jobs, *args: Any, person: str, **more: Any) -> Any:
        told.append(person)
        return ask(jobs, *args, person=person, **more)

    monkeypatch.setattr(Jobs, "ask", heard)
    settled(seen("gap", "operator", rows="hungarian"))
    assert set(told) == {"operator/cleo@house"}


@pytest.mark.parametrize("page", ["lpi", "gap", "prim", "segviz"])
def test_a_link_to_rows_of_others_says_the_same_as_one_to_rows_that_there_are_not(
    page: str, seen: Callable[..., AppTest]
) -> None:
    told = said(seen(page, "analyst", rows="hungarian"))
    assert "this role may not see it" in told
    assert told == said(seen(page, "analyst", rows="nowhere-at-all")).replace("nowhere-at-all", "hungarian")


def test_rows_of_others_are_not_held_against_either(seen: Callable[..., AppTest]) -> None:
    page = settled(seen("lpi", "analyst", for_analysts=True, rows="unknown"))
    assert list(page.selectbox(key="against").options) == ["the rows themselves", "unknown"]
    page = settled(seen("lpi", "analyst", for_analysts=True, rows="unknown", against="hungarian"))
    assert "app.gone" in said(page)
    assert not [one for one in page.selectbox if one.key == "against"]


def test_nothing_opens_rows_of_others_by_their_name(
    seen: Callable[..., AppTest], entered: Callable[..., House]
) -> None:
    seen("lpi", "analyst")
    from aimass.explain.app.house import house

    here, codes = house().visit(Person("cleo", Role.ANALYST, TOKEN), "tab"), set()
    subject = subject_of(here, "heart@champion")
    for name in ("hungarian", "elsewhere"):
        with pytest.raises(NotFound) as refused:
            rows_of(here, name, subject)
        codes.add(refused.value.code)
    assert codes == {"app.rows"}


def test_rows_that_are_not_here_yet_come_last_and_say_how_to_get_them(
    entered: Callable[..., House], tmp_path: Path
) -> None:
    heart = heart_settings(tmp_path)
    later = RowsSetting(name="later", files=(str(tmp_path / "later.csv"),), task="heart")
    entered(msgspec.structs.replace(heart, rows=(later, heart.rows[0])))
    page = settled(opened_page("gap", model="heart@champion"))
    assert offered(page) == ["hungarian", "Upload a file…", "later (not here yet)"]
    assert page.selectbox(key="rows").value == "hungarian"
    assert "there is no such file of rows" in said(page.selectbox(key="rows").select("later").run()).lower()
    (tmp_path / "later.csv").write_bytes((tmp_path / "hungarian.csv").read_bytes())
    assert offered(page.run()) == ["later", "hungarian", "Upload a file…"]


LONG = "a" * 300
"""Longer than a file's name may be: looking for it fails as for one in a folder that the app may not enter, also where
tests are run by root."""


def test_rows_at_which_the_app_cannot_even_look_keep_nobody_from_other_rows_and_a_link_to_them_says_why(
    entered: Callable[..., House], tmp_path: Path
) -> None:
    heart = heart_settings(tmp_path)
    closed = RowsSetting(name="closed", files=(str(tmp_path / LONG / "rows.csv"),), task="heart")
    entered(msgspec.structs.replace(heart, rows=(closed, heart.rows[0])))
    page = settled(opened_page("gap", model="heart@champion"))
    assert offered(page) == ["hungarian", "Upload a file…", "closed (not here yet)"]
    page = opened_page("gap", model="heart@champion", rows="closed")
    assert not page.exception
    assert "the app cannot read it" in said(page)
    assert "app.rows_file" in said(page)
    assert LONG not in said(page)


def test_what_is_there_and_cannot_be_read_is_a_named_error(entered: Callable[..., House], tmp_path: Path) -> None:
    heart = heart_settings(tmp_path)
    (tmp_path / "hospital" / "rows.csv").mkdir(parents=True)  # listed as a file, and opening it fails
    hospital = RowsSetting(name="hospital", files=(str(tmp_path / "hospital"),), task="heart")
    here = entered(msgspec.structs.replace(heart, rows=(hospital,))).visit(Person("you", Role.ANALYST), "tab")
    with pytest.raises(NotFound, match="Is a directory") as told:
        rows_of(here, "hospital", subject_of(here, "heart@champion"))
    assert (told.value.code, told.value.value) == ("app.rows_file", "hospital")


def test_the_app_of_aimass_up_offers_the_public_patients_once_they_are_fetched(
    entered: Callable[..., House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = dataset("heart").parents[1]
    monkeypatch.chdir(tmp_path)  # where nothing is called heart
    text = _template("app.toml", "/home/olga/aimass-home")
    (rows,) = read_settings(AppSettings, text, "app.toml", "AIMASS_APP_", {}).rows
    heart = heart_settings(tmp_path)
    entered(msgspec.structs.replace(heart, rows=(rows,)))
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path))
    page = opened_page("tour", model="heart@champion")
    assert offered(page) == ["Upload a file…", "heart (not here yet)"]
    page.selectbox(key="rows").select("heart").run()
    assert "aimass data get heart" in said(page)
    monkeypatch.setenv("AIMASS_CACHE", str(cache))
    told = said(opened_page("tour", model="heart@champion"))
    assert "At which hospital is it wrong most?" in told
    assert "The model was trained on these rows" in told
