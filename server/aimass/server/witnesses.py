"""Whose signed heads a partner hears with a step: so many and no more, spread evenly over all. Pure.

The names that have signed stand on a circle, in the order of SHA-256(label, run, step, name), and each partner hears
those that follow it. So its witnesses are a random set of the others, another one in each step, and nobody's word is
heard by more partners than another's. What that finds of a lie is in docs/architecture.md.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable
from typing import Final

__all__ = ["WITNESSES", "Circle"]

WITNESSES: Final = 32
_LABEL: Final = b"AIMass witnesses v1\0"


class Circle:
    """The names of one step of a run on their circle."""

    def __init__(self, run_id: str, step: int, names: Iterable[str]) -> None:
        self._seed = _LABEL + bytes.fromhex(run_id) + step.to_bytes(8, "big")
        self._placed = sorted((self._place(name), name) for name in names)

    def _place(self, name: str) -> bytes:
        return hashlib.sha256(self._seed + name.encode()).digest()

    def witnesses(self, partner: str, most: int = WITNESSES) -> tuple[str, ...]:
        """The `most` names that follow `partner`, all others where there are fewer."""
        count = len(self._placed)
        start = bisect.bisect_right(self._placed, (self._place(partner), partner))
        around = (self._placed[(start + offset) % count][1] for offset in range(min(count, most + 1)))
        return tuple(name for name in around if name != partner)[:most]
