"""Streamlit as this app wants it: quiet, without telemetry, in the colours of the charts, guarded, ended cleanly."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import streamlit as st
import uvicorn
from starlette.middleware import Middleware
from streamlit import config

from aimass.explain.app.crowd import BoundedHttp, Bounds, Sweep, behind_proxy
from aimass.explain.app.door import check_door
from aimass.explain.app.ending import Ending
from aimass.explain.app.entrance import streamlit_identity
from aimass.explain.app.guard import Guard, hosts_of
from aimass.explain.app.house import House, enter
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.settling import settled_beside
from aimass.explain.app.upload_bound import StreamlitFiles, UploadBound
from aimass.explain.app.upload_door import UploadDoor
from aimass.explain.charts.theme import DARK, LIGHT
from aimass.proto.errors import BadInput, Conflict, Unavailable
from aimass.proto.registry.places import meant_url
from aimass.proto.secret import Secret

__all__ = ["address_of", "bound", "options_of", "serve"]

_SCRIPT: Final = Path(__file__).with_name("main.py")
_WILD: Final = ("0.0.0.0", "::", "")  # noqa: S104  (what is refused without names)
_GRACE_S: Final = 3
_MOST_SAID_BYTES: Final = 1 << 20
"""What a browser says of all widgets of a page at once; files come by another way."""
_TICKS: Final = 10
"""Uvicorn's server looks around ten times a second."""
_SIGNALLED: Final = 128
"""Exit codes of processes that a signal ended begin here."""
_LOGINS: Final = "streamlit.web.server.starlette.starlette_auth_routes"
"""What it says of a login that failed, the operator has to hear: a browser is told nothing."""
log = logging.getLogger("aimass.explain.app")


def serve(settings: AppSettings, ready: Callable[[str], None]) -> None:
    """Show the app until a signal ends it; `ready` hears its address once it answers."""
    _check(settings)
    login = check_door(settings)
    listening = bound(settings)
    for name, value in options_of(settings).items():
        config.set_option(name, value)
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    logins = logging.getLogger(_LOGINS)
    logins.setLevel(logging.WARNING)
    logins.addFilter(lambda record: "Missing provider" not in str(record.msg))  # said after each logout
    https = bool(settings.certificate) or (login is not None and login.auth.redirect_uri.startswith("https://"))
    guards = [Middleware(Guard, hosts=hosts_of(settings.host, settings.allowed_hosts), https=https)]
    home = House(settings) if login is None else House(settings, partial(streamlit_identity, login.auth.expose_tokens))
    if login is not None:
        secret, kind = Secret(login.auth.cookie_secret.encode()), login.auth.expose_tokens
        guards.append(Middleware(UploadDoor, cookie_secret=secret, kind=kind, person=home.logins.person))
    guards.append(Middleware(UploadBound, largest_bytes=settings.upload_mib << 20, held=StreamlitFiles()))
    app = st.App(
        _SCRIPT,
        middleware=guards,
        on_script_error=_told,
    )
    enter(home)
    try:
        with listening:
            address = address_of(settings, listening.getsockname()[1])

            def answers() -> None:
                ready(address)
                settled_beside(computing=bool(settings.home or meant_url(settings.registry)))

            bounds = Bounds(by_address=not behind_proxy(settings, login.auth.redirect_uri if login else ""))
            _Server(app, settings, answers, bounds).run(sockets=[listening])
    finally:
        enter(None)


class _Server(uvicorn.Server):
    """Says when it answers, ends in time, and holds no link that keeps it waiting."""

    def __init__(self, app: Any, settings: AppSettings, ready: Callable[[], None], bounds: Bounds) -> None:
        super().__init__(_uvicorn(app, settings, bounds))
        self._ready, self._ending, self._sweep = ready, Ending(), Sweep(bounds)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending.begin(_SIGNALLED + sig)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS == 0:
            self._sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def _uvicorn(app: Any, settings: AppSettings, bounds: Bounds) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast("Any", partial(BoundedHttp, bounds)),  # called as the class is
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=_MOST_SAID_BYTES,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.certificate or None,
        ssl_keyfile=settings.key or None,
    )


def _check(settings: AppSettings) -> None:
    """Raise `BadInput` for what would be open to everybody or to nobody."""
    if settings.host in _WILD and not settings.allowed_hosts:
        raise BadInput(
            "an app for all addresses has to know its own names",
            code="app.hosts",
            value=settings.host,
            cure='Write allowed_hosts = ["explain.example.org"] into --settings: the names that people type.',
        )
    if bool(settings.certificate) != bool(settings.key):
        raise BadInput("TLS needs a certificate and its key", code="app.tls", cure="Give both, or neither.")


def bound(settings: AppSettings) -> socket.socket:
    """The socket that listens; raises `Conflict` where another program has the port."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, settings.port))
    except OSError as error:
        found.close()
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                "another program listens there", code="app.port", value=where, cure="Give another: --listen HOST:PORT."
            ) from error
        raise Unavailable(
            f"this address cannot be listened on: {error.strerror}", code="app.listen", value=where
        ) from error
    found.listen(128)
    return found


def address_of(settings: AppSettings, port: int) -> str:
    """What a person types into a browser."""
    scheme = "https" if settings.certificate else "http"
    path = f"/{settings.base_path.strip('/')}" if settings.base_path else ""
    host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{port}{path}"


def _told(error: Exception) -> bool:
    """A fault that no page foresaw: its kind is logged, never its text, in which rows may stand."""
    log.error("a page failed: %s", type(error).__name__, exc_info=None)
    st.error(f"This page failed with {type(error).__name__}. It is a fault of AIMass; please report it.")
    return True


def options_of(settings: AppSettings) -> dict[str, Any]:
    """Streamlit's options, by their names."""
    found: dict[str, Any] = {
        "browser.gatherUsageStats": False,
        "browser.serverAddress": settings.host,
        "browser.serverPort": settings.port,
        "client.disableDataExport": True,  # its CSV holds formulas as they are; ours does not
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "viewer",
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,  # a whole collection after each run holds all viewers up: see `settle`
        "server.address": settings.host,
        "server.port": settings.port,
        "server.baseUrlPath": settings.base_path.strip("/"),
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": settings.upload_mib,
        "server.showEmailPrompt": False,
        "server.allowedHosts": sorted(hosts_of(settings.host, settings.allowed_hosts)),
        "theme.paddingTop": "1rem",
        "theme.headingFontSizes": ["1.9rem", "1.35rem", "1.1rem"],
    }
    # A file of secrets that lies about where the app was started says nothing to it.
    found["secrets.files"] = [settings.login] if settings.login else []
    for section, theme, primary, raised, edge in (
        ("light", LIGHT, "#0062A0", "#f2f4f7", "#c9ced6"),
        ("dark", DARK, "#56B4E9", "#1f242c", "#4a525e"),
    ):
        found |= {
            f"theme.{section}.primaryColor": primary,
            f"theme.{section}.backgroundColor": theme.paper,
            f"theme.{section}.textColor": theme.ink,
            f"theme.{section}.secondaryBackgroundColor": raised,
            f"theme.{section}.borderColor": edge,
            f"theme.{section}.sidebar.backgroundColor": raised,
            f"theme.{section}.sidebar.secondaryBackgroundColor": theme.paper,
            f"theme.{section}.linkColor": primary,
            f"theme.{section}.chartCategoricalColors": list(theme.series),
        }
    return found
