"""A token's form and signature: pure. A JSON Web Token in compact form (RFC 7519, RFC 7515), signed, never encrypted.

The algorithm is one that the settings allow, never the token's to choose freely; keys come from the provider's own set
and never from the token (`jku`, `jwk`, `x5c` are not read).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from joserfc import jws
from joserfc.errors import JoseError

from aimass.proto.errors import Unauthenticated
from aimass.proto.secret import Secret
from aimass.server.people.key_sets import ProviderKey

__all__ = ["MOST_BYTES", "Header", "read_header", "verified"]

MOST_BYTES: Final = 16_000
"""What somebody's many groups make of a token; half of what a call may bring beside its message."""

_COMPACT: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KINDS: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
"""What `typ` may say (RFC 9068, section 2.1): logout tokens, proofs of possession and others say something else."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """By which algorithm a token says that it is signed, and under which name the key stands in the provider's set."""

    algorithm: str
    key_id: str


def read_header(token: Secret, algorithms: Collection[str]) -> Header:
    """What a token says of its signature; raises `Unauthenticated` for what is no token, or signed in no way that is
    allowed."""
    text = token.reveal()
    if len(text) > MOST_BYTES:
        raise Unauthenticated(
            "the token is too large",
            code="people.token_size",
            value=f"{len(text)} bytes",
            limit=f"{MOST_BYTES} bytes",
            cure="Have the identity provider write only the groups into it that matter here.",
        )
    if not _COMPACT.fullmatch(text):
        _malformed()
    fields = _object(_decoded(text.partition(b".")[0]))
    algorithm, key_id, kind = fields.get("alg"), fields.get("kid", ""), fields.get("typ", "")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise Unauthenticated(
            "the token is signed in a way that is not allowed",
            code="people.algorithm",
            value=ascii(algorithm)[:40],
            limit=", ".join(algorithms),
            cure="Set the identity provider's algorithm, or people.algorithms.",
        )
    if "crit" in fields or "b64" in fields or not isinstance(key_id, str) or len(key_id) > 256:
        _malformed()
    if not isinstance(kind, str) or kind.lower() not in _KINDS:
        raise Unauthenticated("this is no token of a person", code="people.kind", value=ascii(kind)[:40])
    return Header(algorithm, key_id)


def verified(token: Secret, header: Header, key: ProviderKey) -> Mapping[str, Any]:
    """The claims, if `key` has signed them; raises `Unauthenticated`."""
    if key.algorithm not in {"", header.algorithm}:
        raise _forged()
    registry = jws.JWSRegistry(algorithms=[header.algorithm], strict_check_header=False)
    registry.max_header_length = MOST_BYTES
    try:
        signed = jws.deserialize_compact(token.reveal(), key.key, registry=registry)
    except (JoseError, ValueError, TypeError):  # not their text: it may quote the token
        raise _forged() from None
    return _object(signed.payload or b"")


def _forged() -> Unauthenticated:
    return Unauthenticated(
        "the token's signature is not the identity provider's", code="people.signature", cure="Log in again."
    )


def _decoded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        _malformed()


def _object(text: bytes) -> Mapping[str, Any]:
    """A JSON object in which no member stands twice, at any depth: no two readers see two tokens in one."""
    try:
        fields = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _malformed()
    if not isinstance(fields, dict):
        _malformed()
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a member stands twice")
    return fields


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _malformed() -> NoReturn:
    raise Unauthenticated("not a signed token", code="people.token", cure="Log in again.") from None
