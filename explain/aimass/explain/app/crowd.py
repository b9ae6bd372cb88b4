"""How many browsers the app holds links with, and how long one may hold its place without a word.

Anybody who reaches the port may open a link, before any login. So places are bounded, those of WebSockets more tightly,
since they stay: pages, and the word that the app lives, always have some left.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aimass.explain.app.settings import AppSettings

__all__ = ["BoundedHttp", "Bounds", "Sweep", "admits", "behind_proxy", "party"]

_V6_NETWORK: Final = 64
"""Bits of an IPv6 address that one household is given: the others it chooses itself."""
_LATER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 36\r\n"
    b"retry-after: 10\r\nconnection: close\r\n\r\nToo many look at once. Come later.\r\n"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """Links of all browsers, and how many of them may be WebSockets; seconds that a peer may keep the app waiting.

    `head_s` is for a whole request's head, from the link's beginning or the head's first byte on; `body_s` for the
    next piece of a body; `taking_s` for taking any of what is sent. `by_address` is off where a proxy stands before
    the app: all come from its address.
    """

    links: int = 512
    sockets: int = 384
    head_s: float = 10.0
    body_s: float = 30.0
    taking_s: float = 60.0
    by_address: bool = True


def admits(most: int, held: int, own: int, *, by_address: bool) -> bool:
    """Whether one more of `most` places is given where `held` are taken, `own` of them by the party that asks.

    Until half are taken nobody's share is looked at: where a proxy stands before the app that it knows nothing of, its
    people have that half at least. Of the other half nobody takes any who has an eighth of all.
    """
    return held < most and not (by_address and held >= most // 2 and own >= most // 8)


@lru_cache(1 << 12)
def party(address: str) -> str:
    """Whom an address stands for; empty for this machine's own, from which a proxy beside the app comes too."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # no internet address: a socket of this machine
        return ""
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_loopback:
        return ""
    return str(found if found.version == 4 else ipaddress.ip_network((found, _V6_NETWORK), strict=False))


def behind_proxy(settings: AppSettings, redirect_uri: str) -> bool:
    """Whether the settings tell of a proxy: people come by a path, or by an https that the app does not speak."""
    return bool(settings.base_path) or (redirect_uri.startswith("https://") and not settings.certificate)


class BoundedHttp(HttpToolsProtocol):
    """Uvicorn's protocol, which takes no link and opens no WebSocket over the bounds, and knows who keeps it waiting.

    (Uvicorn's `limit_concurrency` counts WebSockets and refuses requests alone, so the sockets shut everybody out.)
    """

    def __init__(self, bounds: Bounds, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._bounds = bounds
        self._head_at = self._heard_at = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new link, or a word that there is no place for it."""
        others = tuple(self.connections)
        super().connection_made(transport)
        if not self._admitted(self._bounds.links, others):
            self._come_later()

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        if self.transport.is_closing():
            return
        self._heard_at = self.loop.time()
        if self._between and self.timeout_keep_alive_task is not None:
            self._head_at = self._heard_at
        super().data_received(data)

    def handle_websocket_upgrade(self) -> None:
        """A WebSocket in place of this link, or a word that there is no place for one."""
        sockets = [link for link in self.connections if not isinstance(link, BoundedHttp)]
        if self._admitted(self._bounds.sockets, sockets):
            super().handle_websocket_upgrade()
        else:
            self._come_later()

    @property
    def _between(self) -> bool:
        """Whether no request is at work: none has come whole, or the last one was answered."""
        return self.cycle is None or self.cycle.response_complete

    def late(self, now: float) -> bool:
        """Whether the peer has kept the app waiting for too long; never while the app itself is at work."""
        if self._between:  # of a link that waits for its next request uvicorn keeps the time
            return self.timeout_keep_alive_task is None and now - self._head_at > self._bounds.head_s
        return self.cycle.more_body and not self.flow.read_paused and now - self._heard_at > self._bounds.body_s

    def _admitted(self, most: int, others: Iterable[Any]) -> bool:
        parties = [_party_of(link) for link in others]
        who = _party_of(self)
        by_address = self._bounds.by_address and bool(who)
        return admits(most, len(parties), parties.count(who), by_address=by_address)

    def _come_later(self) -> None:
        self.transport.write(_LATER)
        self.transport.close()


def _party_of(link: Any) -> str:
    return party(link.client[0]) if link.client else ""


class Sweep:
    """Ends links that keep the app waiting: they do not ask, or take nothing of what is sent, closed ones too."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._unsent: dict[Any, tuple[int, float]] = {}

    def __call__(self, links: Iterable[Any], now: float) -> None:
        """Look at all of them; for the loop's thread, each second."""
        held = tuple(links)
        self._unsent = {link: self._looked(link, now) for link in held}
        for link in held:
            size, since = self._unsent[link]
            stuck = size > 0 and now - since > self._bounds.taking_s
            if stuck or (isinstance(link, BoundedHttp) and link.late(now)):
                link.transport.abort()

    def _looked(self, link: Any, now: float) -> tuple[int, float]:
        """How many bytes the peer has yet to take, and since when it has been so many."""
        size, (before, since) = link.transport.get_write_buffer_size(), self._unsent.get(link, (0, now))
        return size, since if size == before else now
