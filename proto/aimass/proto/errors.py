"""The one tree of errors, for everybody who has to tell a person what went wrong and what to do about it.

Every error names what was wrong, the offending value, the limit that it broke and a cure. The class decides, in one
table, the gRPC status that crosses the wire and the exit code that a command ends with; `code` is the stable name
that programs and both sides' logs share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Final

__all__ = [
    "EXIT_CODES",
    "METADATA_KEY",
    "AimassError",
    "BadInput",
    "Conflict",
    "DeadlinePassed",
    "IntegrityError",
    "InternalError",
    "LimitExceeded",
    "NotFound",
    "NotInstalled",
    "OutOfSpace",
    "Refused",
    "Stopped",
    "Unauthenticated",
    "Unavailable",
    "VersionRefused",
    "WrongState",
    "from_parts",
    "from_wire",
    "printable",
    "status_name",
    "to_wire",
]

METADATA_KEY: Final = "aimass-error-bin"
"""Trailing metadata under which an error crosses the wire, as the JSON of `to_wire`."""

_MAX_WIRE_TEXT: Final = 500  # four texts, escaped, stay below the 8 KiB that gRPC allows for metadata


class AimassError(Exception):
    """Base of every error that this project raises on purpose.

    `what` is a sentence; `value` and `limit` are what was found and what is allowed; `cure` tells the reader what to
    do next. None of them may hold a secret: errors are logged and sent.
    """

    kind: ClassVar[str] = "internal"

    def __init__(
        self, what: str, *, code: str = "", value: object = None, limit: object = None, cure: str = ""
    ) -> None:
        self.what = what
        self.code = code or self.kind
        self.value = None if value is None else _short(value)
        self.limit = None if limit is None else _short(limit)
        self.cure = cure
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The error as one line: what, value, limit, cure."""
        parts = [self.what.rstrip(".")]
        if self.value is not None:
            parts.append(f"got {self.value}")
        if self.limit is not None:
            parts.append(f"allowed: {self.limit}")
        line = "; ".join(parts)
        end = line if line.endswith("?") else f"{line}."
        return f"{end} {self.cure}" if self.cure else end


class BadInput(AimassError):
    """A file, message or argument that does not have the agreed form."""

    kind = "bad_input"


class Unauthenticated(AimassError):
    """Who speaks could not be established: certificate, token or signature."""

    kind = "unauthenticated"


class Refused(AimassError):
    """Understood and not allowed: role, policy, roster or revocation."""

    kind = "refused"


class NotFound(AimassError):
    """What was named does not exist here."""

    kind = "not_found"


class Conflict(AimassError):
    """Something else already stands under this name, key or offset."""

    kind = "conflict"


class WrongState(AimassError):
    """Right request at the wrong time."""

    kind = "wrong_state"


class VersionRefused(AimassError):
    """The two sides share no protocol or format version."""

    kind = "version"


class LimitExceeded(AimassError):
    """Larger, longer or more often than the settings allow."""

    kind = "limit"


class OutOfSpace(AimassError):
    """The disk is full; what was there before is intact."""

    kind = "out_of_space"


class IntegrityError(AimassError):
    """Bytes that do not match their digest, or a history that does not extend itself."""

    kind = "integrity"


class Unavailable(AimassError):
    """The other side is away; the same request may succeed later."""

    kind = "unavailable"


class DeadlinePassed(AimassError):
    """It did not happen in time."""

    kind = "deadline"


class NotInstalled(AimassError):
    """A command or task needs a package that is not installed here."""

    kind = "not_installed"


class Stopped(AimassError):
    """A person or the plan ended it."""

    kind = "stopped"


class InternalError(AimassError):
    """A fault of ours; the text stays on the side where it happened."""

    kind = "internal"


_TABLE: Final[tuple[tuple[type[AimassError], str, int], ...]] = (
    (BadInput, "INVALID_ARGUMENT", 2),
    (Unauthenticated, "UNAUTHENTICATED", 3),
    (Refused, "PERMISSION_DENIED", 3),
    (NotFound, "NOT_FOUND", 4),
    (Conflict, "ALREADY_EXISTS", 6),
    (WrongState, "FAILED_PRECONDITION", 6),
    (VersionRefused, "UNIMPLEMENTED", 6),
    (LimitExceeded, "OUT_OF_RANGE", 7),
    (OutOfSpace, "RESOURCE_EXHAUSTED", 7),
    (IntegrityError, "DATA_LOSS", 8),
    (Unavailable, "UNAVAILABLE", 5),
    (DeadlinePassed, "DEADLINE_EXCEEDED", 5),
    (NotInstalled, "FAILED_PRECONDITION", 9),
    (Stopped, "CANCELLED", 1),
    (InternalError, "INTERNAL", 1),
)
"""The one table: error class, gRPC status code, exit code of a command."""

_BY_KIND: Final[Mapping[str, type[AimassError]]] = {row[0].kind: row[0] for row in _TABLE}
_STATUS: Final[Mapping[str, str]] = {row[0].kind: row[1] for row in _TABLE}
EXIT_CODES: Final[Mapping[str, int]] = {row[0].kind: row[2] for row in _TABLE}
"""Exit code of a command by kind of error. 0 is success, 130 is Ctrl-C."""


def status_name(error: AimassError) -> str:
    """Name of the gRPC status code that carries `error`."""
    return _STATUS[error.kind]


def to_wire(error: AimassError) -> bytes:
    """The error as the JSON bytes that cross the wire under `METADATA_KEY`."""
    fields = {"kind": error.kind, "code": error.code, "what": error.what, "cure": error.cure}
    if error.value is not None:
        fields["value"] = error.value
    if error.limit is not None:
        fields["limit"] = error.limit
    return json.dumps({name: text[:_MAX_WIRE_TEXT] for name, text in fields.items()}, sort_keys=True).encode()


def from_wire(data: bytes) -> AimassError:
    """The error that the other side raised; bytes that are not one give an `InternalError` that says so."""
    try:
        fields = json.loads(data)
        texts = {name: printable(str(fields[name]), _MAX_WIRE_TEXT) for name in ("kind", "code", "what", "cure")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return _unreadable()
    return from_parts(
        texts["kind"],
        texts["what"],
        code=texts["code"],
        value=fields.get("value"),
        limit=fields.get("limit"),
        cure=texts["cure"],
    )


def from_parts(
    kind: str, what: str, *, code: str, value: object = None, limit: object = None, cure: str = ""
) -> AimassError:
    """The error of a `kind` by name; an unknown kind gives an `InternalError` that says so."""
    error = _BY_KIND.get(kind)
    return error(what, code=code, value=value, limit=limit, cure=cure) if error else _unreadable()


def _unreadable() -> InternalError:
    return InternalError("the other side sent an error that cannot be read", code="internal.unreadable_error")


def printable(text: str, most: int = 100) -> str:
    """Text of the other side as a log or a terminal may show it: no control characters, no more than `most`."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:most])


def _short(value: object, limit: int = 200) -> str:
    text = printable(str(value), limit + 1)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(str(value))} characters)"
