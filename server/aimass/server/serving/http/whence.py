"""Whence a request comes, by its headers: a page of a site can make a browser on this machine ask what it cannot ask.

A name of the site may resolve to this machine (DNS rebinding), and then the page reads the answer too; its requests
name the site as their host. Fetch Metadata: W3C, "Fetch Metadata Request Headers".
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aimass.proto.loopback import is_loopback
from aimass.server.serving.access import Whence

__all__ = ["whence"]

_PASSED_ON: Final = frozenset({b"x-forwarded-for", b"forwarded", b"origin"})
_SIGNS: Final = _PASSED_ON | {b"sec-fetch-site", b"referer"}
_OWN: Final = frozenset({b"none", b"same-origin"})


def whence(headers: Mapping[bytes, bytes]) -> Whence:
    """What the headers say of the sender. Without a host they are of no browser."""
    host = headers.get(b"host")
    if host is not None and not _is_here(host):
        return "other name"
    if _SIGNS.isdisjoint(headers):
        return "here"
    own = _PASSED_ON.isdisjoint(headers) and headers.get(b"sec-fetch-site", b"none") in _OWN
    return "here" if own and _is_of_here(headers.get(b"referer", b"http://localhost")) else "passed on"


@functools.lru_cache(256)
def _is_here(host: bytes) -> bool:
    """Whether HOST or HOST:PORT is a name of this machine."""
    name = host.decode("latin-1")
    return is_loopback(name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0])


def _is_of_here(url: bytes) -> bool:
    try:
        return _is_here(urlsplit(url).netloc)
    except ValueError:
        return False
