"""Whom an address stands for where callers without a name are counted. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["neighbourhood"]

_ONE_HOUSEHOLD: Final = 64
"""Bits of an IPv6 address that a provider gives away at least: who has such a network has all of it (RFC 6177)."""


def neighbourhood(address: str) -> str:
    """The address itself, of IPv6 its network of 64 bits; what is no address stands for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> _ONE_HOUSEHOLD << _ONE_HOUSEHOLD, _ONE_HOUSEHOLD)))
