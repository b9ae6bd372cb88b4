"""Where people log in, files are taken from those alone who have: Streamlit takes one from any page that is open.

Before the login there is a page too, and so a session, for which a file of any name would be held in memory. A cookie
that the app signed is not enough: it lives on for a month, also where its login was ended and its token has expired.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection
from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import TOKENS_COOKIE_NAME

from aimass.explain.app.guard import Asgi, Receive, Scope, Send, answer_text
from aimass.explain.app.login_file import TokenKind
from aimass.proto.errors import AimassError, Unavailable
from aimass.proto.secret import Secret

__all__ = ["UPLOADS", "UploadDoor"]

UPLOADS: Final = "/_stcore/upload_file/"
"""Stands in the address of each file, before its session and its own name."""
_SAYS: Final = b"Files are taken from people who have logged in.\n"
_LATER: Final = b"It cannot be asked now whether your login counts.\n"


class UploadDoor:
    """ASGI: refuses a file without a token in a cookie that the app itself signed, and one whose token counts no more.

    `person` says whose a token is, or raises; it may ask the training server, and is asked in a thread beside.
    """

    def __init__(self, app: Asgi, cookie_secret: Secret, kind: TokenKind, person: Callable[[Secret], object]) -> None:
        self._app, self._secret, self._kind, self._person = app, cookie_secret, kind, person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or open one socket."""
        if scope["type"] == "http" and UPLOADS in scope["path"] and (no := await self._refusal(scope)) is not None:
            await answer_text(send, *no)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> tuple[int, bytes] | None:
        """Status and words of what is said to who may not come; None to who may."""
        token = self._token(HTTPConnection(scope).cookies)
        if token is None:
            return 403, _SAYS
        try:
            await asyncio.to_thread(self._person, token)
        except Unavailable:
            return 503, _LATER
        except AimassError:
            return 403, _SAYS
        return None

    def _token(self, cookies: Mapping[str, str]) -> Secret | None:
        """The token by which the app's pages know who looks."""
        said = get_cookie_with_chunks(lambda name: self._signed(name, cookies.get(name, "")), TOKENS_COOKIE_NAME)
        tokens: Any = None if said is None else json.loads(said)  # the app's own, since it is signed
        token = tokens.get(f"{self._kind}_token") if isinstance(tokens, dict) else None
        return Secret(token.encode("latin-1", "replace")) if isinstance(token, str) and token else None

    def _signed(self, name: str, cookie: str) -> bytes | None:
        """What the app signed under this name."""
        return decode_signed_value(self._secret.reveal().decode(), name, cookie.encode("latin-1", "replace"))
