"""Where somebody was going who had to log in first: Streamlit leads back to the first page, whatever the link said."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["Place", "Wanted", "browser_of"]

_KEPT_S: Final = 900.0
_MOST: Final = 1_000
_LONGEST: Final = 8_192
"""Letters of a place: whoever is not logged in may bring one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A page by its name, and what stood in the address."""

    page: str
    query: Mapping[str, str | list[str]]

    @property
    def letters(self) -> int:
        """How long it is, each value counted as one more: an empty one takes room too."""
        values = [one for said in self.query.values() for one in ([said] if isinstance(said, str) else said)]
        return sum(len(text) + 1 for text in (self.page, *self.query, *values))


class Wanted:
    """Places by browser, each told once and soon. For any number of threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, Place]] = OrderedDict()

    def keep(self, browser: str, place: Place) -> None:
        """This browser goes to log in from there; one that is not known, or brings too much, is not led back."""
        if not browser or place.letters > _LONGEST:
            return
        with self._lock:
            self._held.pop(browser, None)
            self._held[browser] = (self._now(), place)
            while len(self._held) > _MOST:
                self._held.popitem(last=False)

    def take(self, browser: str) -> Place | None:
        """Where it was, if that was lately; the next time nothing."""
        with self._lock:
            at, place = self._held.pop(browser, (float("-inf"), None))
        return place if self._now() - at <= _KEPT_S else None


def browser_of(cookie: str) -> str:
    """What tells browsers apart: the random bytes in Streamlit's cookie against forged requests, hashed.

    The cookie is `2|MASK|MASKED|TIME` in hexadecimal, and the mask is another at each answer (Tornado's version 2).
    Nothing of one that is not so.
    """
    kind, _, rest = cookie.strip("\"'").partition("|")
    mask, _, rest = rest.partition("|")
    masked, _, _ = rest.partition("|")
    try:
        over, data = bytes.fromhex(mask), bytes.fromhex(masked)
    except ValueError:
        return ""
    if kind != "2" or len(over) != 4 or len(data) < 16:
        return ""
    return hashlib.sha256(bytes(byte ^ over[at % 4] for at, byte in enumerate(data))).hexdigest()
