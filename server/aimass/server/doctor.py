"""The doctor for a server's folder, whether the server runs or not. It reads and changes nothing."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aimass.privacy.keys import load_keys, spki
from aimass.privacy.pki import peer_of
from aimass.privacy.trust_bundle import Root, Trust, open_bundle
from aimass.proto.apps import find, shelved
from aimass.proto.checks import Finding, disk_room, expiry, fault, good, handshake_fault, of_error, warning
from aimass.proto.disk import bytes_below
from aimass.proto.errors import AimassError
from aimass.proto.examination import Check
from aimass.proto.flower.installed import check_installed
from aimass.proto.objects import open_objects
from aimass.proto.probes import handshake, resolve
from aimass.proto.wire import split_address
from aimass.server.people.examining import people_findings
from aimass.server.settings import ServerSettings, load_settings

__all__ = ["checks"]

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (an address that is looked for)
_SLACK_S: Final = 120.0
_RENEW: Final = "At the root: aimass pki renew --root root --out bundle.json; then: aimass server admit bundle.json"


def checks(folder: Path) -> Sequence[Check]:
    """The checks of a server's folder, in order."""
    house = _Server(folder)
    return (
        house.settings_file,
        house.keys,
        house.trust,
        house.certificate,
        house.names,
        house.ports,
        house.clock,
        house.store,
        house.apps,
        house.disk,
        house.spool,
        house.stores,
        house.watch,
        house.people,
    )


class _Server:
    """What the first checks find and later ones need."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        self._settings: ServerSettings | None = None
        self._key_sha256 = b""
        self._trust: Trust | None = None
        self._own: bytes = b""
        self._runs = False

    def settings_file(self) -> Iterator[Finding]:
        """`server.toml`, with the environment over it."""
        settings = self._settings = load_settings(self._folder)
        yield good("settings", f"{settings.name}, work at {settings.listen}, enrolment at {settings.enrol_listen}")

    def keys(self) -> Iterator[Finding]:
        """Both keys, readable by their owner alone."""
        self._key_sha256 = hashlib.sha256(spki(load_keys(self._folder / "keys").tls)).digest()
        yield good("keys", "both are here, for their owner alone")

    def trust(self) -> Iterator[Finding]:
        """The bundle that the root signed."""
        bundle = self._folder / "bundle.json"
        if not bundle.is_file():
            sign = f"Have the root holder sign {self._folder}/server.request, then: "
            fix = f"{sign}aimass server admit BUNDLE --dir {self._folder}"
            yield fault("trust", "server.not_enrolled", "no bundle was admitted yet", fix)
            return
        trust = self._trust = open_bundle(bundle.read_bytes(), Root.from_pem((self._folder / "root.pem").read_bytes()))
        partners = trust.roster.partners
        if not partners:
            what = f"roster epoch {trust.roster.epoch} has no partners: no run can begin"
            yield warning(
                "trust", "roster.empty", what, "Give partners tokens: aimass pki token NAME --root root --out FILE"
            )
        else:
            yield good("trust", f"roster epoch {trust.roster.epoch}, {len(partners)} partners")
        for name in partners:
            pem = trust.certificates.get(f"partner/{name}")
            if pem is not None and (found := expiry(f"{name}'s", peer_of(pem).not_after, time.time(), _RENEW)).fix:
                yield found

    def certificate(self) -> Iterator[Finding]:
        """The server's own: for its key, in date."""
        if self._trust is None:
            return
        member = self._trust.roster.server
        self._own = self._trust.certificates.get(f"server/{member.name}", b"")
        if not self._own:
            fix = "Admit the file that `aimass pki roster sign` wrote, whole."
            yield fault("certificate", "trust.server_certificate", "the bundle lacks the server's certificate", fix)
            return
        if self._key_sha256 and member.tls_sha256 != self._key_sha256:
            what = "the bundle is for a server with other keys"
            fix = f"Have the root holder sign {self._folder}/server.request, or restore the keys that fit."
            yield fault("certificate", "server.other_keys", what, fix)
        yield expiry("the server's", peer_of(self._own).not_after, time.time(), _RENEW)

    def names(self) -> Iterator[Finding]:
        """The names that partners may call it by, and whether they lead anywhere."""
        if not self._own or self._settings is None:
            return
        names = x509.load_pem_x509_certificate(self._own).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        hosts = names.value.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in names.value.get_values_for_type(x509.IPAddress)]
        for host in hosts:
            try:
                found = resolve(host, split_address(self._settings.listen)[1])
            except OSError as error:
                what = f"{host}, a name of the certificate, cannot be resolved here: {error.strerror or error}"
                yield warning("names", "name.unknown", what, f"Enter {host} in the DNS that partners use.")
            else:
                yield good("names", f"{host} is {', '.join(found[:4])}")
        if addresses:
            yield good("names", f"addresses of the certificate: {', '.join(addresses)}")

    def ports(self) -> Iterator[Finding]:
        """Whether each port is free, or held by this server."""
        if self._settings is None:
            return
        for setting in ("listen", "enrol_listen"):
            host, port = split_address(getattr(self._settings, setting))
            yield self._port(setting, _ANYWHERE.get(host, host), host, port)

    def _port(self, setting: str, host: str, bound: str, port: int) -> Finding:
        root = Root.from_pem((self._folder / "root.pem").read_bytes())
        try:
            der = handshake(host, port, root.certificate_pem, check_name=False)
        except ssl.SSLError as error:
            return self._stranger(setting, host, port, handshake_fault(error, host).what)
        except ConnectionRefusedError:
            return self._free(setting, bound, port)
        except OSError as error:
            return self._free(setting, bound, port, error.strerror or str(error))
        key = (
            x509.load_der_x509_certificate(der)
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        if hashlib.sha256(key).digest() != self._key_sha256:
            return self._stranger(setting, host, port, "another server of this federation")
        self._runs = True
        return good("ports", f"{setting} {host}:{port}: this server answers")

    def _stranger(self, setting: str, host: str, port: int, who: str) -> Finding:
        fix = f"See who has it (ss -ltnp 'sport = :{port}'): stop that, or change {setting} in server.toml."
        return fault("ports", "port.taken", f"{setting} {host}:{port} is held by something else: {who}", fix)

    def _free(self, setting: str, bound: str, port: int, reason: str = "") -> Finding:
        """Nobody answers: can this machine listen there?"""
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(bound, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            what = f"{setting} {bound}:{port} cannot be listened on: {error.strerror or error}"
            fix = f"Choose an address of this machine (ip addr) and a free port in {self._folder}/server.toml."
            return fault("ports", "port.unusable", what, fix)
        what = f"{setting} {bound}:{port} is free: the server does not run" + (f" ({reason})" if reason else "")
        return warning("ports", "server.not_running", what, f"aimass server start --dir {self._folder}")

    def clock(self) -> Iterator[Finding]:
        """Whether time went back: what was written cannot be younger than now."""
        newest = max(
            (
                path.stat().st_mtime
                for path in (*self._data.glob("runs.sqlite*"), self._folder / "bundle.json")
                if path.is_file()
            ),
            default=0.0,
        )
        if newest > time.time() + _SLACK_S:
            what = f"this clock is {newest - time.time():.0f} s behind what was written here: it was set back"
            yield fault("clock", "clock.set_back", what, "Set it by time synchronisation: timedatectl set-ntp true.")
        else:
            yield good("clock", time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))

    def store(self) -> Iterator[Finding]:
        """Whether the run store is whole, of a release that this one reads, and what waits in it."""
        path = self._data / "runs.sqlite"
        if not path.is_file():
            yield good("store", "none yet: the server has not run")
            return
        restore = "Stop the server and restore it: aimass server restore; the newest backup loses least."
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5) as connection:
                whole = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                version = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
                states = dict(connection.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())
                enrolments = connection.execute("SELECT count(*) FROM enrolments").fetchone()[0]
            connection.close()
        except sqlite3.OperationalError as error:
            yield fault(
                "store",
                "store.busy",
                f"the run store cannot be read: {error}",
                "See who has it open: fuser -v " + str(path),
            )
            return
        except sqlite3.DatabaseError as error:
            yield fault("store", "store.damaged", f"the run store is damaged: {error}", restore)
            return
        if whole != "ok":
            yield fault("store", "store.damaged", "the run store does not pass its own check", restore)
        elif version not in _versions():
            what = f"the run store is of version {version}, which this release does not know"
            yield fault("store", "store.newer", what, "Install the release that wrote it, or a later one.")
        else:
            runs = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
            yield good("store", f"version {version}, runs: {runs}")
        if enrolments:
            fix = (
                "aimass server enrolments --as OPERATOR --out requests.json, to the root holder: aimass pki roster sign"
            )
            yield warning("enrolments", "enrolments.waiting", f"{enrolments} requests wait for the root holder", fix)

    def apps(self) -> Iterator[Finding]:
        """Whether the Flower apps that are installed are whole, and there is a flwr that runs them."""
        apps = shelved(self._folder)
        try:
            if apps:
                check_installed()
        except AimassError as error:
            yield of_error("apps", error)
        for name, digest in apps:
            try:
                find(self._folder, name, digest)
            except AimassError as error:
                yield of_error("apps", error, f"{name} {digest[:16]}: {error.cure or 'remove it and install it again'}")
            else:
                yield good("apps", f"{name} {digest[:16]} is installed and whole")

    def disk(self) -> Iterator[Finding]:
        """Room against the floor below which the server takes no new work."""
        if self._settings is not None:
            free = shutil.disk_usage(self._data if self._data.is_dir() else self._folder).free
            fix = "Free space, aimass run prune, aimass server gc while it is stopped, or lower limits.min_free_bytes."
            yield disk_room(free, self._settings.limits.min_free_bytes, fix)

    def spool(self) -> Iterator[Finding]:
        """What uploads left in a server that does not run."""
        if not (self._data / "spool").is_dir():
            return
        held = bytes_below(self._data / "spool")
        if held and not self._runs:
            what = f"{held / 1e6:.1f} MB of uploads: those of open steps go on, the rest goes at the next start"
            yield warning(
                "spool", "spool.left", what, f"aimass server gc --dry-run --dir {self._folder} shows what no run keeps."
            )
        else:
            yield good("spool", f"{held / 1e6:.1f} MB of uploads")

    def stores(self) -> Iterator[Finding]:
        """Whether the object stores of models and uploads answer, and are this server's."""
        if self._settings is None:
            return
        for url in filter(None, (self._settings.blobs, self._settings.spool)):
            try:
                found = next(iter(open_objects(url).list()), None)
            except AimassError as error:
                yield of_error("stores", error)
            else:
                yield good("stores", f"{url} answers, {'it holds objects' if found else 'it is empty'}")

    def watch(self) -> Iterator[Finding]:
        """Whether health and figures are shown to others than this machine."""
        if self._settings is None or not self._settings.watch_listen:
            return
        host, _ = split_address(self._settings.watch_listen)
        if host in ("localhost", "::1") or host.startswith("127."):
            yield good("watch", f"health and figures at http://{self._settings.watch_listen}")
        else:
            what = f"health and figures are open to others than this machine at {self._settings.watch_listen}"
            yield warning("watch", "watch.open", what, 'Set watch_listen = "127.0.0.1:9464", or guard it.')

    def people(self) -> Iterator[Finding]:
        """Whether people who log in could be let in."""
        if self._settings is not None:
            yield from people_findings(self._settings.people, self._folder, self._trust)


def _versions() -> frozenset[str]:
    """The versions of the store that this release reads."""
    from alembic.config import Config  # noqa: PLC0415  (loaded where a store is looked at)
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "aimass.server:migrations")
    return frozenset(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())
