"""What a root does late in its life: new certificates over the same keys, and a successor that it signs."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from aimass.privacy.pki import cross_certificate, issue, peer_of
from aimass.privacy.root_store import MemberRecord, RootState, RootStore
from aimass.privacy.signing import Label, sign
from aimass.privacy.trust_bundle import Succession
from aimass.proto.secret import Secret

__all__ = ["renew", "succeed"]


def renew(store: RootStore, now: float, within_s: float) -> tuple[str, ...]:
    """Certify anew whoever's certificate ends within `within_s`, over the same keys; their names.

    The roster stays as it is, and so does its epoch: nobody has to approve anything.
    """
    state = store.in_office()
    members = tuple(
        member if member.revoked or _ends_at(member) - now >= within_s else _reissued(store, member, now)
        for member in state.members
    )
    store.save(msgspec.structs.replace(state, members=members))
    return tuple(sorted(new.name for old, new in zip(state.members, members, strict=True) if new != old))


def succeed(store: RootStore, folder: Path, name: str, now: float, passphrase: Secret | None = None) -> RootStore:
    """A new root in `folder` that takes the place of `store`'s: same members and keys, certificates of its own.

    The old root signs it, and signs nothing more. Tokens that were not used are void: they carry the old root.
    Raises `Conflict` where there is a root in `folder` already, or the old one has been succeeded.
    """
    state = store.in_office()
    new = RootStore.create(folder, name, now, passphrase)
    old_certificate, new_certificate = (
        x509.load_pem_x509_certificate(root.certificate_pem) for root in (store.root, new.root)
    )
    cross = cross_certificate(old_certificate, store.certificate_key(), new_certificate, now)
    signature = sign(store.signing_key(), Label.SUCCESSION, new.root.to_pem())
    succession = Succession(
        root=new.root.to_pem().decode(),
        signature=base64.b64encode(signature).decode(),
        cross=cross.public_bytes(serialization.Encoding.PEM).decode(),
    )
    members = tuple(member if member.revoked else _reissued(new, member, now) for member in state.members)
    new.save(RootState(epoch=state.epoch + 1, next_id=state.next_id, members=members, succession=succession))
    store.save(msgspec.structs.replace(state, succeeded_by=new.root.fingerprint))
    return new


def _ends_at(member: MemberRecord) -> float:
    return peer_of(member.certificate.encode()).not_after


def _reissued(store: RootStore, member: MemberRecord, now: float) -> MemberRecord:
    """The member with a certificate of this root over the key and hosts that it has."""
    held = x509.load_pem_x509_certificate(member.certificate.encode())
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(host) for kind in (x509.DNSName, x509.IPAddress) for host in names.get_values_for_type(kind)]
    key = held.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    root = x509.load_pem_x509_certificate(store.root.certificate_pem)
    made = issue(root, store.certificate_key(), member.role, member.name, key, hosts=hosts, now=now)
    return msgspec.structs.replace(
        member,
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        serial=f"{made.serial_number:x}",
        earlier=(*member.earlier, member.serial),
    )
