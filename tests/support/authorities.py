"""A certificate authority for tests of TLS."""

from __future__ import annotations

import time

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aimass.privacy.keys import spki, tls_key_pem
from aimass.privacy.pki import Role, issue, self_signed_root
from aimass.proto.secret import Secret
from aimass.proto.tls import TlsIdentity


class Authority:
    """A root, and key and chain of whoever it knows."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self_signed_root(self._key, "root", time.time())
        self.pem = _pem(self._root)

    def pair(self, name: str, *hosts: str, role: Role | None = None) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        role = role or (Role.SERVICE if hosts else Role.ANALYST)
        made = issue(self._root, self._key, role, name, spki(key), hosts=hosts, now=time.time())
        return tls_key_pem(key).reveal(), _pem(made)

    def identity(self, clients: bytes = b"") -> TlsIdentity:
        key, chain = self.pair("serving", "127.0.0.1")
        return TlsIdentity(chain, Secret(key), clients)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
