"""Private keys on the disk: made where they are used, readable by their owner alone, refused otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import BadInput, Conflict, Unauthenticated
from aimass.proto.home import read_key_file
from aimass.proto.secret import Secret

__all__ = ["KeyPair", "create_keys", "is_encrypted", "load_keys", "read_private", "spki", "tls_key_pem"]

_TLS: Final = "tls.key"
_IDENTITY: Final = "identity.key"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """A member's two keys: ECDSA P-256 for TLS, Ed25519 as its identity in the protocol."""

    tls: ec.EllipticCurvePrivateKey
    identity: Ed25519PrivateKey


def create_keys(folder: Path) -> KeyPair:
    """Make both keys in `folder`; raises `Conflict` where one is there already."""
    make_folder(folder)
    folder.chmod(0o700)
    pair = KeyPair(ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate())
    for name, key in ((_TLS, pair.tls), (_IDENTITY, pair.identity)):
        write_private(folder / name, key)
    return pair


def write_private(
    path: Path, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: Secret | None = None
) -> None:
    """Write a private key as PKCS#8 PEM with mode 0600, encrypted where there is a passphrase; never over another."""
    if path.exists():
        raise Conflict(
            "a key is here already", code="keys.exists", value=path, cure="Keep it, or choose another folder."
        )
    write_file(path, _pem(key, passphrase), UNINTERRUPTED, "keys.private", 0o600)


def load_keys(folder: Path) -> KeyPair:
    """Both keys of a member; raises `Refused` where others could read one, `NotFound`, `BadInput`."""
    tls, identity = read_private(folder / _TLS), read_private(folder / _IDENTITY)
    if not isinstance(tls, ec.EllipticCurvePrivateKey) or not isinstance(identity, Ed25519PrivateKey):
        raise BadInput("a key file holds another kind of key", code="keys.kind", value=folder)
    return KeyPair(tls, identity)


def is_encrypted(path: Path) -> bool:
    """Whether a private key file needs a passphrase."""
    return b"ENCRYPTED" in read_key_file(path).reveal()[:60]


def read_private(path: Path, passphrase: Secret | None = None) -> object:
    """The private key in `path`, whose mode and owner are checked first.

    Raises `Unauthenticated` without the right passphrase, `BadInput` for a file that holds no private key.
    """
    data = read_key_file(path)
    try:
        return serialization.load_pem_private_key(data.reveal(), passphrase.reveal() if passphrase else None)
    except (ValueError, TypeError) as error:
        if b"ENCRYPTED" in data.reveal()[:60]:
            raise Unauthenticated(
                "this key needs its passphrase, and another or none was given",
                code="keys.passphrase",
                value=path,
                cure="Give it with --passphrase-file, or type it where you are asked.",
            ) from error
        raise BadInput("a key file is not a PEM private key", code="keys.format", value=path) from error


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER of the public key info: what certificates carry and rosters pin."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def tls_key_pem(key: ec.EllipticCurvePrivateKey) -> Secret:
    """The TLS key as the library that makes links wants it."""
    return Secret(_pem(key))


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: Secret | None = None) -> bytes:
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase.reveal())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
