"""An identity provider's public keys, from its JWKS (RFC 7517): those with which a person's token may be signed."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

from aimass.proto.errors import BadInput

__all__ = ["MOST_KEY_BYTES", "ProviderKey", "read_key_set"]

log = logging.getLogger("aimass.server")
MOST_KEY_BYTES: Final = 256 << 10
_MOST_KEYS: Final = 100
_PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""What is read of a key: nothing private, should a provider publish that by mistake."""
_LEAST_RSA: Final = 2048
"""Bits (NIST SP 800-131A)."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key, and for which algorithm alone it is, if the provider says so."""

    key: Any
    algorithm: str


def read_key_set(data: bytes, algorithms: Collection[str]) -> Mapping[str, ProviderKey]:
    """Keys by their id, "" for one without.

    Keys of other kinds and for other uses are left out; symmetric ones too, since whoever reads a public set could sign
    with them. Raises `BadInput` for what is no set, one id for two keys, or a set without a key that can be used.
    """
    if len(data) > MOST_KEY_BYTES:
        raise BadInput("too large for a key set", code="people.keys", value=len(data), limit=MOST_KEY_BYTES)
    try:
        entries = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput("not a set of keys (JWKS)", code="people.keys") from None
    if not isinstance(entries, list) or len(entries) > _MOST_KEYS:
        raise BadInput("not a set of keys (JWKS)", code="people.keys", limit=f"a list of at most {_MOST_KEYS}")
    found: dict[str, ProviderKey] = {}
    for entry in entries:
        if (key := _read_key(entry, algorithms)) is None:
            continue
        if (name := _name(entry)) in found:
            raise BadInput("two keys have one id", code="people.keys", value=ascii(name)[:80])
        found[name] = key
    if not found:
        raise BadInput(
            "the identity provider publishes no key that could be used",
            code="people.keys",
            value=f"{len(entries)} keys",
            limit=", ".join(algorithms),
        )
    return found


def _name(entry: Mapping[str, Any]) -> str:
    return entry["kid"] if isinstance(entry.get("kid"), str) else ""


def _read_key(entry: object, algorithms: Collection[str]) -> ProviderKey | None:
    if not isinstance(entry, dict) or (kind := entry.get("kty")) not in _PUBLIC:
        return None
    algorithm = entry.get("alg", "")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if algorithm and algorithm not in algorithms:
        return None
    try:
        if kind == "RSA" and 8 * _octets(entry["n"]) < _LEAST_RSA:
            raise ValueError("an RSA key under 2048 bits")  # noqa: TRY301  (told below)
        key = JWKRegistry.import_key({"kty": kind} | {name: entry[name] for name in _PUBLIC[kind]})
    except (JoseError, ValueError, KeyError, TypeError) as error:
        log.warning("a key of the identity provider is not used: %s", type(error).__name__)
        return None
    return ProviderKey(key, algorithm)


def _octets(text: str) -> int:
    return 3 * len(text.rstrip("=")) // 4
