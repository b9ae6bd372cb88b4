"""An app with a login as a process: a training server that takes its people, and an identity provider, on the loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.demos.house import free_port

from tests.support.edge_federation import Edge, Members, serving
from tests.support.identity import PEOPLE, RULES
from tests.support.oidc import CLIENT, IdentityServer, identity_server

__all__ = ["LoginHouse", "login_house", "write_login"]


@dataclasses.dataclass(frozen=True, slots=True)
class LoginHouse:
    """`app` is the address that people open; `said` is where the app's process writes."""

    app: str
    identity: IdentityServer
    members: Members
    said: Path


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
        with _server(members) as hub:
            home = members.home("explainer", hub)
            login = write_login(folder / "login.toml", identity, f"{address}/oauth2callback")
            said = folder / "app.log"
            with _app(home, login, port, said):
                yield LoginHouse(address, identity, members, said)


def write_login(path: Path, identity: IdentityServer, redirect_uri: str, token: str = "id") -> Path:
    """The file that says where people log in, which its owner alone can read."""
    path.touch(0o600)
    path.write_text(f"""[auth]
redirect_uri = "{redirect_uri}"
cookie_secret = "{secrets.token_urlsafe(32)}"
client_id = "{CLIENT}"
client_secret = "{identity.secret}"
server_metadata_url = "{identity.url}/.well-known/openid-configuration"
expose_tokens = "{token}"
""")
    return path


@contextmanager
def _server(members: Members) -> Iterator[str]:
    """The training server in a thread of its own; its address."""
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
    try:
        assert ready.wait(60), "the training server did not start"
        yield started[0].address
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@contextmanager
def _app(home: Path, login: Path, port: int, said: Path) -> Iterator[None]:
    command = [
        sys.executable, "-m", "aimass.proto.commands", "explain", "app", "--as", str(home), "--login", str(login),
        "--listen", f"localhost:{port}",
    ]  # fmt: skip
    with said.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=said.parent) as process:
        try:
            _until_healthy(port, process, said)
            yield
        finally:
            process.terminate()
            process.wait(20)


def _until_healthy(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    """The process listens when it has loaded; there is nothing to be told by before."""
    waiting = threading.Event()
    for _ in range(600):
        assert process.poll() is None, said.read_text()
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            waiting.wait(0.1)
    raise AssertionError(f"the app did not start: {said.read_text()}")
