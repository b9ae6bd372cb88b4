"""A small identity provider on the loopback, whole enough that people log in at it with a browser: discovery, a page
that asks for name and password, the authorization code flow with PKCE, keys, and an end to the session.

OpenID Connect Core 1.0 and Discovery 1.0, RFC 6749, RFC 7636 (S256 alone), RFC 7517, RP-Initiated Logout 1.0. What is
wrong in a request is refused as the specifications say. `python -m tests.support.oidc` runs one until Ctrl-C.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import html
import json
import secrets
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc.jwk import Key

from tests.support.identity import Provider, made

__all__ = ["CLIENT", "PASSWORD", "PEOPLE_HERE", "IdentityServer", "identity_server"]

CLIENT: Final = "aimass-app"
PASSWORD: Final = "correct horse"
PEOPLE_HERE: Final[Mapping[str, tuple[str, ...]]] = {
    "cleo": ("doctors",),
    "anna": ("statisticians",),
    "olga": ("admins",),
    "nora": ("nurses",),
}
"""Who can log in, all with one password, and the groups that stand in their tokens."""
_CODE_S: Final = 60.0
_MOST_BODY: Final = 64 << 10


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What an application asked for somebody, from the login page to the exchange of the code."""

    redirect_uri: str
    nonce: str
    challenge: str
    person: str = ""
    until: float = 0.0


class Refusal(Exception):
    """An answer of the token endpoint (RFC 6749, section 5.2), or words for the person where nothing can be trusted."""

    def __init__(self, error: str, what: str = "") -> None:
        super().__init__(what or error)
        self.error = error


class IdentityServer:
    """`life_s` is how long the tokens live that it makes from now on, and `over` what stands in them instead."""

    def __init__(
        self, redirect_uris: tuple[str, ...], now: Callable[[], float] = time.time, tls: ssl.SSLContext | None = None
    ) -> None:
        self.redirect_uris, self._now = redirect_uris, now
        self.secret = secrets.token_urlsafe(24)
        self.life_s = 3600.0
        self.over: dict[str, Any] = {}
        self.keys_asked = 0
        self._codes: dict[str, _Asked] = {}
        self._lock = threading.Lock()
        self._http = _Http(self)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._http.server_port}"
        self.provider = Provider(kid="2026-11", key=made("EC"), issuer=self.url, audience=CLIENT)

    def run(self) -> None:
        """Serve until `stop`."""
        self._http.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """End serving; the address is gone."""
        self._http.shutdown()
        self._http.server_close()

    def rotate(self, kid: str, key: Key) -> None:
        """Sign with another key, and publish that alone."""
        self.provider.kid, self.provider.key = kid, key

    # ---------------------------------------------------------------- documents

    def discovery(self) -> dict[str, Any]:
        """OpenID Connect Discovery 1.0, section 3."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid", "profile", "email"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    def tokens(self, person: str, nonce: str = "") -> dict[str, Any]:
        """What the exchange of a code gives: an ID token for the application, and an access token (RFC 9068)."""
        now = self._now()
        claims = self.provider.claims(
            now, sub=person, groups=list(PEOPLE_HERE[person]), exp=now + self.life_s, name=person.title(),
            nonce=nonce or None, auth_time=now,
        ) | self.over  # fmt: skip
        access = {name: claims[name] for name in ("iss", "aud", "sub", "groups", "iat", "exp")} | {"azp": CLIENT}
        return {
            "token_type": "Bearer",
            "expires_in": int(self.life_s),
            "id_token": self.provider.token(claims).reveal().decode(),
            "access_token": self.provider.token(access, typ="at+jwt").reveal().decode(),
        }

    # ---------------------------------------------------------------- the flow

    def asked(self, query: Mapping[str, str]) -> _Asked:
        """What an application asks; raises `Refusal` for what is to be told to the person and sent nowhere."""
        if query.get("client_id") != CLIENT or query.get("redirect_uri") not in self.redirect_uris:
            raise Refusal("invalid_request", "this application is not known here, or wants the answer elsewhere")
        if query.get("response_type") != "code" or "openid" not in query.get("scope", "").split():
            raise Refusal("invalid_request", "the authorization code flow of OpenID Connect alone is served")
        if query.get("code_challenge_method") != "S256" or len(query.get("code_challenge", "")) != 43:
            raise Refusal("invalid_request", "PKCE with S256 is needed")
        return _Asked(query["redirect_uri"], query.get("nonce", ""), query["code_challenge"])

    def code(self, asked: _Asked, person: str, password: str) -> str:
        """A code for somebody who knows the password; raises `Refusal`."""
        if person not in PEOPLE_HERE or not hmac.compare_digest(password, PASSWORD):
            raise Refusal("access_denied", "wrong name or password")
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes[code] = dataclasses.replace(asked, person=person, until=self._now() + _CODE_S)
        return code

    def exchanged(self, form: Mapping[str, str], client: tuple[str, str]) -> dict[str, Any]:
        """Tokens for a code, which counts once; raises `Refusal`."""
        if client[0] != CLIENT or not hmac.compare_digest(client[1], self.secret):
            raise Refusal("invalid_client")
        if form.get("grant_type") != "authorization_code":
            raise Refusal("unsupported_grant_type")
        with self._lock:
            asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked.until < self._now() or asked.redirect_uri != form.get("redirect_uri"):
            raise Refusal("invalid_grant")
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(hashed).rstrip(b"=").decode() != asked.challenge:
            raise Refusal("invalid_grant")
        return self.tokens(asked.person, asked.nonce)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, identity: IdentityServer) -> None:
        self.identity = identity
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    @property
    def here(self) -> IdentityServer:
        """Whose requests these are."""
        assert isinstance(self.server, _Http)
        return self.server.identity

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        path, query = self._asked()
        if path == "/.well-known/openid-configuration":
            self._json(200, self.here.discovery())
        elif path == "/keys":
            self.here.keys_asked += 1
            self._send(200, "application/json", self.here.provider.key_set())
        elif path == "/authorize":
            self._page(query)
        elif path == "/logout" and query.get("post_logout_redirect_uri") in self.here.redirect_uris:
            self._to(query["post_logout_redirect_uri"])
        else:
            self._send(404, "text/plain", b"nothing here")

    def do_POST(self) -> None:
        path, query = self._asked()
        form = dict(parse_qsl(self.rfile.read(min(int(self.headers["Content-Length"] or 0), _MOST_BODY)).decode()))
        if path == "/authorize":
            self._login(query, form)
        elif path == "/token":
            try:
                self._json(200, self.here.exchanged(form, self._client(form)))
            except Refusal as refusal:
                self._json(401 if refusal.error == "invalid_client" else 400, {"error": refusal.error})
        else:
            self._send(404, "text/plain", b"nothing here")

    def _login(self, query: Mapping[str, str], form: Mapping[str, str]) -> None:
        try:
            asked = self.here.asked(query)
            code = self.here.code(asked, form.get("name", ""), form.get("password", ""))
        except Refusal as refusal:
            self._page(query, str(refusal))
        else:
            state = {"state": query["state"]} if "state" in query else {}
            self._to(f"{asked.redirect_uri}?{urlencode({'code': code} | state)}")

    def _page(self, query: Mapping[str, str], told: str = "") -> None:
        try:
            self.here.asked(query)
        except Refusal as refusal:
            self._send(400, "text/plain; charset=utf-8", str(refusal).encode())
            return
        self._send(401 if told else 200, "text/html; charset=utf-8", login_page(query, told).encode())

    def _client(self, form: Mapping[str, str]) -> tuple[str, str]:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            name, _, secret = base64.b64decode(text).decode().partition(":")
            return name, secret
        return form.get("client_id", ""), form.get("client_secret", "")

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}

    def _to(self, where: str) -> None:
        self.send_response(303)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, status: int, fields: Mapping[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(fields).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def login_page(query: Mapping[str, str], told: str = "") -> str:
    """Where somebody says who they are; the form goes back to where it came from, with what the application asked."""
    action = html.escape(f"/authorize?{urlencode(query)}")
    alert = f'<p role="alert">{html.escape(told)}</p>' if told else ""
    return f"""<!doctype html><html lang="en"><title>Log in</title><h1>Log in</h1>{alert}
<form method="post" action="{action}">
<label>Name <input name="name" autocomplete="username" required></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form></html>"""


@contextlib.contextmanager
def identity_server(
    *redirect_uris: str, tls: ssl.SSLContext | None = None, now: Callable[[], float] = time.time
) -> Iterator[IdentityServer]:
    """One that runs while the block does; applications may have answers sent to `redirect_uris` alone."""
    server = IdentityServer(redirect_uris, now, tls)
    thread = threading.Thread(target=server.run, name="identity-server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def main() -> None:
    """Until Ctrl-C, for an app on its usual port."""
    with identity_server("http://localhost:8501/oauth2callback", "http://127.0.0.1:8501/oauth2callback") as server:
        print(json.dumps({"issuer": server.url, "client_id": CLIENT, "client_secret": server.secret}))
        print(f"people: {', '.join(PEOPLE_HERE)}; password: {PASSWORD}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
