"""Where people log in, files are taken from those alone who have: Streamlit takes one from any page that is open.

Before the login there is a page too, and so a session, for which a file of any name would be held in memory.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from aimass.explain.app.guard import Asgi, Receive, Scope, Send
from aimass.proto.secret import Secret

__all__ = ["UploadDoor"]

_PATH: Final = "/_stcore/upload_file/"
_SAYS: Final = b"Files are taken from people who have logged in.\n"


class UploadDoor:
    """ASGI: refuses a file without a cookie that the app itself signed for somebody."""

    def __init__(self, app: Asgi, cookie_secret: Secret) -> None:
        self._app, self._secret = app, cookie_secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or open one socket."""
        if scope["type"] != "http" or _PATH not in scope["path"] or self._signed(scope):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": _SAYS})

    def _signed(self, scope: Scope) -> bool:
        """Whether there is one; a long cookie's further parts are signed each, and the first always stands here."""
        cookie = HTTPConnection(scope).cookies.get(USER_COOKIE_NAME, "").encode("latin-1", "replace")
        return decode_signed_value(self._secret.reveal().decode(), USER_COOKIE_NAME, cookie) is not None
