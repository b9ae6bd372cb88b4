"""What an S3 store says, as named errors. Nothing of its own text goes on: it may quote keys and what was signed."""

from __future__ import annotations

import re
from typing import Final

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from aimass.proto.errors import AimassError, BadInput, NotFound, OutOfSpace, Refused, Unauthenticated, Unavailable
from aimass.proto.objects import ObjectStore, exists, replaced, unknown

__all__ = ["beyond_the_end", "named"]

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_METADATA: Final = re.compile(r"https?://(169\.254\.|\[?fd00:ec2)")
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_WRONG_KEYS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity", "MissingSecurityHeader"}
)
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity"})
_PASSING: Final = frozenset({"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"})


def beyond_the_end(error: Exception) -> bool:
    """Whether the store says that a range begins behind an object's last byte."""
    return _status(error) == 416


def named(error: Exception, store: ObjectStore, key: str) -> AimassError:
    """The error that a caller reads for what obstore raised about `key`."""
    text, status = str(error), _status(error)
    if _METADATA.search(text):
        return Unauthenticated(
            "no credentials for this store",
            code="storage.no_credentials",
            value=store.url,
            cure="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role; ?anonymous=true asks without.",
        )
    found = _CODE.search(text)
    code = found[1] if found else ""
    value = f"{' '.join(filter(None, (str(status or ''), code))) or 'no answer'} for {key} at {store.url}"
    for wanted in (_of_code(code, value), _of_kind(error, store, key), _of_status(error, status, value)):
        if wanted is not None:
            return wanted
    return Unavailable("the store does not answer", code="storage.unavailable", value=value)


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _of_code(code: str, value: str) -> AimassError | None:
    if code in _EXPIRED:
        return Unauthenticated(
            "the credentials for this store have expired",
            code="storage.expired",
            value=value,
            cure="Renew them and start again; keys in a profile file are read again by themselves.",
        )
    if code == "RequestTimeTooSkewed":
        return Unauthenticated("the clocks differ", code="storage.clock", value=value, cure="Set this machine's clock.")
    if code in _WRONG_KEYS:
        return _unknown_keys(value)
    if code in _FULL:
        return _full(value)
    if code in _PASSING:
        return Unavailable("the store asks us to come again", code="storage.unavailable", value=value)
    if code == "NoSuchBucket":
        return NotFound("no such bucket", code="storage.bucket", value=value, cure="Make it, or correct the URL.")
    return None


def _of_kind(error: Exception, store: ObjectStore, key: str) -> AimassError | None:
    if isinstance(error, FileNotFoundError):
        return unknown(store, key)
    if isinstance(error, AlreadyExistsError):
        return exists(store, key)
    if isinstance(error, PreconditionError):
        return replaced(store, key)
    return None


def _of_status(error: Exception, status: int | None, value: str) -> AimassError | None:
    if isinstance(error, UnauthenticatedError) or status == 401:
        return _unknown_keys(value)
    if isinstance(error, PermissionDeniedError) or status == 403:
        return Refused(
            "the store does not let us",
            code="storage.denied",
            value=value,
            cure="Give the user of these credentials the right to read, write, delete and list there.",
        )
    if status is None or status in {408, 429}:
        return None
    if status == 501:
        return Refused(
            "the store cannot do what is asked of it",
            code="storage.unsupported",
            value=value,
            cure="Alibaba's OSS is spoken to as oss://; others need a release with conditional writes.",
        )
    if status == 507:
        return _full(value)
    if 300 <= status < 400:
        return BadInput(
            "the bucket is in another region", code="storage.region", value=value, cure="Name it: ?region=eu-central-1."
        )
    return Refused("the store refuses the request", code="storage.refused", value=value) if status < 500 else None


def _unknown_keys(value: str) -> Unauthenticated:
    return Unauthenticated("the store does not know these credentials", code="storage.credentials", value=value)


def _full(value: str) -> OutOfSpace:
    return OutOfSpace(
        "the store is full", code="storage.full", value=value, cure="Free space there, or raise its quota."
    )
