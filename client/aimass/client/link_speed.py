"""How fast models come to this partner, as the last one told that was large enough to tell."""

from __future__ import annotations

from typing import Final

__all__ = ["LinkSpeed"]

_TELLING: Final = 256 << 10
"""Fewer bytes are here before a link shows what it carries."""


class LinkSpeed:
    """One for a daemon: its runs share a link."""

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None

    def moved(self, size: int, seconds: float) -> None:
        """So many bytes came in so many seconds."""
        if size >= _TELLING and seconds > 0:
            self.bytes_per_s = size / seconds
