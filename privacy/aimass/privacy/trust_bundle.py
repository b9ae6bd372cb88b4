"""What the root holder hands out: roster, revocations and certificates, signed, for a server to relay.

A holder of the root's public keys can check every part, so it does not matter who carries the bundle. The version of
the revocations is the roster's epoch: every change of either makes a new epoch of both.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aimass.privacy.pki import peer_of
from aimass.privacy.roster import Roster, decode_roster
from aimass.privacy.signing import Label, check_public_key, verify
from aimass.proto.errors import BadInput
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = [
    "Root",
    "Succession",
    "Trust",
    "TrustBundle",
    "certificate_for",
    "decode_bundle",
    "encode_bundle",
    "open_bundle",
    "revocation_bytes",
    "share_of",
]


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


class Succession(Value, frozen=True):
    """A new root (as `Root.to_pem`), the old one's signature over it in base64, and its certificate under the old."""

    root: str
    signature: str
    cross: str


class TrustBundle(Value, frozen=True):
    """The bundle as it travels; bytes in base64, certificates as PEM by `role/name`.

    `succession` is there for ever once a root has succeeded another: members that slept through it catch up by it.
    """

    roster: str
    roster_signature: str
    revoked: tuple[str, ...]
    revoked_signature: str
    certificates: dict[str, str]
    succession: Succession | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """A bundle that was verified: the roster, revoked serials, and certificates by `role/name`.

    `root` is the one that signed it: another than the holder's where that was succeeded. `cross` is its certificate
    under the one before, empty where there was none.
    """

    roster: Roster
    revoked: frozenset[int]
    certificates: dict[str, bytes]
    data: bytes
    root: Root
    cross: bytes = b""


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
    """Decode a bundle and verify it against `root`, or against the root that `root` signed as its successor.

    Raises `Unauthenticated` where a signature does not hold, `BadInput` where a part cannot be read.
    """
    bundle = decode_bundle(data)
    root, cross = _successor(bundle.succession, root)
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
    return Trust(roster, serials, certificates, data, root, cross)


def share_of(bundle: TrustBundle, subject: str) -> bytes:
    """What the member `subject` (`role/name`) needs of a bundle: all but the certificates of the others.

    Every part is signed for itself, so a share is verified as the whole is.
    """
    own = bundle.certificates.get(subject)
    return encode_bundle(msgspec.structs.replace(bundle, certificates={} if own is None else {subject: own}))


def _successor(succession: Succession | None, held: Root) -> tuple[Root, bytes]:
    if succession is None:
        return held, b""
    root = Root.from_pem(succession.root.encode())
    if root != held:
        try:
            signature = base64.b64decode(succession.signature, validate=True)
        except ValueError as error:
            raise BadInput("the trust bundle cannot be read", code="trust.encoding") from error
        verify(held.signing_key, Label.SUCCESSION, root.to_pem(), signature, "the old root on the new one")
    return root, succession.cross.encode()


def certificate_for(trust: Trust, own_pem: bytes) -> bytes | None:
    """The bundle's certificate for the key, name and role of `own_pem`, where it is another that its root issued.

    A certificate that does not last longer is no renewal, unless the root is another.
    """
    own = peer_of(own_pem)
    offered = trust.certificates.get(f"{own.role}/{own.name}")
    if offered is None or offered == own_pem:
        return None
    peer = peer_of(offered)
    root = x509.load_pem_x509_certificate(trust.root.certificate_pem)
    fits = (peer.role, peer.name, peer.tls_sha256) == (own.role, own.name, own.tls_sha256)
    better = peer.not_after > own.not_after or not _issued_by(own_pem, root)
    return offered if fits and better and _issued_by(offered, root) else None


def _issued_by(certificate_pem: bytes, root: x509.Certificate) -> bool:
    try:
        x509.load_pem_x509_certificate(certificate_pem).verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
