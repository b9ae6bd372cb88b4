"""Before somebody has logged in no file is taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from aimass.explain.app.settings import AppSettings
from aimass.explain.app.upload_door import UploadDoor
from aimass.proto.secret import Secret

SECRET = "s" * 40
FILE = "/explain/_stcore/upload_file/session/file"


def status(path: str, cookie: str = "") -> int:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": path, "headers": [(b"cookie", cookie.encode())]}
    asyncio.run(UploadDoor(app, Secret(SECRET.encode()))(scope, receive, send))
    return int(sent[0]["status"])


def signed(secret: str, name: str = USER_COOKIE_NAME) -> str:
    return f"{USER_COOKIE_NAME}={create_signed_value(secret, name, 'who').decode()}"


def test_a_file_of_who_has_logged_in_is_taken() -> None:
    assert status(FILE, signed(SECRET)) == 204


# Named, since a signed cookie holds the second at which it was signed.
@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("", id="none"),
        pytest.param(f"{USER_COOKIE_NAME}=", id="empty"),
        pytest.param(f"{USER_COOKIE_NAME}=who", id="not signed"),
        pytest.param(signed("t" * 40), id="another's secret"),
        pytest.param(signed(SECRET, "_other"), id="another cookie's name"),
    ],
)
def test_a_file_without_a_cookie_that_the_app_signed_is_refused(cookie: str) -> None:
    assert status(FILE, cookie) == 403


def test_all_else_is_left_to_the_app() -> None:
    assert status("/_stcore/health") == 204


def test_what_browsers_say_before_a_login_is_bounded() -> None:
    from aimass.explain.app.crowd import Bounds
    from aimass.explain.app.serving_app import _uvicorn

    assert _uvicorn(None, AppSettings(upload_mib=1024), Bounds()).ws_max_size == 1 << 20
