"""What the server holds of the root's word, and whether a caller's certificate stands under it now.

TLS has already checked that a certificate comes from the root and is in date when the handshake was made; here the
role, the roster's key and revocation are checked on every call, so that they bite at the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aimass.privacy.pki import Peer, Role, peer_of
from aimass.privacy.roster import Roster, compare
from aimass.privacy.trust_bundle import Root, Trust, decode_bundle, open_bundle, share_of
from aimass.proto.durable import Durability, write_file
from aimass.proto.errors import BadInput, NotFound, Refused, Unauthenticated

__all__ = ["PREVIOUS", "TrustHolder"]

PREVIOUS: Final = "previous-root.pem"
_IN_ROSTER: Final = frozenset({Role.PARTNER, Role.SERVER})


class TrustHolder:
    """The current bundle, durable in the server's folder. Listeners hear of every newer one."""

    def __init__(
        self, folder: Path, durability: Durability, now: Callable[[], float] = time.time, service: str = ""
    ) -> None:
        """`service` is the name of one that is not the roster's server."""
        self._folder, self._path, self._service = folder, folder / "bundle.json", service
        self._durability, self._now = durability, now
        self._root = Root.from_pem((folder / "root.pem").read_bytes())
        self._listeners: list[Callable[[Trust], None]] = []
        if not self._path.is_file():
            raise NotFound(
                "this server is not enrolled yet",
                code="server.not_enrolled",
                value=folder,
                cure="Have the root holder sign server.request, then: aimass server admit BUNDLE --dir DIR.",
            )
        self.trust = open_bundle(self._path.read_bytes(), self._root)
        self._bundle = decode_bundle(self.trust.data)
        self._take_root(self.trust)  # where a crash fell between the files of a succession
        self.links = self._read_links()
        """What links show and check: our own certificate with what leads to older roots; the roots of callers."""

    @property
    def roster(self) -> Roster:
        """The current roster."""
        return self.trust.roster

    def listen(self, listener: Callable[[Trust], None]) -> None:
        """Call `listener` with every bundle that is installed from now on."""
        self._listeners.append(listener)

    def install(self, data: bytes) -> Trust:
        """Verify a bundle, keep it durably, and tell the listeners.

        Raises `Unauthenticated` where the root did not sign it, `IntegrityError` for an older epoch or other content
        at the same one.
        """
        offered = open_bundle(data, self._root)
        compare(self.trust.roster, offered.roster)
        if offered.data == self.trust.data:
            return self.trust
        self._check_own(offered)
        write_file(self._path, data, self._durability, "server.trust", 0o644)
        self._take_root(offered)
        self.trust, self._bundle = offered, decode_bundle(offered.data)
        self.links = self._read_links()
        for listener in self._listeners:
            listener(offered)
        return offered

    def _take_root(self, offered: Trust) -> None:
        """A root that the one before has signed takes its place; certificates of that one still open links."""
        if offered.root != self._root:
            write_file(self._folder / PREVIOUS, self._root.to_pem(), self._durability, "server.root_before", 0o644)
            write_file(self._folder / "root.pem", offered.root.to_pem(), self._durability, "server.root", 0o644)
            self._root = offered.root

    def _read_links(self) -> tuple[bytes, bytes]:
        own = self.trust.certificates[self._subject(self.trust)]
        before = self._folder / PREVIOUS
        previous = Root.from_pem(before.read_bytes()).certificate_pem if before.is_file() else b""
        return own + self.trust.cross, self._root.certificate_pem + previous

    def _subject(self, trust: Trust) -> str:
        """Whose certificate we show, as `role/name`."""
        return f"service/{self._service}" if self._service else f"server/{trust.roster.server.name}"

    def _check_own(self, offered: Trust) -> None:
        """A bundle under which we could not start again is refused."""
        pem = offered.certificates.get(self._subject(offered))
        held = self.trust.certificates.get(self._subject(self.trust), b"")
        try:
            key = peer_of(held).tls_sha256 if self._service else offered.roster.server.tls_sha256
            good = pem is not None and peer_of(pem).tls_sha256 == key
        except Unauthenticated:
            good = False
        if not good:
            raise BadInput(
                "the bundle lacks the certificate of this server or service",
                code="trust.server_certificate",
                cure="Install the file that `aimass pki roster sign` wrote, whole.",
            )

    def share_of(self, peer: Peer) -> bytes:
        """The bundle as one member is sent it; with everybody's certificates, a thousand would be sent a gigabyte."""
        return share_of(self._bundle, f"{peer.role}/{peer.name}")

    def is_news(self, peer: Peer, roster_digest: str) -> bool:
        """Whether a member who holds the roster of that digest, and shows that certificate, learns from the bundle.

        Revocations are of the roster's epoch. Where a root was succeeded, nobody knows here whom the member trusts.
        """
        own = self.trust.certificates.get(f"{peer.role}/{peer.name}")
        current = own is not None and peer_of(own).serial == peer.serial
        return self._bundle.succession is not None or roster_digest != self.roster.digest or not current

    def check(self, certificate_pem: bytes) -> Peer:
        """Who calls; raises `Refused` for a revoked member and `Unauthenticated` for one whom the roster lacks."""
        return self.check_peer(peer_of(certificate_pem))

    def check_peer(self, peer: Peer) -> Peer:
        """The same for a caller whose certificate was read before."""
        if peer.serial in self.trust.revoked:
            raise Refused(
                "this certificate was revoked", code="trust.revoked", value=peer.name, cure="Ask the root holder."
            )
        if self._now() > peer.not_after:
            raise Unauthenticated(
                "this certificate has expired", code="trust.expired", value=peer.name, cure="Enrol again."
            )
        member = self.trust.roster.by_name.get(peer.name)
        if peer.role in _IN_ROSTER and (member is None or member.tls_sha256 != peer.tls_sha256):
            raise Unauthenticated("this key is not in the roster", code="trust.not_in_roster", value=peer.name)
        return peer
