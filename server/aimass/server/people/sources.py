"""Where an identity provider's keys come from: its URL, or a file that the operator put down."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import urllib3

from aimass.proto.errors import BadInput, Unavailable
from aimass.server.people.key_sets import MOST_KEY_BYTES
from aimass.server.people.settings import PeopleSettings

__all__ = ["key_source"]

_PATIENCE_S: Final = 5.0
_CHUNK: Final = 16 << 10


def key_source(settings: PeopleSettings, folder: Path) -> Callable[[], bytes]:
    """What reads the set of keys anew each time; raises `Unavailable` where it cannot."""
    if "://" not in settings.keys:
        return lambda: _read(folder / settings.keys)
    authority = folder / settings.ca if settings.ca else None
    if authority is not None and not authority.is_file():
        raise BadInput("no file of roots here", code="people.ca", value=authority)
    pool = urllib3.PoolManager(
        retries=False,
        timeout=urllib3.Timeout(connect=_PATIENCE_S, read=_PATIENCE_S),
        ca_certs=None if authority is None else str(authority),
    )
    return lambda: _fetch(pool, settings.keys)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise Unavailable(
            f"the file of keys cannot be read: {error.strerror}", code="people.keys_file", value=path
        ) from error


def _fetch(pool: urllib3.PoolManager, url: str) -> bytes:
    """Redirects are not followed: the operator named the place."""
    by = time.monotonic() + _PATIENCE_S
    try:
        response = pool.request("GET", url, redirect=False, preload_content=False)
        try:
            if response.status != 200:
                raise Unavailable("no keys are there", code="people.keys_url", value=f"{url}: HTTP {response.status}")
            return _whole(response, url, by)
        finally:
            response.close()
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(
            "the identity provider cannot be reached", code="people.keys_url", value=f"{url}: {type(error).__name__}"
        ) from error


def _whole(response: urllib3.BaseHTTPResponse, url: str, by: float) -> bytes:
    data = b""
    for chunk in response.stream(_CHUNK):
        data += chunk
        if len(data) > MOST_KEY_BYTES:
            break  # refused as too large where it is read
        if time.monotonic() > by:
            raise Unavailable("the identity provider sends too slowly", code="people.keys_url", value=url)
    return data
