"""How often newcomers may knock: the enrolment port is open to everybody, so what it holds and does is bounded."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

from aimass.proto.errors import LimitExceeded
from aimass.server.settings import EnrolmentSettings

__all__ = ["EnrolmentLimits", "address_of"]

_MINUTE_S: Final = 60.0
_CURE: Final = "Wait a minute and try again."


def address_of(peer: str) -> str:
    """The host of a gRPC peer such as `ipv4:10.0.0.1:4242`."""
    return peer.rpartition(":")[0] or peer


class EnrolmentLimits:
    """Counts requests of the last minute and streams that wait, in all and by address."""

    def __init__(self, settings: EnrolmentSettings) -> None:
        self._settings = settings
        self._recent: list[tuple[float, str]] = []
        self._waiting: Counter[str] = Counter()

    def take(self, address: str, now: float) -> None:
        """Count a request; raises `LimitExceeded` beyond what a minute allows."""
        self._recent = [(at, who) for at, who in self._recent if 0 <= now - at < _MINUTE_S]
        _check("too many enrolments at once", "enrol.rate", len(self._recent), self._settings.per_minute)
        mine = sum(who == address for _, who in self._recent)
        _check("too many enrolments from one address", "enrol.rate", mine, self._settings.per_address)
        self._recent.append((now, address))

    @contextlib.contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """Count a stream while it waits for its answer; raises `LimitExceeded` where too many do."""
        _check("too many newcomers wait", "enrol.waiting", self._waiting.total(), self._settings.waiting)
        mine = self._waiting[address]
        _check("too many newcomers wait at one address", "enrol.waiting", mine, self._settings.per_address)
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            self._waiting += Counter()  # forgets addresses that wait no more


def _check(what: str, code: str, found: int, limit: int) -> None:
    if found >= limit:
        raise LimitExceeded(what, code=code, value=found, limit=limit, cure=_CURE)
