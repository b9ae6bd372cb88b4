"""People log in at an identity provider with a real browser, and are who the training server says they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.app_login import LoginHouse, login_house
from tests.support.browser.viewer import Viewer, viewing
from tests.support.oidc import PASSWORD

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHouse]:
    """One app for all tests; nobody is logged in at first, since each test has a browser of its own."""
    with login_house(tmp_path_factory.mktemp("login")) as house:
        yield house


@pytest.fixture(autouse=True)
def as_ever(house: LoginHouse) -> Iterator[None]:
    """Tokens are as they should be again after each test."""
    yield
    house.identity.life_s, house.identity.over = 3600.0, {}


@pytest.fixture
def viewer(browser: Browser, house: LoginHouse) -> Iterator[Viewer]:
    with viewing(browser, house.app) as viewer:
        yield viewer


def log_in(viewer: Viewer, name: str = "cleo", password: str = PASSWORD) -> None:
    """From the app's first page, or the one that is open, through the provider's."""
    viewer.page.get_by_role("button", name="Log in").click()
    viewer.page.wait_for_url("**/authorize?**")
    viewer.page.get_by_label("Name").fill(name)
    viewer.page.get_by_label("Password").fill(password)
    viewer.page.get_by_role("button", name="Log in").click()


def enter(viewer: Viewer, name: str = "cleo") -> None:
    """Log in, until the app shows what it shows."""
    log_in(viewer, name)
    viewer.page.wait_for_url(f"{viewer.address}/**")
    viewer.settle()


@pytest.mark.parametrize(("name", "line"), [("cleo", "analyst"), ("anna", "scientist"), ("olga", "operator")])
def test_somebody_who_logs_in_has_the_role_that_the_server_gives(viewer: Viewer, name: str, line: str) -> None:
    viewer.open()
    enter(viewer, name)
    assert viewer.texts(rf"{name}@house, {line}")
    assert not viewer.see().exceptions


@pytest.mark.parametrize("width", [1280, 768])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_way_in_is_for_everybody(
    browser: Browser, house: LoginHouse, width: int, theme: str, tmp_path: Path
) -> None:
    with viewing(browser, house.app, width=width, theme="dark" if theme == "dark" else "light") as viewer:
        viewer.open()
        assert viewer.barriers() == []
        seen = viewer.see()
        assert (seen.exceptions, seen.errors, seen.wide, seen.clipped) == ((), (), (), ())
        assert any(name.startswith("button") and name.endswith("Log in") for name in viewer.walk())
        assert viewer.complaints == []
        viewer.picture(tmp_path / "way-in.png")


@pytest.mark.sight
@pytest.mark.alone
def test_a_link_leads_where_it_says_by_way_of_the_login(viewer: Viewer) -> None:
    viewer.open("gap?model=heart%402&rows=held-out")
    assert not viewer.texts("What the model uses")
    enter(viewer)
    viewer.page.wait_for_url("**/gap?**")
    viewer.settle()
    assert viewer.page.url.partition("?")[2] == "model=heart%402&rows=held-out"
    assert viewer.texts("What the model uses")


def test_whoever_does_not_know_the_password_stays_outside(viewer: Viewer) -> None:
    viewer.open()
    log_in(viewer, password="wrong")
    assert "wrong name or password" in viewer.page.inner_text("[role=alert]")
    viewer.open()
    assert viewer.page.get_by_role("button", name="Log in").is_visible()


@pytest.mark.sight
@pytest.mark.alone
def test_somebody_without_a_role_is_told_so_and_sees_nothing_else(viewer: Viewer) -> None:
    viewer.open()
    enter(viewer, "nora")
    assert viewer.texts("no role here")
    assert viewer.texts("people.no_role")
    assert not viewer.texts("Runs")
    assert viewer.barriers() == []


def test_a_login_that_has_ended_asks_for_another(viewer: Viewer, house: LoginHouse) -> None:
    house.identity.life_s = -60.0  # as it is an hour later: older than the server's leeway, within the library's
    viewer.open()
    enter(viewer)
    assert viewer.texts("Your login has ended")
    house.identity.life_s = 3600.0
    enter(viewer)
    assert viewer.texts("cleo@house, analyst")


def test_a_token_for_another_application_opens_nothing(viewer: Viewer, house: LoginHouse) -> None:
    house.identity.over = {"azp": "another-app"}
    viewer.open()
    enter(viewer)
    # The library that logs in looks at the party first; the services would refuse it too.
    assert "OAuth token exchange failed" in house.said.read_text()
    assert viewer.page.get_by_role("button", name="Log in").is_visible()
    assert not viewer.texts("Runs")


def test_who_logs_out_is_out_in_this_browser(viewer: Viewer) -> None:
    viewer.open()
    enter(viewer)
    viewer.page.get_by_role("button", name="Log out").click()
    viewer.page.get_by_role("button", name="Log in").wait_for()
    viewer.open("runs")
    assert viewer.page.get_by_role("button", name="Log in").is_visible()
    assert not [cookie for cookie in viewer.page.context.cookies() if "user" in cookie["name"] and cookie["value"]]


@pytest.mark.sight
@pytest.mark.alone
def test_who_logs_out_in_one_tab_sees_nothing_more_in_another_that_looks_by_itself(
    viewer: Viewer, house: LoginHouse
) -> None:
    viewer.open()
    enter(viewer, "olga")
    tab = Viewer(viewer.page.context.new_page(), house.app)
    tab.open()
    assert tab.texts("olga@house, operator")
    viewer.page.get_by_role("button", name="Log out").click()
    tab.page.get_by_text("Your login has ended").wait_for()  # nobody touches it
    assert not tab.texts("olga@house")
    assert not tab.texts("Runs now")


def test_a_reload_and_a_second_tab_need_no_second_login_and_another_browser_does(
    viewer: Viewer, browser: Browser, house: LoginHouse
) -> None:
    viewer.open()
    enter(viewer)
    viewer.reload()
    assert viewer.texts("cleo@house, analyst")
    tab = Viewer(viewer.page.context.new_page(), house.app)
    tab.open()
    assert tab.texts("cleo@house, analyst")
    with viewing(browser, house.app) as other:
        other.open()
        assert other.page.get_by_role("button", name="Log in").is_visible()


def test_a_cookie_that_somebody_changed_or_made_lets_nobody_in(viewer: Viewer, house: LoginHouse) -> None:
    viewer.open()
    enter(viewer)
    context = viewer.page.context
    cookies = context.cookies()
    (user,) = [cookie for cookie in cookies if cookie["name"] == "_streamlit_user"]
    assert user["httpOnly"]
    assert user["sameSite"] == "Lax"
    held = user["value"]
    for value in (held[:-4] + "AAAA", held[:50] + "AAAA" + held[54:], held.partition(".")[0], "forged"):
        context.add_cookies([{"name": user["name"], "value": value, "domain": user["domain"], "path": "/"}])
        viewer.open()
        assert viewer.page.get_by_role("button", name="Log in").is_visible()


def test_a_file_of_who_has_not_logged_in_does_not_come_to_where_files_are_taken(viewer: Viewer) -> None:
    where = f"{viewer.address}/_stcore/upload_file/session/file"
    viewer.open()
    assert "who have logged in" in viewer.page.context.request.put(where, data="age").text()
    enter(viewer)
    assert "XSRF" in viewer.page.context.request.put(where, data="age").text()  # Streamlit's own word


def test_no_token_stands_in_a_page_or_in_a_log(viewer: Viewer, house: LoginHouse) -> None:
    given: list[str] = []
    lock = threading.Lock()
    make: Callable[..., dict[str, str]] = house.identity.tokens

    def noted(person: str, nonce: str = "") -> dict[str, str]:
        found = make(person, nonce)
        with lock:
            given.extend(str(found[name]) for name in ("id_token", "access_token"))
        return found

    house.identity.tokens = noted  # type: ignore[method-assign]
    try:
        viewer.open()
        enter(viewer, "olga")
    finally:
        del house.identity.tokens  # the method again
    assert len(given) == 2
    page = viewer.page.content()
    logs = house.said.read_text()
    for token in given:
        for part in (token, *token.split(".")[1:]):
            assert part not in page
            assert part not in logs


def test_while_the_server_is_away_nobody_is_let_in_and_it_says_so(browser: Browser, tmp_path: Path) -> None:
    with login_house(tmp_path) as house, viewing(browser, house.app) as viewer:
        viewer.open()
        house.stop_server()
        enter(viewer)
        assert viewer.texts("wire.unreachable")
        assert not viewer.texts("Runs")
