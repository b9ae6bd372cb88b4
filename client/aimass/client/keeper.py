"""What a partner believes about who is in the federation: the roster it holds, and one that waits for a person here."""

from __future__ import annotations

from pathlib import Path

from aimass.privacy.roster import Change, Roster, compare
from aimass.privacy.trust_bundle import Root, Trust, certificate_for, open_bundle
from aimass.proto.durable import Durability, write_file
from aimass.proto.errors import NotFound
from aimass.proto.home import BUNDLE, CERTIFICATE, ROOT, not_enrolled

__all__ = ["Keeper"]


class Keeper:
    """Holds the bundle in force. A roster that only removes is taken at once, as is a renewed certificate of our own;
    any other roster, and above all another root, waits for approval."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self._folder = folder
        self._path = folder / BUNDLE
        self._pending_path = folder / "trust" / "pending.json"
        self._durability = durability
        if not self._path.is_file():
            raise not_enrolled(folder)
        self.root = Root.from_pem((folder / ROOT).read_bytes())
        self.trust = open_bundle(self._path.read_bytes(), self.root)
        if self.trust.root != self.root:  # a crash fell between the files of an approved succession
            self._take(self.trust)

    @property
    def roster(self) -> Roster:
        """The roster in force."""
        return self.trust.roster

    @property
    def pending(self) -> Trust | None:
        """A newer roster that waits for a person."""
        if not self._pending_path.is_file():
            return None
        return open_bundle(self._pending_path.read_bytes(), self.root)

    def offer(self, data: bytes) -> Change:
        """Take, keep for approval, or refuse a bundle that the server relays.

        Raises `Unauthenticated` where the root did not sign it, `IntegrityError` for an older or a forked roster.
        """
        offered = open_bundle(data, self.root)
        change = compare(self.trust.roster, offered.roster)
        if offered.root != self.root:
            change = Change.NEEDS_APPROVAL
        renewed = change is Change.SAME and certificate_for(offered, self._own.read_bytes()) is not None
        if change is Change.ONLY_REMOVALS or renewed:
            self._take(offered)
        elif change is Change.NEEDS_APPROVAL:
            write_file(self._pending_path, data, self._durability, "client.roster_pending", 0o644)
        return change

    def approve(self) -> Roster:
        """A person here accepts the roster that waits; raises `NotFound` where none does."""
        offered = self.pending
        if offered is None:
            raise NotFound("no roster waits for approval", code="roster.none_pending")
        compare(self.trust.roster, offered.roster)
        self._take(offered)
        return offered.roster

    @property
    def _own(self) -> Path:
        return self._folder / CERTIFICATE

    def _take(self, offered: Trust) -> None:
        """Bundle, own certificate, root, in this order: a bundle of the new root opens under the old one too."""
        write_file(self._path, offered.data, self._durability, "client.roster", 0o644)
        certificate = certificate_for(offered, self._own.read_bytes())
        if certificate is not None:
            write_file(self._own, certificate, self._durability, "client.certificate", 0o644)
        if offered.root != self.root:
            write_file(self._folder / ROOT, offered.root.to_pem(), self._durability, "client.root", 0o644)
        self._pending_path.unlink(missing_ok=True)
        self.trust, self.root = offered, offered.root
