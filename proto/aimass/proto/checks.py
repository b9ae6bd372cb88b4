"""What a check came to, and the judgements that every kind of folder shares: pure, over what a probe has found.

A finding says what is so and, where it is not as it should be, the command or the edit that mends it. It holds no
secret and quotes no row.
"""

from __future__ import annotations

import datetime as dt
import enum
import ssl
from collections.abc import Iterable
from typing import Final

from aimass.proto.errors import AimassError
from aimass.proto.values import Value

__all__ = [
    "Finding",
    "State",
    "clock_skew",
    "disk_room",
    "expiry",
    "fault",
    "good",
    "handshake_fault",
    "of_error",
    "sound",
    "warning",
]

_SKEW_S: Final = 30.0
_SKEW_MOST_S: Final = 120.0
_SOON_S: Final = 30 * 86_400.0
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64  # X509_V_ERR_* of OpenSSL
_NOBODYS: Final = frozenset({18, 19, 20, 21})


class State(enum.StrEnum):
    """A fault keeps work from being done; a warning will, or may."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(Value, frozen=True):
    """One line of the doctor's: the check, what it found, and what mends it."""

    state: State
    check: str
    what: str
    fix: str = ""
    code: str = ""


def good(check: str, what: str) -> Finding:
    """As it should be."""
    return Finding(state=State.OK, check=check, what=what)


def warning(check: str, code: str, what: str, fix: str) -> Finding:
    """Not wrong yet, or only perhaps."""
    return Finding(state=State.WARNING, check=check, what=what, fix=fix, code=code)


def fault(check: str, code: str, what: str, fix: str) -> Finding:
    """Wrong."""
    return Finding(state=State.FAULT, check=check, what=what, fix=fix, code=code)


def of_error(check: str, error: AimassError, fix: str = "") -> Finding:
    """A fault that some part of ours has a name for, with its cure unless `fix` is a better one."""
    found = error.what.rstrip(".")
    found += f" (got {error.value})" if error.value is not None else ""
    found += f" (allowed: {error.limit})" if error.limit is not None else ""
    return fault(check, error.code, found, fix or error.cure or "See the guides; this text names what is wrong.")


def sound(findings: Iterable[Finding]) -> bool:
    """Whether none is a fault."""
    return all(finding.state is not State.FAULT for finding in findings)


def clock_skew(skew_s: float) -> Finding:
    """The server's clock less this machine's, in seconds: certificates, tokens and deadlines hang on it."""
    if abs(skew_s) <= _SKEW_S:
        return good("clock", f"within {max(1.0, abs(skew_s)):.0f} s of the server's")
    told = f"this machine's clock is {abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead of'} the server's"
    fix = "Set it by time synchronisation: timedatectl set-ntp true; where this one is right, correct the server's."
    return (fault if abs(skew_s) > _SKEW_MOST_S else warning)("clock", "clock.skew", told, fix)


def expiry(whose: str, ends_at: float, now: float, fix: str) -> Finding:
    """A certificate's end, in Unix time."""
    day = dt.datetime.fromtimestamp(ends_at, dt.UTC).strftime("%Y-%m-%d")
    if ends_at <= now:
        return fault("certificate", "certificate.expired", f"{whose} certificate ended on {day}", fix)
    if ends_at - now < _SOON_S:
        return warning("certificate", "certificate.soon", f"{whose} certificate ends on {day}", fix)
    return good("certificate", f"{whose} certificate holds until {day}")


def disk_room(free_bytes: int, floor_bytes: int, fix: str) -> Finding:
    """Free space against the floor below which work stops; less than twice that is a warning."""
    told = f"{free_bytes / 1e9:.1f} GB free, {floor_bytes / 1e9:.1f} GB needed"
    if free_bytes < floor_bytes:
        return fault("disk", "disk.low", told, fix)
    return warning("disk", "disk.low_soon", told, fix) if free_bytes < 2 * floor_bytes else good("disk", told)


def handshake_fault(error: ssl.SSLError, host: str) -> Finding:
    """Why a TLS handshake with `host` failed, in the words of who has to mend it."""
    number = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    match number:
        case n if n in _NOBODYS:
            return fault(
                "tls",
                "tls.other_root",
                "the server's certificate is of another root than the one held here",
                "Another server answers at this address, or the root was replaced: compare fingerprints with the root "
                "holder, see `aimass client roster show`, and correct `server` in client.toml.",
            )
        case n if n in (_OTHER_HOST, _OTHER_ADDRESS):
            return fault(
                "tls",
                "tls.name",
                f"the server's certificate is not for the name {host}",
                "Correct `server` in client.toml to a name that the certificate has, or have the root holder make a "
                f"server's token with --host {host}.",
            )
        case n if n == _EXPIRED:
            return fault(
                "tls",
                "tls.expired",
                "the server's certificate has expired, or this machine's clock is ahead",
                "Compare this clock (date -u) with another; else the operator renews: aimass pki renew.",
            )
        case n if n == _NOT_YET:
            return fault(
                "tls",
                "tls.not_yet_valid",
                "the server's certificate is not valid yet: this machine's clock is behind",
                "Set the clock: timedatectl set-ntp true.",
            )
    return fault(
        "tls",
        "tls.handshake",
        f"no TLS 1.3 handshake: {getattr(error, 'reason', '') or 'the other side ended it'}",
        "What answers there is no AIMass server, or something between opens TLS: ask the network's keeper to let this "
        "connection through as it is.",
    )
