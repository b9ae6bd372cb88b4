"""Every domain label, size and derivation of the protocol in one place, so that an auditor finds them together.

A hash, key or signature is made under `"AIMass-SA1/" name 00` and nothing made under one name passes under another.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = [
    "AD_BYTES",
    "BOX_BYTES",
    "DIGEST_BYTES",
    "KEY_BYTES",
    "MASK_KEY_BYTES",
    "NONCE_BYTES",
    "SCALAR_BYTES",
    "SIGNATURE_BYTES",
    "VERSION",
    "Name",
    "derive",
    "digest",
    "label",
]

VERSION: Final = 1
DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
"""X25519 and Ed25519 public keys."""
SCALAR_BYTES: Final = 32
"""An element of the share field."""
SIGNATURE_BYTES: Final = 64
MASK_KEY_BYTES: Final = 16
"""AES-128: one key is one keystream, ever."""
NONCE_BYTES: Final = 12
BOX_BYTES: Final = NONCE_BYTES + 2 * SCALAR_BYTES + 16
AD_BYTES: Final = 4 + 2 * KEY_BYTES + DIGEST_BYTES + SIGNATURE_BYTES


class Name(enum.StrEnum):
    """What a hash, key or signature is for."""

    CONTEXT = "ctx"
    PURPOSE = "purpose"
    ADVERTISE = "adv"
    SEED_COMMIT = "seedc"
    ROSTER = "roster"
    PERMUTATION = "perm"
    PERMUTATION_STREAM = "perm-stream"
    SESSION = "sid"
    MASK_SECRET = "mask-sk"  # noqa: S105  (a label)
    SHARE_KEY = "share-enc"
    SHARE_DATA = "share-aad"
    SHARES = "shr"
    SHARES_BODY = "shr-body"
    SHARE_COMMIT = "sh-commit"
    SELF_COMMIT = "b-commit"
    SELF_MASK = "self-mask"
    PAIR_MASK = "pair-mask"
    INPUT = "inp"
    SHARERS = "u1"
    SURVIVORS = "u2"
    SURVIVORS_SIGNED = "sur"
    SUM_CHECK = "sum-check"
    ROTATION = "rotation"
    NOISE = "noise"


def label(name: Name) -> bytes:
    """The label's bytes."""
    return b"AIMass-SA1/" + name.encode("ascii") + b"\0"


def digest(name: Name, *parts: bytes) -> bytes:
    """SHA-256 over the label and the parts, which have fixed lengths or carry them."""
    hasher = hashlib.sha256(label(name))
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def derive(secret: bytes, salt: bytes, name: Name, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) of `secret` with `salt`, under the label and `info`."""
    return HKDF(SHA256(), length, salt or None, label(name) + info).derive(secret)
