"""An identity provider's keys and tokens for tests, good ones and any other kind."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, Key

from aimass.proto.secret import Secret
from aimass.server.people.settings import PeopleSettings

ISSUER = "https://login.house.example/aimass"
AUDIENCE = "aimass-app"
NOW = 1_750_000_000.0
RULES = PeopleSettings(
    issuer=ISSUER,
    audience=AUDIENCE,
    keys="keys.json",
    services=("explainer",),
    roles={"doctors": "analyst", "statisticians": "scientist", "admins": "operator"},
    realm="house",
)
PEOPLE = f"""
[people]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
keys = "keys.json"
services = ["explainer"]
realm = "house"
[people.roles]
doctors = "analyst"
statisticians = "scientist"
admins = "operator"
"""
"""Settings that say the same."""
_MADE_WITH = {"RSA": 2048, "EC": "P-256", "OKP": "Ed25519"}
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}


@functools.cache
def made(kind: str, number: int = 0) -> Key:
    """A private key, the same for the same arguments: RSA keys take a while."""
    return JWKRegistry.generate_key(kind, _MADE_WITH[kind])


@dataclasses.dataclass(slots=True)
class Provider:
    """Signs with the key `kid`; publishes that, and `others`."""

    kid: str = "first"
    key: Key = dataclasses.field(default_factory=lambda: made("EC"))
    others: dict[str, Key] = dataclasses.field(default_factory=dict)
    issuer: str = ISSUER
    audience: str = AUDIENCE

    @property
    def algorithm(self) -> str:
        return _ALGORITHMS[self.key.key_type]

    def key_set(self) -> bytes:
        """What it publishes."""
        keys = {self.kid: self.key} | self.others
        entries = [key.as_dict(private=False) | {"kid": kid, "use": "sig"} for kid, key in keys.items()]
        return json.dumps({"keys": entries}).encode()

    def claims(self, now: float = NOW, **over: Any) -> dict[str, Any]:
        """Of a doctor called cleo, for an hour; what is None in `over` is left out."""
        claims = {
            "iss": self.issuer, "aud": self.audience, "sub": "cleo", "groups": ["doctors"], "iat": now, "exp": now + 3600,
        } | over  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, claims: Mapping[str, Any] | None = None, **header: Any) -> Secret:
        """Signed with its key; `header` over the usual one, None for what is to be left out."""
        return signed(self.key, self.claims() if claims is None else claims, self.header() | header)

    def header(self) -> dict[str, Any]:
        """The usual one."""
        return {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}


def signed(key: Key, claims: Mapping[str, Any] | bytes, header: Mapping[str, Any]) -> Secret:
    """A token over any bytes, with the algorithm that belongs to `key` whatever the header says."""
    head = {name: value for name, value in header.items() if value is not None}
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return sealed(key, json.dumps(head).encode(), body)


def sealed(key: Key, header: bytes, body: bytes) -> Secret:
    """Signed exactly so."""
    algorithm = jws.default_registry.algorithms[_ALGORITHMS[key.key_type]]
    text = b".".join((encoded(header), encoded(body)))
    return Secret(text + b"." + encoded(algorithm.sign(text, key)))


def encoded(data: bytes) -> bytes:
    """As parts of a token are."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def p384() -> ECKey:
    """A key for ES384."""
    return ECKey.generate_key("P-384")
