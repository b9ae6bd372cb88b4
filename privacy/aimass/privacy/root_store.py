"""The root holder's folder: root keys, tokens that were given out, members, and the bundle that follows from them.

It stands on a machine of its own, which needs no network. Every change makes a new epoch and a new signed bundle.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import ipaddress
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.enrolment import EnrolRequest, Token, check_request, new_token
from aimass.privacy.keys import read_private, write_private
from aimass.privacy.pki import Role, fits_role, issue, self_signed_root
from aimass.privacy.roster import NAME, Member, MemberRole, Roster
from aimass.privacy.signing import Label, public_key, sign
from aimass.privacy.trust_bundle import Root, Succession, TrustBundle, encode_bundle, revocation_bytes
from aimass.proto.durable import UNINTERRUPTED, Durability, make_folder, write_file
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound, Unauthenticated
from aimass.proto.secret import Secret
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["MemberRecord", "RootState", "RootStore"]

_LONGEST_NAME: Final = 64
_ROSTER_ROLES: Final = {Role.PARTNER: MemberRole.PARTNER, Role.SERVER: MemberRole.SERVER}


class TokenRecord(Value, frozen=True):
    """A token that was given out, and the fingerprint of the request that used it."""

    token: Token
    used_by: str = ""


class MemberRecord(Value, frozen=True):
    """Somebody who was enrolled: keys and certificate, and whether revoked; `earlier` are serials of the same key."""

    id: int
    name: str
    role: Role
    identity: str
    tls_sha256: str
    certificate: str
    serial: str
    revoked: bool = False
    earlier: tuple[str, ...] = ()


class RootState(Value, frozen=True):
    """Everything that changes in the folder. `succeeded_by` is the fingerprint of the root that took its place."""

    epoch: int = 0
    next_id: int = 1
    tokens: tuple[TokenRecord, ...] = ()
    members: tuple[MemberRecord, ...] = ()
    succession: Succession | None = None
    succeeded_by: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RootStore:
    """The folder, opened. Each change is durable before it returns."""

    folder: Path
    root: Root
    durability: Durability = UNINTERRUPTED
    passphrase: Secret | None = None

    @staticmethod
    def create(folder: Path, name: str, now: float, passphrase: Secret | None = None) -> RootStore:
        """Make root keys in a new folder, encrypted under a passphrase; raises `Conflict` over another root."""
        if not 1 <= len(name) <= _LONGEST_NAME:  # before any key: a half-made root would stand in the way of the next
            raise BadInput(
                "a root's name stands in its certificate",
                code="pki.root_name",
                value=f"{len(name)} characters",
                limit=f"1 to {_LONGEST_NAME}",
            )
        make_folder(folder)
        folder.chmod(0o700)
        if (folder / "root.pem").exists():
            raise Conflict("a root is here already", code="pki.exists", value=folder)
        tls, signing = ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()
        write_private(folder / "root.key", tls, passphrase)
        write_private(folder / "root-sign.key", signing, passphrase)
        certificate = self_signed_root(tls, name, now).public_bytes(serialization.Encoding.PEM)
        root = Root(certificate, public_key(signing))
        write_file(folder / "root.pem", root.to_pem(), UNINTERRUPTED, "pki.root", 0o644)
        store = RootStore(folder, root, passphrase=passphrase)
        store.save(RootState())
        return store

    @staticmethod
    def open(folder: Path, passphrase: Secret | None = None) -> RootStore:
        """Open an existing folder; raises `NotFound`. The passphrase is tried when a key is needed."""
        if not (folder / "root.pem").is_file():
            raise NotFound("no root here", code="pki.absent", value=folder, cure="aimass pki init DIR makes one.")
        return RootStore(folder, Root.from_pem((folder / "root.pem").read_bytes()), passphrase=passphrase)

    @property
    def state(self) -> RootState:
        """What the folder holds now."""
        return decode_json(RootState, (self.folder / "state.json").read_bytes(), "the root's state")

    def save(self, state: RootState) -> None:
        """Keep a new state."""
        write_file(self.folder / "state.json", canonical_json(state), self.durability, "pki.state")

    def token(self, name: str, role: Role, hosts: tuple[str, ...], expires: float) -> Token:
        """A one-time token for a newcomer; raises `BadInput`, or `Conflict` for a name that is enrolled."""
        if not NAME.fullmatch(name):
            raise BadInput("a name is lower-case letters, digits and dashes", code="pki.name", value=name)
        if not fits_role(role, hosts):
            raise BadInput(
                "--host belongs to the token of the server, or of a service that listens", code="pki.hosts", value=role
            )
        for host in hosts:
            _check_host(host)
        if not math.isfinite(expires):  # what JSON cannot hold would make the root's state unreadable
            raise BadInput("a token's end is not a time", code="pki.expires", value=expires)
        state = self.in_office()
        if any(member.name == name and not member.revoked for member in state.members):
            raise Conflict(
                "somebody of this name is enrolled", code="pki.name_taken", value=name, cure="Revoke it first."
            )
        token = new_token(name, role, self.root, expires, hosts)
        self.save(msgspec.structs.replace(state, tokens=(*state.tokens, TokenRecord(token=token))))
        return token

    def sign(self, requests: Sequence[EnrolRequest], now: float) -> bytes:
        """Check each request against the token list, enrol all of them, and return the new bundle.

        Raises what `check_request` raises; then nothing has changed. A request that was signed before is not an
        error: it changes nothing.
        """
        state = self.in_office()
        for request in requests:
            state = self._enrolled(state, request, now)
        if state != self.state:
            state = msgspec.structs.replace(state, epoch=state.epoch + 1)
            self.save(state)
        return self.bundle()

    def examine(self, request: EnrolRequest, now: float) -> AimassError | None:
        """Why `sign` would refuse a request, if it would. Changes nothing."""
        try:
            self._enrolled(self.state, request, now)
        except AimassError as error:
            return error
        return None

    def _enrolled(self, state: RootState, request: EnrolRequest, now: float) -> RootState:
        record = next((record for record in state.tokens if record.token.id == request.token_id), None)
        if record is None:
            raise Unauthenticated("enrolment refused: no such token", code="enrol.unknown_token", value=request.name)
        fingerprint = hashlib.sha256(canonical_json(request)).hexdigest()
        if record.used_by == fingerprint:
            return state
        if record.used_by:
            raise Unauthenticated(
                "enrolment refused: the token was used",
                code="enrol.used_token",
                value=request.name,
                cure="If the newcomer did not use it, somebody else did: revoke this name and make a new token.",
            )
        check_request(request, record.token, now)
        certificate = issue(
            x509.load_pem_x509_certificate(self.root.certificate_pem),
            self.certificate_key(),
            request.role,
            request.name,
            bytes.fromhex(request.tls_spki),
            hosts=request.hosts,
            now=now,
        )
        member = MemberRecord(
            id=state.next_id,
            name=request.name,
            role=request.role,
            identity=request.identity,
            tls_sha256=hashlib.sha256(bytes.fromhex(request.tls_spki)).hexdigest(),
            certificate=certificate.public_bytes(serialization.Encoding.PEM).decode(),
            serial=f"{certificate.serial_number:x}",
        )
        used = tuple(
            msgspec.structs.replace(other, used_by=fingerprint) if other.token.id == request.token_id else other
            for other in state.tokens
        )
        return msgspec.structs.replace(state, next_id=state.next_id + 1, tokens=used, members=(*state.members, member))

    def revoke(self, name: str) -> bytes:
        """Revoke whoever carries `name` now; returns the new bundle. Raises `NotFound`."""
        state = self.in_office()
        if not any(member.name == name and not member.revoked for member in state.members):
            raise NotFound("nobody of this name is enrolled", code="pki.unknown", value=name)
        members = tuple(
            msgspec.structs.replace(member, revoked=True) if member.name == name else member for member in state.members
        )
        self.save(msgspec.structs.replace(state, epoch=state.epoch + 1, members=members))
        return self.bundle()

    def bundle(self) -> bytes:
        """The signed bundle of the current epoch."""
        state = self.state
        current = [member for member in state.members if not member.revoked]
        roster = Roster.of(
            state.epoch,
            [
                Member(m.id, _ROSTER_ROLES[m.role], m.name, bytes.fromhex(m.identity), bytes.fromhex(m.tls_sha256))
                for m in current
                if m.role in _ROSTER_ROLES
            ],
        )
        revoked = tuple(sorted(serial for m in state.members if m.revoked for serial in (m.serial, *m.earlier)))
        key = self.signing_key()
        return encode_bundle(
            TrustBundle(
                roster=base64.b64encode(roster.data).decode(),
                roster_signature=base64.b64encode(sign(key, Label.ROSTER, roster.data)).decode(),
                revoked=revoked,
                revoked_signature=base64.b64encode(
                    sign(key, Label.REVOCATIONS, revocation_bytes(state.epoch, revoked))
                ).decode(),
                certificates={f"{member.role}/{member.name}": member.certificate for member in current},
                succession=state.succession,
            )
        )

    def in_office(self) -> RootState:
        """The state; raises `Conflict` where another root has taken this one's place."""
        state = self.state
        if state.succeeded_by:
            raise Conflict(
                "this root was succeeded and signs nothing more",
                code="pki.succeeded",
                value=state.succeeded_by[:16],
                cure="Use the folder of the root that took its place.",
            )
        return state

    def certificate_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs certificates; raises `Unauthenticated` without the right passphrase."""
        key = read_private(self.folder / "root.key", self.passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadInput("root.key holds another kind of key", code="keys.kind")
        return key

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs rosters; raises `Unauthenticated` without the right passphrase."""
        key = read_private(self.folder / "root-sign.key", self.passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput("root-sign.key holds another kind of key", code="keys.kind")
        return key


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not host.isascii() or not all(part.replace("-", "").isalnum() for part in host.split(".")):
            raise BadInput("not a host name or address", code="pki.host", value=ascii(host)) from None
