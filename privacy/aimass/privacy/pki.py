"""Certificates: one P-256 root, short chains, roles in the certificate, and what a peer's certificate says.

The role and name stand in a URI name `aimass://ROLE/NAME`. Only the server's certificate may serve, and that of a
service at the hosts that the root holder gave it; everybody else's is for clients alone and carries no host name, so no
partner can pose as the server.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aimass.privacy.roster import NAME
from aimass.proto.errors import BadInput, Unauthenticated

__all__ = ["Peer", "Role", "cross_certificate", "fits_role", "issue", "peer_of", "self_signed_root"]

ROOT_DAYS: Final = 20 * 365
MEMBER_DAYS: Final = 397
_BACKDATE: Final = dt.timedelta(minutes=10)


class Role(enum.StrEnum):
    """What a certificate lets its holder do; see the table role x RPC."""

    PARTNER = "partner"
    OPERATOR = "operator"
    SCIENTIST = "scientist"
    ANALYST = "analyst"
    SERVICE = "service"
    SERVER = "server"


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who a verified certificate belongs to. `serial` is what revocation names; `not_after` is Unix time.

    Or a person whom the service `via` brings by a token: role and name are the person's, the certificate the service's.
    """

    role: Role
    name: str
    serial: int
    tls_sha256: bytes
    not_after: float
    via: str = ""


def self_signed_root(key: ec.EllipticCurvePrivateKey, name: str, now: float) -> x509.Certificate:
    """The federation's root certificate. One more authority may stand below it: the root that succeeds it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key(), now, ROOT_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256())


def cross_certificate(
    old: x509.Certificate, old_key: ec.EllipticCurvePrivateKey, new: x509.Certificate, now: float
) -> x509.Certificate:
    """The new root's key under the old root: who knows the old one alone can check what the new one issued."""
    key = new.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadInput("a root's key must be ECDSA P-256", code="pki.key_kind")
    builder = _builder(new.subject, old.subject, key, now, ROOT_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    builder = builder.add_extension(_authority(old), critical=False)
    return builder.sign(old_key, hashes.SHA256())


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def issue(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    role: Role,
    name: str,
    tls_spki: bytes,
    *,
    hosts: Sequence[str] = (),
    now: float,
    days: int = MEMBER_DAYS,
) -> x509.Certificate:
    """A member's certificate over its public key info; `hosts` are where the server, or a service, listens."""
    if not NAME.fullmatch(name) or not fits_role(role, hosts):
        raise BadInput("a certificate's name or hosts do not fit its role", code="pki.subject", value=f"{role} {name}")
    key = serialization.load_der_public_key(tls_spki)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInput("a TLS key must be ECDSA P-256", code="pki.key_kind")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"aimass://{role}/{name}")]
    names += [_general_name(host) for host in hosts]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
    builder = _builder(subject, root.subject, key, now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(_authority(root), critical=False)
    return builder.sign(root_key, hashes.SHA256())


def fits_role(role: Role, hosts: Sequence[str]) -> bool:
    """Whether `hosts` may stand in a certificate of this role: the server has some, a service may, nobody else does."""
    return bool(hosts) if role is Role.SERVER else not hosts or role is Role.SERVICE


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, days: int
) -> x509.CertificateBuilder:
    start = dt.datetime.fromtimestamp(now, dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _BACKDATE)
        .not_valid_after(start + dt.timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@lru_cache(maxsize=4096)
def peer_of(certificate_pem: bytes) -> Peer:
    """Role and name of a certificate that the TLS handshake has already verified against the root.

    Raises `Unauthenticated` where it does not name exactly one role and name.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        scheme, _, rest = uri.partition("://")
        role, _, name = rest.partition("/")
        if scheme != "aimass" or not NAME.fullmatch(name):
            raise ValueError(uri)  # noqa: TRY301  (told below, like every other fault of a certificate)
        key = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Peer(
            Role(role),
            name,
            certificate.serial_number,
            hashlib.sha256(key).digest(),
            certificate.not_valid_after_utc.timestamp(),
        )
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Unauthenticated("a certificate names no role of this federation", code="pki.certificate") from error
