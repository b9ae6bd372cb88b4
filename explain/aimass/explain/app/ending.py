"""The process ends soon after it was told to, whatever a model in one of its threads still computes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["PATIENCE_S", "Ending", "lasting"]

log = logging.getLogger("aimass.explain.app")
PATIENCE_S: Final = 5.0
"""From the signal on: open connections have three of them, and work looks at its wish to stop between chunks."""


def lasting(threads: Iterable[threading.Thread]) -> tuple[str, ...]:
    """Names of those that hold a process until they end."""
    return tuple(sorted(one.name for one in threads if not one.daemon and one is not threading.main_thread()))


class Ending:
    """Once for a process. A thread cannot be ended from outside, so who does not end holds the interpreter for ever."""

    def __init__(
        self,
        patience_s: float = PATIENCE_S,
        *,
        threads: Callable[[], Iterable[threading.Thread]] = threading.enumerate,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """`leave` ends the process as it stands, with an exit code."""
        self._patience_s, self._threads, self._leave = patience_s, threads, leave
        self._begun = threading.Event()

    def begin(self, code: int) -> None:
        """The process is told to end: after the patience it is left with `code`, and that is said."""
        if self._begun.is_set():
            return
        self._begun.set()
        threading.Thread(target=self._end, args=(code,), name="aimass-ending", daemon=True).start()

    def _end(self, code: int) -> None:
        threading.Event().wait(self._patience_s)
        names = ", ".join(lasting(self._threads())) or "the server itself"
        log.warning("ended after %g s without waiting for what still computes: %s", self._patience_s, names)
        logging.shutdown()
        self._leave(code)
