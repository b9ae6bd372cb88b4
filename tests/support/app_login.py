"""An app with a login as a process: a training server that takes its people, and an identity provider, on the loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.demos.house import free_port

from tests.support.edge_federation import Edge, Members, serving
from tests.support.identity import PEOPLE, RULES
from tests.support.oidc import CLIENT, IdentityServer, identity_server

__all__ = ["LoginHouse", "login_house", "login_text"]


@dataclasses.dataclass(frozen=True, slots=True)
class LoginHouse:
    """`app` is the address that people open; `said` is where the app's process writes."""

    app: str
    identity: IdentityServer
    members: Members
    said: Path
    stop_server: Callable[[], None]


@contextmanager
def login_house(folder: Path) -> Iterator[LoginHouse]:
    """Everything, while the block runs."""
    port = free_port()
    address = f"http://localhost:{port}"
    members = Members.create(folder, services={"explainer": ()})
    with identity_server(f"{address}/oauth2callback") as identity:
        settings = members.folder / "hub" / "server.toml"
        rules = PEOPLE.replace(RULES.issuer, identity.url).replace('"keys.json"', f'"{identity.url}/keys"')
        settings.write_text(settings.read_text() + rules)
        with _server(members) as (hub, stop):
            home = members.home("explainer", hub)
            login = folder / "login.toml"
            login.touch(0o600)
            login.write_text(login_text(identity.url, identity.secret, f"{address}/oauth2callback"))
            said = folder / "app.log"
            with _app(home, login, port, said):
                yield LoginHouse(address, identity, members, said, stop)


def login_text(issuer: str, secret: str, redirect_uri: str) -> str:
    """The file that says where people log in."""
    return f"""[auth]
redirect_uri = "{redirect_uri}"
cookie_secret = "{secrets.token_urlsafe(32)}"
client_id = "{CLIENT}"
client_secret = "{secret}"
server_metadata_url = "{issuer}/.well-known/openid-configuration"
expose_tokens = "id"
"""


@contextmanager
def _server(members: Members) -> Iterator[tuple[str, Callable[[], None]]]:
    """The training server in a thread of its own; its address, and what ends it."""
    started: list[Edge] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        async with serving(members) as edge:
            started.append(edge)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="hub")
    thread.start()

    def stop() -> None:
        if thread.is_alive():
            loop.call_soon_threadsafe(over.set)
        thread.join()

    try:
        assert ready.wait(60), "the training server did not start"
        yield started[0].address, stop
    finally:
        stop()
        loop.close()


@contextmanager
def _app(home: Path, login: Path, port: int, said: Path) -> Iterator[None]:
    command = [
        sys.executable, "-m", "aimass.proto.commands", "explain", "app", "--as", str(home), "--login", str(login),
        "--listen", f"localhost:{port}",
    ]  # fmt: skip
    with (
        said.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=said.parent) as process,
    ):
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready "), said.read_text()
            yield
        finally:
            process.terminate()
            process.wait(20)
