"""Everybody who runs programs beside the engine, as one: each knows its own runs."""

from __future__ import annotations

from aimass.server.live import Live, Programs

__all__ = ["Together"]


class Together:
    """See `Programs`."""

    def __init__(self, *parts: Programs) -> None:
        self._parts = parts

    def changed(self, live: Live) -> None:
        """See `Programs`."""
        for part in self._parts:
            part.changed(live)

    def stop(self) -> None:
        """See `Programs`."""
        for part in self._parts:
            part.stop()
