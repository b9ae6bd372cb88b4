"""Identity signatures: Ed25519 over a domain label and a body, with every label of the project in this one place.

Strictness as in RFC 8032 and beyond it: public keys of small order and encodings that are not reduced are refused,
because a library's `verify` accepts forgeries under them.
"""

from __future__ import annotations

import enum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from aimass.proto.errors import Unauthenticated

__all__ = ["Label", "check_public_key", "public_key", "sign", "verify"]


class Label(enum.Enum):
    """What a signature, seal or MAC is for; nothing made under one label passes under another."""

    ROSTER = b"AIMass roster signature v1\0"
    REVOCATIONS = b"AIMass revocations signature v1\0"
    SUCCESSION = b"AIMass root succession v1\0"
    ENROL = b"AIMass enrol v1\0"
    ENROL_POSSESSION = b"AIMass enrol possession v1\0"
    WELCOME = b"AIMass welcome v1\0"
    TRANSCRIPT_HEAD = b"AIMass transcript head v1\0"
    RECEIPT = b"AIMass receipt v1\0"
    HEAD_SEEN = b"AIMass head seen v1\0"
    LEDGER_HEAD = b"AIMass ledger head v1\0"
    LEDGER_SEAL = b"AIMass ledger seal v1\0"
    LEDGER_SLOT = b"AIMass ledger slot v1\0"
    MODEL_VERSION = b"AIMass model version v1\0"
    MODEL_ALIAS = b"AIMass model alias v1\0"
    MODEL_RULES = b"AIMass model rules v1\0"


_P: Final = 2**255 - 19
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)


def check_public_key(key: bytes) -> bytes:
    """`key` itself if it is a 32-byte Ed25519 key of large order in its one encoding, else `Unauthenticated`."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    if len(key) != 32 or y >= _P or y in _SMALL_ORDER_Y:
        raise Unauthenticated("an identity key is not a valid Ed25519 key", code="identity.key", value=key.hex())
    return key


def public_key(key: Ed25519PrivateKey) -> bytes:
    """The 32 public bytes of a private key."""
    return key.public_key().public_bytes_raw()


def sign(key: Ed25519PrivateKey, label: Label, body: bytes) -> bytes:
    """64-byte signature over label and body."""
    return key.sign(label.value + body)


def verify(key: bytes, label: Label, body: bytes, signature: bytes, who: str) -> None:
    """Raise `Unauthenticated` that names `who` unless the signature is theirs."""
    try:
        Ed25519PublicKey.from_public_bytes(check_public_key(key)).verify(signature, label.value + body)
    except InvalidSignature:
        raise Unauthenticated(f"the signature of {who} does not hold", code=f"signature.{label.name.lower()}") from None
