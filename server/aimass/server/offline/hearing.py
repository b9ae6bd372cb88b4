"""Who hears of an offline run while it goes, and how it ended."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from aimass.server.runs import Run
from aimass.server.simulation.folder import Committed
from aimass.server.simulation.shell import Hears

__all__ = ["Heard", "Untold"]


class Heard(Hears, Protocol):
    """A context manager around the run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ended(self, run: Run) -> None:
        """The run has ended so."""
        ...


class Untold:
    """Nobody beside who `hears` anyway."""

    def __init__(self, hears: Hears) -> None:
        self._hears = hears

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was begun."""

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        """See `Hears`."""
        self._hears.working(step, round_, done, asked)

    def committed(self, step: Committed, run: Run) -> None:
        """See `Hears`."""
        self._hears.committed(step, run)

    def ended(self, run: Run) -> None:
        """Nobody is waited for."""
