"""What the root holder hands out: roster, revocations and certificates, signed, for a server to relay.

A holder of the root's public keys can check every part, so it does not matter who carries the bundle. The version of
the revocations is the roster's epoch: every change of either makes a new epoch of both.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aimass.privacy.roster import Roster, decode_roster
from aimass.privacy.signing import Label, check_public_key, verify
from aimass.proto.errors import BadInput
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = ["Root", "Trust", "TrustBundle", "decode_bundle", "encode_bundle", "open_bundle", "revocation_bytes"]


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """The root's public halves: the certificate that links are checked against, the key that signs rosters."""

    certificate_pem: bytes
    signing_key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 over label, certificate DER with its length (u32) and signing key, in hexadecimal."""
        der = x509.load_pem_x509_certificate(self.certificate_pem).public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(b"AIMass root v1\0" + len(der).to_bytes(4, "big") + der + self.signing_key).hexdigest()

    def to_pem(self) -> bytes:
        """The certificate followed by the signing key, both PEM."""
        key = Ed25519PublicKey.from_public_bytes(self.signing_key)
        return self.certificate_pem + key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @staticmethod
    def from_pem(data: bytes) -> Root:
        """Read what `to_pem` wrote; raises `BadInput`."""
        marker = b"-----BEGIN PUBLIC KEY-----"
        position = data.find(marker)
        try:
            certificate = x509.load_pem_x509_certificate(data[:position])
            key = serialization.load_pem_public_key(data[position:])
        except ValueError as error:
            raise BadInput("not a root file: certificate and signing key in PEM", code="pki.root_file") from error
        if not isinstance(key, Ed25519PublicKey) or not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
            raise BadInput("a root file holds other kinds of keys", code="pki.root_file")
        return Root(certificate.public_bytes(serialization.Encoding.PEM), check_public_key(key.public_bytes_raw()))


class TrustBundle(Value, frozen=True):
    """The bundle as it travels; bytes in base64, certificates as PEM by `role/name`."""

    roster: str
    roster_signature: str
    revoked: tuple[str, ...]
    revoked_signature: str
    certificates: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """A bundle that was verified: the roster, revoked serials, and certificates by `role/name`."""

    roster: Roster
    revoked: frozenset[int]
    certificates: dict[str, bytes]
    data: bytes


def revocation_bytes(epoch: int, serials: tuple[str, ...]) -> bytes:
    """What the root signs of the revocations: epoch and the sorted serials in hexadecimal."""
    return canonical_json({"epoch": epoch, "revoked": sorted(serials)})


def encode_bundle(bundle: TrustBundle) -> bytes:
    """Canonical JSON."""
    return canonical_json(bundle)


def decode_bundle(data: bytes) -> TrustBundle:
    """Strictly decode; nothing is verified yet."""
    return decode_canonical_json(TrustBundle, data, "the trust bundle")


def open_bundle(data: bytes, root: Root) -> Trust:
    """Decode a bundle and verify it against `root`.

    Raises `Unauthenticated` where a signature does not hold, `BadInput` where a part cannot be read.
    """
    bundle = decode_bundle(data)
    try:
        roster_bytes = base64.b64decode(bundle.roster, validate=True)
        roster_signature = base64.b64decode(bundle.roster_signature, validate=True)
        revoked_signature = base64.b64decode(bundle.revoked_signature, validate=True)
        serials = frozenset(int(serial, 16) for serial in bundle.revoked)
    except ValueError as error:
        raise BadInput("the trust bundle cannot be read", code="trust.encoding") from error
    verify(root.signing_key, Label.ROSTER, roster_bytes, roster_signature, "the root on the roster")
    roster = decode_roster(roster_bytes)
    revocations = revocation_bytes(roster.epoch, bundle.revoked)
    verify(root.signing_key, Label.REVOCATIONS, revocations, revoked_signature, "the root on the revocations")
    certificates = {name: pem.encode() for name, pem in bundle.certificates.items()}
    return Trust(roster, serials, certificates, data)
