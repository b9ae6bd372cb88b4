"""Bytes that crossed the wire, or did not have to: what a run costs on a link, as it is counted, stored and shown."""

from __future__ import annotations

from aimass.proto.values import Value

__all__ = ["Moved"]


class Moved(Value, frozen=True):
    """Bytes of models and contributions that moved down to callers and up from them; those that were spared because
    a difference went in place of a model."""

    down: int = 0
    up: int = 0
    spared: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(down=self.down + other.down, up=self.up + other.up, spared=self.spared + other.spared)
