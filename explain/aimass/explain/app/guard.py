"""Who may speak to the app from where: hosts by name, web pages by origin, and what a browser may load beside it.

A page of another site that a viewer has open must not reach an app on their own machine: by its name (DNS rebinding)
or by a WebSocket, which no same-origin rule stops. And no part of the app is fetched from anybody else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Guard", "answer_text", "hosts_of", "may"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
# Vega compiles its expressions and Streamlit sets styles in place; nothing is loaded from, or sent to, another host.
_POLICY: Final = (
    b"default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' 'unsafe-inline' blob:; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' blob:; "
    b"connect-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'self' blob:; "
    b"frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", _POLICY),
)


def hosts_of(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Names under which an app that listens on `host` is asked for; those of this machine where it is a loopback."""
    bare = host.strip("[]")
    try:
        loopback = ipaddress.ip_address(bare).is_loopback
    except ValueError:
        loopback = bare == "localhost"
    own = f"[{bare}]" if ":" in bare else bare
    return frozenset(name.lower() for name in (own, *allowed, *(_LOOPBACK if loopback else ())))


def may(hosts: frozenset[str], host: str, origin: str | None) -> bool:
    """Whether a request to `host` that a page of `origin` sends is answered; None where no page sent it."""
    try:
        if _name(f"//{host}") not in hosts:
            return False
        return origin is None or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no address at all: `[`
        return False


def _name(url: str) -> str:
    found = urlsplit(url).hostname or ""
    return f"[{found}]" if ":" in found else found.lower()


class Guard:
    """ASGI: refuses what `may` does not allow, and says to browsers what a page of the app may load.

    Where people come by `https` their cookies, which hold who they are, go back by nothing else.
    """

    def __init__(self, app: Asgi, hosts: frozenset[str], *, https: bool = False) -> None:
        self._app, self._hosts, self._https = app, hosts, https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or open one socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        page = headers.get("origin") if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD") else None
        if not may(self._hosts, headers.get("host", ""), page):
            await _refuse(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*self._kept(message.get("headers", ())), *_HEADERS]
            await send(message)

        await self._app(scope, receive, sending)

    def _kept(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """An answer's own headers; `Secure` for each cookie that lacks it, where the app is come to by https."""
        for name, value in headers:
            bare = self._https and name.lower() == b"set-cookie" and b"; secure" not in value.lower()
            yield name, value + b"; Secure" if bare else value
        if self._https:
            yield b"strict-transport-security", b"max-age=31536000"


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    body = b"This app is not asked for under this name. Whoever started it can allow the name: allowed_hosts.\n"
    await answer_text(send, 421, body)


async def answer_text(send: Send, status: int, body: bytes) -> None:
    """A whole answer of plain text."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
