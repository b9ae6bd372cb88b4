"""The file that says where people log in: checked whole before the app listens, since Streamlit would look at it late.

It is a secrets file of Streamlit's with its section `[auth]` alone. One provider: the services take the word of one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from aimass.proto.errors import BadInput, Refused
from aimass.proto.home import read_key_file
from aimass.proto.loopback import is_loopback
from aimass.proto.values import Value, decode_toml

__all__ = ["LoginFile", "TokenKind", "read_login"]

TokenKind = Literal["id", "access"]
_CALLBACK: Final = "/oauth2callback"
_LEAST_SECRET: Final = 32


class AuthSection(Value, frozen=True):
    """`redirect_uri` is the app's own address with /oauth2callback; `cookie_secret` signs what keeps people logged in;
    `expose_tokens` is which token the services are shown: "id", or "access" where the provider makes it for them."""

    redirect_uri: str
    cookie_secret: str
    client_id: Annotated[str, msgspec.Meta(min_length=1)]
    client_secret: str
    server_metadata_url: str
    expose_tokens: TokenKind
    client_kwargs: dict[str, Any] = {}


class LoginFile(Value, frozen=True):
    """The file."""

    auth: AuthSection


def read_login(path: Path) -> LoginFile:
    """What stands in the file; raises `Refused` where others can read it, or where it would send people, or what proves
    who they are, over a link that others can read; `BadInput` for one that is not whole."""
    said = decode_toml(LoginFile, read_key_file(path).reveal().decode("utf-8", "replace"), str(path))
    auth = said.auth
    for setting, url in (("redirect_uri", auth.redirect_uri), ("server_metadata_url", auth.server_metadata_url)):
        parts = urlsplit(url)
        if not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
            raise Refused(
                "people log in over TLS alone",
                code="app.login_url",
                value=f"{setting} at {parts.scheme}://{parts.hostname}",
                limit="https://HOST/..., or http:// on the loopback",
            )
    if not urlsplit(auth.redirect_uri).path.endswith(_CALLBACK):
        raise BadInput(
            "the provider would send people where nobody waits for them",
            code="app.login_redirect",
            value=auth.redirect_uri,
            limit=f"the app's address with {_CALLBACK}",
        )
    if len(auth.cookie_secret) < _LEAST_SECRET:
        raise Refused(
            "who guesses the cookie secret is whoever they like",
            code="app.login_secret",
            value=f"{len(auth.cookie_secret)} letters",
            limit=f"at least {_LEAST_SECRET}, at random",
            cure='python -c "import secrets; print(secrets.token_urlsafe(32))" makes one.',
        )
    return said
