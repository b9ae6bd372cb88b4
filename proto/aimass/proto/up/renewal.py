"""Certificates that end soon are made anew at a start, while the home has its root: nobody is woken by their end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from aimass.proto.errors import AimassError
from aimass.proto.home import CERTIFICATE
from aimass.proto.up.founding import MEMBERS, RunCommands

__all__ = ["ends_at", "renew"]

_DAYS: Final = 90.0
_DAY_S: Final = 86_400.0


def ends_at(folder: Path) -> float:
    """When the first certificate of a home's own members ends, in Unix seconds; those of others are not its own to
    install."""
    return min(_end_of(folder / name / CERTIFICATE) for name in MEMBERS)


def _end_of(path: Path) -> float:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


def renew(folder: Path, now: float, run: RunCommands, warn: Callable[[str], None], days: float = _DAYS) -> bool:
    """Have the root certify anew what ends within `days`, and install it; whether that was due and all of it done.

    What goes wrong is told and stops nothing: the certificates that are there hold for some time yet.
    """
    left = (ends_at(folder) - now) / _DAY_S
    if left >= days:
        return False
    if not (folder / "root" / "root.pem").is_file():
        warn(f"certificates end in {left:.0f} days and the root is not here: docs/operator.md says how it renews them")
        return False
    signed = [["pki", "renew", "--root", "root", "--days", f"{days:g}", "--out", "bundle.json"]]
    installed = [
        ["server", "admit", "bundle.json", "--dir", "server"],
        *(["client", "enroll", "--dir", name, "--bundle", "bundle.json"] for name in MEMBERS),
    ]
    failed = False
    for commands in (signed, *([one] for one in installed)):
        try:
            run(commands, folder)
        except AimassError as error:  # of one member, who may have been revoked: the others get theirs
            warn(f"certificates end in {left:.0f} days, and renewing one failed: {error}")
            failed = True
    return not failed
