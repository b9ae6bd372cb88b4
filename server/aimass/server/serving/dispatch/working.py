"""What a dispatcher needs of a worker, wherever that computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aimass.proto.errors import AimassError
from aimass.proto.servable import Array
from aimass.server.serving.workers.protocol import Opened

__all__ = ["Reply", "Working"]

Reply = Mapping[str, Array] | AimassError
"""The outputs, or what the worker raised."""


class Working(Protocol):
    """Holds a version, and is asked one thing at a time; it calls back from the event loop."""

    @property
    def opened(self) -> Opened:
        """What its model takes and answers."""
        ...

    @property
    def idle(self) -> bool:
        """Whether it lives and is asked nothing."""
        ...

    @property
    def resident_bytes(self) -> int:
        """What of it is in memory now; 0 where it is gone."""
        ...

    def when_lost(self, lost: Callable[[], None]) -> None:
        """Call this once when it has ended by itself or was killed, and not by `end`."""
        ...

    def compute(self, tensors: Mapping[str, Sequence[Array]], answered: Callable[[Reply], None]) -> None:
        """Hand it a batch when it is idle, each tensor in parts; raises `LimitExceeded` where it does not fit."""
        ...

    def digest(self, answered: Callable[[Reply], None]) -> None:
        """Ask it, when it is idle, for the SHA-256 of its parameters as they are in its memory."""
        ...

    def kill(self) -> None:
        """End it at once, whatever it does."""
        ...

    async def end(self) -> None:
        """Kill it and wait; nobody is told that it was lost."""
        ...
