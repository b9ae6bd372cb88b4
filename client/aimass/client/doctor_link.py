"""The doctor on the way to the server: proxy, name, port, handshake, and what the server says of itself and of us."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from aimass.proto.checks import Finding, clock_skew, fault, good, handshake_fault, of_error, warning
from aimass.proto.errors import AimassError
from aimass.proto.home import HomeSettings, tls_identity
from aimass.proto.probes import Word, handshake, proxy_for, reach, resolve, servers_word

__all__ = ["LinkChecks"]


class LinkChecks:
    """Each goes on where the one before got through. Who is not enrolled yet needs the port of enrolment."""

    def __init__(
        self,
        folder: Path,
        settings: Callable[[], HomeSettings | None],
        root_pem: Callable[[], bytes],
        enrolled: Callable[[], bool],
        keyed: Callable[[], bool],
    ) -> None:
        self._folder, self._settings, self._root_pem, self._enrolled = folder, settings, root_pem, enrolled
        self._keyed = keyed
        self._proxied = self._found = self._reached = self._greeted = False

    @property
    def _target(self) -> tuple[str, int, str] | None:
        """Host, port and the setting that names them."""
        from aimass.proto.wire import split_address  # noqa: PLC0415  (loaded where the network is looked at)

        settings = self._settings()
        if settings is None:
            return None
        name = "server" if self._enrolled() else "enrol"
        host, port = split_address(getattr(settings, name))
        return host, port, name

    def proxy(self) -> Iterator[Finding]:
        """Whether links go through one."""
        if self._target is None:
            return
        host, _, _ = self._target
        proxy = proxy_for(host)
        if proxy:
            self._proxied = True
            what = f"links to {host} go through {proxy}; name, port and handshake are not looked at directly"
            yield warning("proxy", "proxy.set", what, f"Where that is not meant: export no_proxy={host}")

    def name(self) -> Iterator[Finding]:
        """Whether the server's name can be resolved."""
        if self._target is None or self._proxied:
            return
        host, port, setting = self._target
        try:
            addresses = resolve(host, port)
        except OSError as error:
            what = f"{host} cannot be resolved: {error.strerror or error}"
            fix = (
                f"Correct `{setting}` in {self._folder}/client.toml, or ask the network's keeper (getent hosts {host})."
            )
            yield fault("name", "name.unknown", what, fix)
            return
        self._found = True
        yield good("name", f"{host} is {', '.join(addresses[:4])}")

    def port(self) -> Iterator[Finding]:
        """Whether anything listens there."""
        if self._target is None or not self._found:
            return
        host, port, setting = self._target
        try:
            reach(host, port)
        except TimeoutError:
            fix = f"A firewall drops it: have connections out to {host}:{port} allowed."
            yield fault("port", "port.silent", f"nothing answers at {host}:{port}", fix)
        except OSError as error:
            what = f"{host}:{port} takes no connection: {error.strerror or error}"
            fix = (
                f"Ask the operator whether the server runs (aimass doctor there), and check `{setting}` in client.toml."
            )
            yield fault("port", "port.refused", what, fix)
        else:
            self._reached = True
            yield good("port", f"{host}:{port} takes connections")

    def tls(self) -> Iterator[Finding]:
        """Whether who answers is a server of our root, by this name, now."""
        if self._target is None or not self._reached or not self._root_pem():
            return
        host, port, _ = self._target
        try:
            handshake(host, port, self._root_pem())
        except ssl.SSLError as error:
            yield handshake_fault(error, host)
        except OSError as error:
            what = f"the connection ended in the handshake: {error.strerror or error}"
            fix = "Something between takes connections for the server: ask the network's keeper."
            yield fault("tls", "tls.cut", what, fix)
        else:
            self._greeted = True
            yield good("tls", "the server's certificate is of our root and has this name")

    def server(self) -> Iterator[Finding]:
        """What the server says: whether it serves, whether it lets us in, and what its clock shows."""
        settings = self._settings()
        if settings is None or not (self._enrolled() and self._keyed() and (self._greeted or self._proxied)):
            return
        word = servers_word(settings.server, tls_identity(self._folder))
        yield _said(word)
        if word.skew_s is not None:
            yield clock_skew(word.skew_s)


def _said(word: Word) -> Finding:
    if word.error is not None:
        return of_error("server", word.error, _cure(word.error))
    if not word.serving:
        what = "the server is up and takes no new work"
        return warning(
            "server", "server.not_serving", what, "The operator sees why: aimass doctor there, or its /readyz."
        )
    return good("server", "it serves, and lets this certificate in")


def _cure(error: AimassError) -> str:
    match error.code:
        case "trust.revoked" | "trust.not_in_roster":
            return "Ask the root holder; a new membership needs a new token."
        case "trust.expired":
            return "Ask the root holder to renew: aimass pki renew, then aimass server admit."
        case "wire.other_service" | "role.refused":
            return "The server is of another release, or this is the port of enrolment: check `server` in client.toml."
    return ""
