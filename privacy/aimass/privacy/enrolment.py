"""Enrolment that an operator cannot forge: a one-time secret binds a newcomer's own keys to the root holder's list.

The root holder gives the newcomer a token by another way than the server. The newcomer makes its keys and sends the
token's id and HMAC-SHA256(T, name | identity key | TLS key), never T; the server only relays. Before signing, the
root holder checks the MAC against its own list, so keys that a server put in its place do not pass.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aimass.privacy.keys import KeyPair, spki
from aimass.privacy.pki import Role
from aimass.privacy.signing import Label, public_key, sign, verify
from aimass.privacy.trust_bundle import Root
from aimass.proto.errors import BadInput, Unauthenticated
from aimass.proto.names import Name
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = [
    "EnrolRequest",
    "Token",
    "check_request",
    "decode_request",
    "make_request",
    "new_token",
    "read_token",
    "request_fingerprint",
    "write_token",
]

_PREFIX = "aimass1."
Hex16 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class Token(Value, frozen=True):
    """What the root holder hands to a newcomer. `secret` is T: the file is as precious as a key until it is used."""

    id: Hex16
    secret: Hex32
    name: Name
    role: Role
    expires: float
    root: str
    hosts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Token(id={self.id}, name={self.name}, role={self.role}, secret=***)"


class EnrolRequest(Value, frozen=True):
    """What a newcomer sends; public. Keys, MAC and signatures in hexadecimal."""

    token_id: Hex16
    name: Name
    role: Role
    identity: Hex32
    tls_spki: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{2,1000}\\Z")]
    hosts: tuple[str, ...]
    mac: Hex32
    identity_proof: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}\\Z")]
    tls_proof: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16,200}\\Z")]


def new_token(name: str, role: Role, root: Root, expires: float, hosts: tuple[str, ...] = ()) -> Token:
    """A fresh token from the operating system's randomness."""
    return Token(
        id=secrets.token_hex(16),
        secret=secrets.token_hex(32),
        name=name,
        role=role,
        expires=expires,
        root=root.to_pem().decode(),
        hosts=hosts,
    )


def write_token(token: Token) -> str:
    """The token as one line of text."""
    return _PREFIX + base64.urlsafe_b64encode(canonical_json(token)).decode()


def read_token(text: str) -> Token:
    """Read one line of text; raises `BadInput` that never repeats the text."""
    text = text.strip()
    try:
        encoded = text[text.index(_PREFIX) + len(_PREFIX) :]
        return decode_canonical_json(Token, base64.b64decode(encoded, b"-_", validate=True), "the token")
    except (ValueError, binascii.Error, BadInput) as error:
        raise BadInput(
            "this is not an enrolment token",
            code="enrol.token",
            cure="Use the file that `aimass pki token` wrote, whole.",
        ) from error


def _bound(name: str, role: Role, identity: bytes, tls: bytes, hosts: tuple[str, ...]) -> bytes:
    parts = [name.encode(), str(role).encode(), identity, tls, *(host.encode() for host in hosts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def make_request(token: Token, keys: KeyPair) -> EnrolRequest:
    """The newcomer's side: bind both keys to the token and prove to hold them."""
    identity, tls = public_key(keys.identity), spki(keys.tls)
    bound = _bound(token.name, token.role, identity, tls, token.hosts)
    proof = Label.ENROL_POSSESSION.value + bound
    return EnrolRequest(
        token_id=token.id,
        name=token.name,
        role=token.role,
        identity=identity.hex(),
        tls_spki=tls.hex(),
        hosts=token.hosts,
        mac=hmac.digest(bytes.fromhex(token.secret), Label.ENROL.value + bound, "sha256").hex(),
        identity_proof=sign(keys.identity, Label.ENROL_POSSESSION, bound).hex(),
        tls_proof=keys.tls.sign(proof, ec.ECDSA(hashes.SHA256())).hex(),
    )


def decode_request(data: bytes) -> EnrolRequest:
    """Strictly decode a request's canonical JSON."""
    return decode_canonical_json(EnrolRequest, data, "the enrolment request")


def request_fingerprint(request: EnrolRequest) -> str:
    """SHA-256 of the request: what newcomer and root holder compare by voice."""
    return hashlib.sha256(canonical_json(request)).hexdigest()


def check_request(request: EnrolRequest, token: Token, now: float) -> None:
    """The root holder's side: raise `Unauthenticated` unless the request comes from who holds `token`, in time."""
    identity, tls = bytes.fromhex(request.identity), bytes.fromhex(request.tls_spki)
    bound = _bound(request.name, request.role, identity, tls, request.hosts)
    if now > token.expires:
        raise _refused("the token has expired", "expired", request.name)
    expected = hmac.digest(bytes.fromhex(token.secret), Label.ENROL.value + bound, "sha256")
    if not hmac.compare_digest(expected, bytes.fromhex(request.mac)):
        raise _refused("the request was not made by who holds the token", "mac", request.name)
    if (request.token_id, request.name, request.role, request.hosts) != (token.id, token.name, token.role, token.hosts):
        raise _refused("the request asks for another name, role or host than its token", "subject", request.name)
    verify(identity, Label.ENROL_POSSESSION, bound, bytes.fromhex(request.identity_proof), request.name)
    try:
        key = serialization.load_der_public_key(tls)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise _refused("the TLS key is not ECDSA on P-256", "tls_key", request.name)
        key.verify(bytes.fromhex(request.tls_proof), Label.ENROL_POSSESSION.value + bound, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise _refused("the request does not prove its TLS key", "tls_proof", request.name) from error


def _refused(what: str, code: str, name: str) -> Unauthenticated:
    return Unauthenticated(
        f"enrolment refused: {what}", code=f"enrol.{code}", value=name, cure="Make a new token and enrol with it."
    )
