"""The doctor for a partner's folder, or a person's: who one is here, what lies between here and the server, what runs.

It reads and changes nothing; what a daemon would take over by itself is left to the daemon.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aimass.client.doctor_data import DataChecks
from aimass.client.doctor_link import LinkChecks
from aimass.client.local_link import ask_daemon
from aimass.privacy.keys import load_keys, spki
from aimass.privacy.pki import Peer, Role, peer_of
from aimass.privacy.trust_bundle import Root, Trust, open_bundle
from aimass.proto.checks import Finding, disk_room, expiry, fault, good, of_error, warning
from aimass.proto.errors import Unavailable
from aimass.proto.examination import Check
from aimass.proto.home import BUNDLE, CERTIFICATE, ROOT, ChildLimits, HomeSettings, load_home

__all__ = ["checks"]

_FLOOR_BYTES = 1 << 30


def checks(folder: Path) -> Sequence[Check]:
    """The checks of this folder, in order."""
    home = _Home(folder)
    link = LinkChecks(
        folder, lambda: home.settings, lambda: home.root_pem, lambda: home.me is not None, lambda: home.keyed
    )
    data = DataChecks(folder, lambda: home.partner, lambda: home.settings.child if home.settings else ChildLimits())
    return (
        home.settings_file,
        home.keys,
        home.certificate,
        home.roster,
        link.proxy,
        link.name,
        link.port,
        link.tls,
        link.server,
        home.daemon,
        data.policy,
        data.tasks,
        data.data,
        data.confinement,
        data.journal,
        data.secure_sums,
        data.ledgers,
        data.torch,
        home.disk,
    )


class _Home:
    """What the first checks find and later ones need."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settings: HomeSettings | None = None
        self.root_pem = b""
        self.me: Peer | None = None
        self._key_sha256 = b""

    @property
    def keyed(self) -> bool:
        """Whether the keys can be used."""
        return bool(self._key_sha256)

    @property
    def partner(self) -> bool:
        """Whether data and a policy are looked for: everybody who is not known to be a person."""
        if self.me is not None:
            return self.me.role is Role.PARTNER
        return (self._folder / "data").is_dir()

    def settings_file(self) -> Iterator[Finding]:
        """`client.toml`, with the environment over it."""
        self.settings = load_home(self._folder)
        yield good("settings", f"{self.settings.name}, server {self.settings.server}")

    def keys(self) -> Iterator[Finding]:
        """Both keys, readable by their owner alone."""
        if not (self._folder / "keys").is_dir():
            yield fault("keys", "keys.absent", "no keys were made here yet", self._enroll)
            return
        pair = load_keys(self._folder / "keys")
        self._key_sha256 = hashlib.sha256(spki(pair.tls)).digest()
        yield good("keys", "both are here, for their owner alone")

    @property
    def _enroll(self) -> str:
        return f"aimass client enroll --dir {self._folder} --token FILE"

    def certificate(self) -> Iterator[Finding]:
        """Ours: there, for our key and name, in date."""
        if (self._folder / ROOT).is_file():
            self.root_pem = Root.from_pem((self._folder / ROOT).read_bytes()).certificate_pem
        if not (self._folder / CERTIFICATE).is_file():
            waits = (self._folder / "keys").is_dir()
            what = "asked for, and the root holder has not signed yet" if waits else "not asked for yet"
            yield fault("certificate", "home.not_enrolled", what, self._enroll)
            return
        self.me = peer_of((self._folder / CERTIFICATE).read_bytes())
        if self._key_sha256 and self.me.tls_sha256 != self._key_sha256:
            what = "the certificate is for another key than the one here"
            yield fault(
                "certificate", "certificate.other_key", what, "Restore keys and trust from one backup, or enrol again."
            )
        if self.settings is not None and self.me.name != self.settings.name:
            what = f"the certificate is for {self.me.name}, and the settings say {self.settings.name}"
            fix = f'Set name = "{self.me.name}" in {self._folder}/client.toml.'
            yield fault("certificate", "certificate.other_name", what, fix)
        yield expiry(
            f"this {self.me.role}'s",
            self.me.not_after,
            time.time(),
            "Ask the root holder: aimass pki renew, then aimass server admit; a daemon takes it by itself, and "
            f"a person runs: aimass client enroll --dir {self._folder} --bundle bundle.json",
        )

    def roster(self) -> Iterator[Finding]:
        """The roster that is held, whether we are in it, and one that waits for a person here."""
        if not (self._folder / BUNDLE).is_file() or not (self._folder / ROOT).is_file():
            return
        root = Root.from_pem((self._folder / ROOT).read_bytes())
        held = open_bundle((self._folder / BUNDLE).read_bytes(), root)
        yield self._membership(held)
        pending = self._folder / "trust" / "pending.json"
        if pending.is_file():
            waiting = open_bundle(pending.read_bytes(), root)
            what = f"epoch {waiting.roster.epoch} waits for a person here; runs under it are not joined meanwhile"
            fix = f"aimass client roster show --dir {self._folder}, compare, then: aimass client roster approve"
            yield warning("roster", "roster.pending", what, fix)

    def _membership(self, held: Trust) -> Finding:
        me = self.me
        epoch = f"epoch {held.roster.epoch}, {len(held.roster.partners)} partners"
        if me is not None and me.serial in held.revoked:
            what = f"{epoch}: this certificate was revoked"
            return fault(
                "roster", "trust.revoked", what, "Ask the root holder why; a new membership needs a new token."
            )
        if me is not None and me.role is Role.PARTNER:
            member = held.roster.by_name.get(me.name)
            if member is None or member.tls_sha256 != me.tls_sha256:
                what = f"{epoch}: this partner's key is not in it"
                return fault(
                    "roster", "trust.not_in_roster", what, "Ask the root holder for a new token, and enrol again."
                )
        return good("roster", epoch)

    def daemon(self) -> Iterator[Finding]:
        """Whether the daemon runs, is connected, and what it waits for."""
        if not self.partner or self.me is None:
            return
        try:
            status = ask_daemon(argparse.Namespace(dir=self._folder), command="status")
        except Unavailable as error:
            yield of_error("daemon", error)
            return
        if not status["connected"]:
            what = f"runs and is not connected: {status['last_error'] or 'it tries for the first time'}"
            yield fault("daemon", "daemon.not_connected", what, "See the checks of name, port, tls and server above.")
        else:
            yield good("daemon", f"runs and is connected to {status['server']}")
        if status["withdrawn"]:
            fix = f"aimass client return --dir {self._folder} takes part again"
            yield warning("daemon", "partner.withdrawn", "this partner has withdrawn: it joins no run", fix)
        for run in status["runs"]:
            yield from self._run(run)

    def _run(self, run: dict[str, str]) -> Iterator[Finding]:
        name, reason = run["run"][:8], run["reason"] or "no reason was kept"
        if run["phase"] == "pending":
            fix = f"aimass client pending --dir {self._folder}, then: aimass client approve TASK --dir {self._folder}"
            yield warning("runs", "run.pending", f"run {name} waits for a person here: {reason}", fix)
        elif run["phase"] in ("declined", "left"):
            fix = f"aimass client show {name} --dir {self._folder}; the policy decides: aimass client policy check PLAN"
            yield warning("runs", f"run.{run['phase']}", f"run {name} was {run['phase']}: {reason}", fix)
        elif run["phase"] == "joined" and run["reason"]:
            fix = "Mend what the reason names; the operator then runs: aimass run readmit"
            yield warning("runs", "run.excluded", f"run {name} asks this partner no more: {reason}", fix)

    def disk(self) -> Iterator[Finding]:
        """Room for models and contributions."""
        free = shutil.disk_usage(self._folder).free
        yield disk_room(free, _FLOOR_BYTES, f"Free space on the disk of {self._folder}; {self._folder}/cache may go.")
