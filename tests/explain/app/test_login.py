"""Who comes into an app with a login, and as whom: decided by the server's word, for as long as it holds."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from aimass.explain.app.door import check_door
from aimass.explain.app.ended import EndedLogins
from aimass.explain.app.house import House, enter
from aimass.explain.app.login import LoggedIn, Logins
from aimass.explain.app.login_file import read_login
from aimass.explain.app.people import Person
from aimass.explain.app.presence import still_looks
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.wanted import Place, Wanted, browser_of
from aimass.explain.opening import Where, open_subject
from aimass.privacy.pki import Role
from aimass.proto.errors import AimassError, BadInput, Refused, Unauthenticated, Unavailable
from aimass.proto.secret import Secret
from aimass.proto.views import PersonView
from tests.explain.app.shown import said
from tests.support.app_login import login_text
from tests.support.edge_federation import Members, run, serving
from tests.support.identity import PEOPLE, Provider

TOKEN = Secret(b"head.body.signature")


class Server:
    """Answers whose a token is, or raises."""

    def __init__(self, role: str = "analyst", until: float = 100.0) -> None:
        self.answer: PersonView | AimassError = PersonView(name="cleo@house", role=role, through="app", until=until)
        self.asked = 0

    def __call__(self, token: Secret) -> PersonView:
        self.asked += 1
        if isinstance(self.answer, AimassError):
            raise self.answer
        return self.answer


# ---------------------------------------------------------------- people by their tokens


def test_the_server_is_asked_once_for_each_token_and_again_when_its_word_is_over() -> None:
    server, now = Server(), [0.0]
    logins = Logins(server, lambda: now[0])
    assert logins.person(TOKEN) == logins.person(TOKEN) == Person("cleo@house", Role.ANALYST, TOKEN)
    logins.person(Secret(b"another"))
    assert server.asked == 2
    now[0] = 100.0
    server.answer = Unauthenticated("the token has expired", code="people.expired")
    with pytest.raises(Unauthenticated):
        logins.person(TOKEN)


def test_a_refusal_is_not_kept() -> None:
    server = Server()
    server.answer, good = Unavailable("away"), server.answer
    logins = Logins(server, lambda: 0.0)
    with pytest.raises(Unavailable):
        logins.person(TOKEN)
    server.answer = good
    assert logins.person(TOKEN).name == "cleo@house"


class Session:
    """What the run of a page holds of its viewer."""


def refused_in_a_session(logins: Logins) -> tuple[type, str, dict[str, Any], weakref.ref[Session]]:
    """What a page of a session is told, and the session, which nobody holds any more once this has returned."""
    session = Session()
    with pytest.raises(Unauthenticated) as raised:
        logins.person(TOKEN)
    error = raised.value
    return type(error), str(error), dict(vars(error)), weakref.ref(session)


class Caused(Server):
    """Refuses because of something else, which is raised with it."""

    def __call__(self, token: Secret) -> PersonView:
        try:
            int("no number")
        except ValueError as cause:
            self.asked += 1
            raise Unauthenticated("no such key", code="people.key", value="v" * 300, limit="l", cure="C.") from cause
        raise AssertionError("it is a number")


def test_a_token_that_does_not_count_keeps_nothing_of_the_session_that_asked() -> None:
    server, now = Caused(), [0.0]
    logins = Logins(server, lambda: now[0])
    *first, session = refused_in_a_session(logins)
    *second, other = refused_in_a_session(logins)
    gc.collect()
    assert (session(), other()) == (None, None)
    assert first == second
    assert server.asked == 1
    ((_, kept),) = logins._refused.values()
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def test_a_refusal_is_forgotten_after_its_seconds_though_nobody_asks_of_the_token_again() -> None:
    server, now = Server(), [0.0]
    server.answer = Unauthenticated("expired", code="people.expired")
    logins = Logins(server, lambda: now[0])
    for number in range(3):
        now[0] = float(number)
        with pytest.raises(Unauthenticated):
            logins.person(Secret(b"%d" % number))
    now[0] = 6.5
    with pytest.raises(Unauthenticated):
        logins.person(Secret(b"2"))
    assert (server.asked, len(logins._refused)) == (3, 1)
    now[0] = 7.0
    with pytest.raises(Unauthenticated):
        logins.person(Secret(b"2"))
    assert (server.asked, len(logins._refused)) == (4, 1)


@pytest.mark.parametrize("role", ["partner", "service", "server"])
def test_a_role_of_machines_does_not_look(role: str) -> None:
    with pytest.raises(Refused):
        Logins(Server(role), lambda: 0.0).person(TOKEN)


def test_two_logins_of_one_person_have_connections_of_their_own_and_no_token_is_printed() -> None:
    first, second = (Person("cleo@house", Role.ANALYST, Secret(text)) for text in (b"first", b"second"))
    local = Person("cleo@house", Role.ANALYST)
    assert len({first.key, second.key, local.key}) == 3
    assert "first" not in repr(first) + first.key
    assert (first.bearer or str)() == "first"
    assert local.bearer is None


# ---------------------------------------------------------------- pages


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """A page of an app with a login, by who is logged in and what the server says of them."""

    def open_(here: LoggedIn | None, server: Server) -> AppTest:
        house = House(AppSettings(login="login.toml", home=str(tmp_path)), lambda: here)
        house.logins = Logins(server, lambda: 0.0)
        enter(house)
        return AppTest.from_function(_script, default_timeout=60).run()

    yield open_
    enter(None)


def _script() -> None:
    from aimass.explain.app.front import render

    render()


Opened = Callable[[LoggedIn | None, Server], AppTest]
CLEO = LoggedIn("Cleo <b>", TOKEN)


def test_who_is_not_logged_in_sees_the_way_in_and_the_server_is_not_asked(opened: Opened) -> None:
    server = Server()
    page = opened(None, server)
    assert [button.label for button in page.button] == ["Log in"]
    assert "Log in at your organisation" in said(page)
    assert server.asked == 0
    assert not page.exception


def test_who_is_logged_in_sees_pages_and_the_way_out(opened: Opened) -> None:
    page = opened(CLEO, Server())
    assert "cleo@house, analyst" in said(page)
    assert "Log out" in [button.label for button in page.button]
    assert "Log in" not in [button.label for button in page.button]


@pytest.mark.parametrize(
    ("error", "shows", "button"),
    [
        (Unauthenticated("the token has expired", code="people.expired"), "Your login has ended", "Log in"),
        (Unauthenticated("signature", code="people.signature"), "people.signature", "Log in"),
        (Refused("no role here", code="people.no_role", value="nora@house"), "people.no_role", "Log out"),
        (Unavailable("the server cannot be reached", code="wire.unreachable"), "wire.unreachable", ""),
    ],
)
def test_whom_the_server_does_not_let_in_is_told_why_and_sees_nothing_else(
    opened: Opened, error: AimassError, shows: str, button: str
) -> None:
    server = Server()
    server.answer = error
    page = opened(CLEO, server)
    assert shows in said(page)
    assert [one.label for one in page.button] == ([button] if button else [])
    assert "head.body" not in json.dumps(said(page))
    assert "Runs" not in said(page)


def test_a_login_that_ends_while_somebody_looks_ends_at_their_next_move(tmp_path: Path) -> None:
    server, now = Server(), [0.0]
    house = House(AppSettings(login="login.toml", home=str(tmp_path)), lambda: CLEO)
    house.logins = Logins(server, lambda: now[0])
    enter(house)
    try:
        page = AppTest.from_function(_script, default_timeout=60).run()
        assert "cleo@house, analyst" in said(page)
        now[0] = 100.0
        server.answer = Unauthenticated("the token has expired", code="people.expired")
        page.run()
        assert "Your login has ended" in said(page)
        assert "cleo@house" not in said(page)
    finally:
        enter(None)


class Passing:
    """Who is logged in at each look, one after the other; the last one stays."""

    def __init__(self, *looks: LoggedIn | None) -> None:
        self.looks = list(looks)

    def __call__(self) -> LoggedIn | None:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def _part() -> None:
    import streamlit as st

    from aimass.explain.app.entrance import arrive
    from aimass.explain.app.house import Here, house
    from aimass.explain.app.shell import looked

    @looked(60.0)
    def part(here: Here) -> None:
        st.markdown(f"live figures for {here.person.name}")

    person = arrive(house())
    if person is not None:
        part(house().visit(person, "tab"))


@pytest.mark.parametrize(
    ("then", "shows"),
    [(CLEO, "live figures for cleo@house"), (None, "Log in at your organisation")],
)
def test_a_part_that_looks_again_by_itself_asks_first_who_looks(
    tmp_path: Path, then: LoggedIn | None, shows: str
) -> None:
    house = House(AppSettings(login="login.toml", home=str(tmp_path)), Passing(CLEO, then))
    house.logins = Logins(Server(), lambda: 0.0)
    enter(house)
    try:
        page = AppTest.from_function(_part, default_timeout=60).run()
        assert shows in said(page)
        assert ("live figures" in said(page)) is (then is not None)
    finally:
        enter(None)


def _working() -> None:
    import threading

    from aimass.explain.app.entrance import arrive
    from aimass.explain.app.house import house
    from aimass.explain.app.shell import computed

    person = arrive(house())
    if person is not None:
        computed(house().visit(person, "tab"), "work", "Long work", lambda _: threading.Event().wait(2.0))


def test_progress_is_told_where_the_server_cannot_be_asked_who_looks(tmp_path: Path) -> None:
    class Once(Server):
        def __call__(self, token: Secret) -> PersonView:
            found = super().__call__(token)
            self.answer = Unavailable("the server is away")
            return found

    house = House(AppSettings(login="login.toml", home=str(tmp_path)), lambda: CLEO)
    house.logins = Logins(Once(until=0.0), lambda: 0.0)
    enter(house)
    try:
        page = AppTest.from_function(_working, default_timeout=60).run()
        assert not page.exception
        assert "The server is away" in said(page)
    finally:
        enter(None)


def test_whoever_looked_looks_no_more_once_the_login_has_ended_or_is_anothers(tmp_path: Path) -> None:
    server, now, held = Server(), [0.0], [CLEO]
    house = House(AppSettings(login="login.toml", home=str(tmp_path)), lambda: held[-1])
    house.logins = Logins(server, lambda: now[0])
    here = house.visit(house.logins.person(TOKEN), "tab")
    assert still_looks(here)
    held.append(LoggedIn("Cleo", Secret(b"another")))
    assert not still_looks(here)
    held.pop()
    assert still_looks(here)
    now[0] = 100.0
    server.answer = Unavailable("away")
    with pytest.raises(Unavailable):
        still_looks(here)
    for answer in (Unauthenticated("expired", code="people.expired"), Refused("no role", code="people.no_role")):
        server.answer = answer
        assert not still_looks(here)
    house.close()


def test_who_logs_out_in_one_tab_looks_in_no_other(opened: Opened) -> None:
    page = opened(CLEO, Server())
    other = AppTest.from_function(_script, default_timeout=60).run()
    assert "cleo@house" in said(other)
    next(button for button in page.button if button.label == "Log out").click().run()
    other.run()
    assert "Your login has ended" in said(other)
    assert "cleo@house" not in said(other)


def test_a_token_that_was_ended_counts_no_more_and_another_does() -> None:
    server = Server()
    logins = Logins(server, lambda: 0.0)
    logins.person(TOKEN)
    logins.end(TOKEN)
    with pytest.raises(Unauthenticated) as ended:
        logins.person(TOKEN)
    assert ended.value.code == "app.logged_out"
    assert logins.person(Secret(b"another")).name == "cleo@house"
    assert server.asked == 2


def test_a_login_that_was_ended_counts_no_more_after_a_restart_and_no_token_is_written(tmp_path: Path) -> None:
    logins = Logins(Server(until=4000.0), lambda: 0.0, tmp_path)
    logins.person(TOKEN)
    logins.end(TOKEN)
    again = Logins(Server(), lambda: 3600.0, tmp_path)
    with pytest.raises(Unauthenticated) as ended:
        again.person(TOKEN)
    assert ended.value.code == "app.logged_out"
    assert again.person(Secret(b"another")).name == "cleo@house"
    (file,) = tmp_path.iterdir()
    assert TOKEN.reveal() not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_a_login_that_was_ended_is_forgotten_once_its_token_has_expired(tmp_path: Path) -> None:
    days = 86_400.0
    logins = Logins(Server(until=3 * days), lambda: 0.0, tmp_path)
    logins.person(TOKEN)
    logins.end(TOKEN)
    with pytest.raises(Unauthenticated):
        Logins(Server(), lambda: 2.9 * days, tmp_path).person(TOKEN)
    assert Logins(Server(until=4 * days), lambda: 3.1 * days, tmp_path).person(TOKEN).name == "cleo@house"


def test_an_ended_login_of_which_the_server_said_nothing_is_kept_as_long_as_the_cookie(tmp_path: Path) -> None:
    Logins(Server(), lambda: 0.0, tmp_path).end(TOKEN)
    with pytest.raises(Unauthenticated):
        Logins(Server(), lambda: 29 * 86_400.0, tmp_path).person(TOKEN)


def test_of_more_ended_logins_than_are_kept_those_stay_that_expire_last(tmp_path: Path) -> None:
    kept = EndedLogins(tmp_path, 0.0, most=3)
    digests = [f"{number:064x}" for number in range(5)]
    for number, digest in enumerate(digests):
        kept.add(digest, 100.0 - number, 0.0)
    for found in (kept, EndedLogins(tmp_path, 0.0)):
        assert [digest in found for digest in digests] == [True, True, True, False, False]


def test_an_ended_login_that_cannot_be_written_counts_no_more_all_the_same_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = EndedLogins(tmp_path / "gone", 0.0)
    kept.add("a" * 64, 100.0, 0.0)
    assert "a" * 64 in kept
    assert "counts again after a restart" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 2, "ended": {}}', '{"format": 1, "ended": {"x": 1}}', " " * (3 << 20)]
)
def test_a_damaged_file_of_ended_logins_ends_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "ended-logins.json").write_text(text)
    with pytest.raises(BadInput) as raised:
        House(AppSettings(login="login.toml", home=str(tmp_path)))
    assert raised.value.code == "app.ended_logins"


def test_an_app_without_a_login_writes_nothing_into_a_persons_folder(tmp_path: Path) -> None:
    house = House(AppSettings(home=str(tmp_path)))
    house.logins.end(TOKEN)
    house.close()
    assert not list(tmp_path.iterdir())


def test_of_a_token_that_does_not_count_the_server_is_not_asked_at_each_run_of_each_tab() -> None:
    server, now = Server(), [0.0]
    server.answer, good = Unauthenticated("the token has expired", code="people.expired"), server.answer
    logins = Logins(server, lambda: now[0])
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            logins.person(TOKEN)
    assert server.asked == 1
    server.answer, now[0] = good, 6.0
    assert logins.person(TOKEN).name == "cleo@house"


def test_the_model_of_a_run_is_opened_as_the_person_and_not_as_the_app(tmp_path: Path) -> None:
    members = Members.create(tmp_path, services={"explainer": ()})
    settings, provider = members.folder / "hub" / "server.toml", Provider()
    settings.write_text(settings.read_text() + PEOPLE)
    (members.folder / "hub" / "keys.json").write_bytes(provider.key_set())

    async def scenario() -> None:
        async with serving(members) as edge:
            home = members.home("explainer", edge.address)
            token = provider.token(provider.claims(time.time(), groups=["admins"]))
            person = Person("cleo@house", Role.OPERATOR, token)
            for bearer, code in ((None, "role.refused"), (person.bearer, "run.unknown")):
                with pytest.raises(AimassError) as told:
                    await asyncio.to_thread(open_subject, "0" * 32, Where(home=home, bearer=bearer))
                assert told.value.code == code

    run(scenario())


# ---------------------------------------------------------------- the file and the door


def written(path: Path, **over: str | None) -> Path:
    text = login_text("http://127.0.0.1:9", "secret", "http://localhost:8501/oauth2callback")
    lines = [line for line in text.splitlines() if line.partition(" = ")[0] not in over]
    lines += [f"{name} = {value}" for name, value in over.items() if value is not None]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    assert read_login(written(tmp_path / "login.toml")).auth.expose_tokens == "id"
    secure = written(tmp_path / "login.toml", redirect_uri='"https://app.example/oauth2callback"')
    assert read_login(secure).auth.redirect_uri.startswith("https://app.example")


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"redirect_uri": '"http://app.example/oauth2callback"'}, "app.login_url"),
        ({"server_metadata_url": '"http://login.example/x"'}, "app.login_url"),
        ({"server_metadata_url": '"ftp://127.0.0.1/x"'}, "app.login_url"),
        ({"redirect_uri": '"https://app.example/"'}, "app.login_redirect"),
        ({"cookie_secret": '"short"'}, "app.login_secret"),
        ({"cookie_secret": None}, "value.invalid"),
        ({"client_secret": None}, "value.invalid"),
        ({"expose_tokens": '"refresh"'}, "value.invalid"),
        ({"expose_tokens": None}, "value.invalid"),
        ({"client_id": '""'}, "value.invalid"),
        ({"another": '"1"'}, "value.invalid"),
    ],
)
def test_half_a_file_or_an_open_link_is_refused(tmp_path: Path, over: dict[str, str | None], code: str) -> None:
    path = written(tmp_path / "login.toml", **over)
    with pytest.raises(AimassError) as refused:
        read_login(path)
    assert refused.value.code == code
    assert '"secret"' not in str(refused.value)


def test_a_file_that_others_can_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "login.toml")
    path.chmod(0o640)
    for place in (path, tmp_path / "none.toml"):
        with pytest.raises(AimassError):
            read_login(place)


def test_an_app_has_the_eyes_of_a_person_or_a_login_and_never_the_wrong_ones(tmp_path: Path) -> None:
    members = Members.create(tmp_path, services={"explainer": ()})
    analyst, service = (str(members.home(name, "127.0.0.1:1")) for name in ("cleo", "explainer"))
    partner = str(members.home("north", "127.0.0.1:1"))
    login = str(written(tmp_path / "login.toml"))

    def code(**fields: Any) -> str:
        try:
            check_door(AppSettings(**fields))
        except AimassError as error:
            return error.code
        return ""

    assert code() == code(home=analyst) == code(home=service, login=login) == ""
    assert code(home=service, login=login, host="0.0.0.0") == ""
    assert code(home=service, login=login, serving_token="token") == "app.login_serving"
    assert code(home=analyst, serving_token="token") == ""
    assert code(home=service) == code(home=partner) == "app.home_role"
    assert code(login=login) == code(login=login, home=analyst) == code(login=login, home=partner) == "app.login_home"
    assert code(home=analyst, host="0.0.0.0") == code(host="app.example") == "app.open"
    assert code(home=analyst, host="0.0.0.0", open=True) == code(host="::1") == code(host="localhost") == ""
    operator = str(members.home("olga", "127.0.0.1:1"))
    assert code(home=operator, open=True) == code(home=operator, host="0.0.0.0", open=True) == "app.open_operator"
    assert code(home=operator) == ""
    assert code(home=str(tmp_path / "nowhere")) == "home.not_enrolled"


# ---------------------------------------------------------------- where somebody was going


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4))
def test_a_browser_is_the_same_whatever_mask_its_cookie_has(token: bytes, first: bytes, second: bytes) -> None:
    def cookie(mask: bytes) -> str:
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(token))
        return f"2|{mask.hex()}|{masked.hex()}|1795724284"

    assert browser_of(cookie(first)) == browser_of(cookie(second)) != ""
    assert token.hex() not in browser_of(cookie(first))


@given(st.text(max_size=80).filter(lambda text: not text.startswith("2|")))
def test_a_cookie_of_anything_else_is_nobodys(text: str) -> None:
    assert browser_of(text) == ""


@pytest.mark.parametrize(
    "text", ["", "1|00000000|" + "00" * 16 + "|1", "2|00|" + "00" * 16 + "|1", "2|zz|zz|1", "2|||"]
)
def test_a_cookie_of_another_form_is_nobodys(text: str) -> None:
    assert browser_of(text) == ""


def test_a_place_is_told_once_soon_and_to_its_own_browser() -> None:
    now = [0.0]
    wanted, place = Wanted(lambda: now[0]), Place("runs", {"run": ["a"]})
    wanted.keep("mine", place)
    assert wanted.take("yours") is None
    assert wanted.take("mine") == place
    assert wanted.take("mine") is None
    wanted.keep("mine", place)
    now[0] = 901.0
    assert wanted.take("mine") is None
    wanted.keep("", place)
    assert wanted.take("") is None
    for number in range(3000):
        wanted.keep(f"browser {number}", place)
    assert wanted.take("browser 0") is None
    assert wanted.take("browser 2999") == place


def test_streamlits_own_token_stands_for_a_browser() -> None:
    from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string

    token = os.urandom(16)
    cookies = [generate_xsrf_token_string(token, 1) for _ in range(5)]
    assert len(set(cookies)) == 5
    assert len({browser_of(cookie) for cookie in cookies}) == 1
    assert browser_of(cookies[0])


@pytest.mark.parametrize("query", [{"if": "x" * 9_000}, {"if": [""] * 9_000}, {"x" * 9_000: "a"}])
def test_a_place_that_takes_much_room_is_not_kept_for_who_is_not_logged_in(query: dict[str, str | list[str]]) -> None:
    wanted = Wanted(lambda: 0.0)
    wanted.keep("browser", Place("runs", query))
    assert wanted.take("browser") is None
