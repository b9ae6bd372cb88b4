"""Before somebody has logged in no file is taken."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.auth_util import set_cookie_with_chunks
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import TOKENS_COOKIE_NAME, USER_COOKIE_NAME

from aimass.explain.app.login import Logins
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.upload_door import UploadDoor
from aimass.proto.errors import Unauthenticated, Unavailable
from aimass.proto.secret import Secret
from aimass.proto.views import PersonView

SECRET = "s" * 40
LONG = "".join(hashlib.sha256(bytes([place])).hexdigest() for place in range(140))
"""A token that does not shrink when it is packed."""
FILE = "/explain/_stcore/upload_file/session/file"


def counts(token: Secret) -> None:
    if token.reveal() != b"who":
        raise Unauthenticated("this login was ended", code="app.logged_out")


def status(path: str, cookie: str = "", person: Callable[[Secret], object] = counts) -> int:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": path, "headers": [(b"cookie", cookie.encode())]}
    asyncio.run(UploadDoor(app, Secret(SECRET.encode()), "id", person)(scope, receive, send))
    return int(sent[0]["status"])


def signed(secret: str, name: str = TOKENS_COOKIE_NAME, said: str = '{"id_token": "who"}') -> str:
    return f"{TOKENS_COOKIE_NAME}={create_signed_value(secret, name, said).decode()}"


def in_parts(token: str) -> str:
    """As Streamlit sets a cookie that is longer than a browser takes at once."""
    found: dict[str, str] = {}

    def sign(name: str, value: str) -> bytes:
        return create_signed_value(SECRET, name, value)

    def give(name: str, value: str) -> None:
        found[name] = sign(name, value).decode()

    set_cookie_with_chunks(give, sign, TOKENS_COOKIE_NAME, {"id_token": token}, cookie_attr_size=99)
    assert len(found) > 1
    return "; ".join(f"{name}={value}" for name, value in found.items())


def test_a_file_of_who_has_logged_in_is_taken() -> None:
    assert status(FILE, signed(SECRET)) == 204


def test_a_token_that_fills_several_cookies_is_read_whole() -> None:
    asked: list[bytes] = []
    assert status(FILE, in_parts(LONG), lambda token: asked.append(token.reveal())) == 204
    assert asked == [LONG.encode()]


# Named, since a signed cookie holds the second at which it was signed.
@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("", id="none"),
        pytest.param(f"{TOKENS_COOKIE_NAME}=", id="empty"),
        pytest.param(f"{TOKENS_COOKIE_NAME}=who", id="not signed"),
        pytest.param(signed("t" * 40), id="another's secret"),
        pytest.param(signed(SECRET, USER_COOKIE_NAME), id="another cookie's name"),
        pytest.param(signed(SECRET, said='{"access_token": "who"}'), id="a token of another kind"),
        pytest.param(signed(SECRET, said='{"id_token": ""}'), id="an empty token"),
        pytest.param(signed(SECRET, said="[]"), id="no tokens"),
        pytest.param(in_parts(LONG).rpartition(";")[0], id="not all of its parts"),
    ],
)
def test_a_file_without_a_token_that_the_app_signed_is_refused_and_nobody_asked(cookie: str) -> None:
    asked: list[Secret] = []
    assert status(FILE, cookie, asked.append) == 403
    assert not asked


def test_a_file_of_who_has_logged_out_is_refused_though_the_cookie_lives_on() -> None:
    view = PersonView(name="cleo@house", role="analyst", through="app", until=100.0)
    logins = Logins(lambda _: view, lambda: 0.0)
    assert status(FILE, signed(SECRET), logins.person) == 204
    logins.end(Secret(b"who"))
    assert status(FILE, signed(SECRET), logins.person) == 403


def test_a_file_is_refused_once_the_token_has_expired() -> None:
    assert status(FILE, signed(SECRET, said='{"id_token": "expired"}')) == 403


def test_while_nobody_can_say_whose_a_token_is_no_file_is_taken() -> None:
    def away(_: Secret) -> None:
        raise Unavailable("away")

    assert status(FILE, signed(SECRET), away) == 503


def test_all_else_is_left_to_the_app() -> None:
    assert status("/_stcore/health") == 204


def test_what_browsers_say_before_a_login_is_bounded() -> None:
    from aimass.explain.app.crowd import Bounds
    from aimass.explain.app.serving_app import _uvicorn

    assert _uvicorn(None, AppSettings(upload_mib=1024), Bounds()).ws_max_size == 1 << 20
