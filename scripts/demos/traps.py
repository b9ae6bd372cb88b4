"""Kills at a chosen moment: a thread that reads a process's log until a line is there, and then acts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["Trap"]

_EVERY_S: Final = 0.0005


class Trap:
    """Set when made: from the log's end on, the first line that matches `pattern` and that `act` takes springs it."""

    def __init__(self, log: Path, pattern: str, act: Callable[[re.Match[str]], bool]) -> None:
        self._log, self._pattern, self._act = log, re.compile(pattern), act
        self._from, self._stop = log.stat().st_size, threading.Event()
        self.sprung = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            with self._log.open() as lines:
                lines.seek(self._from)
                held = ""
                while not self._stop.is_set():
                    held += lines.readline()
                    if not held.endswith("\n"):
                        time.sleep(_EVERY_S)
                        continue
                    if (match := self._pattern.search(held)) and self._act(match):
                        self.sprung = True
                        return
                    held = ""
        except Exception as error:  # noqa: BLE001  (whoever waits for it hears of it)
            self._error = error

    def done(self, seconds: float = 30.0) -> bool:
        """Wait until it has sprung and acted, or give it up; whether it did. Raises what its act raised."""
        self._thread.join(seconds)
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.sprung
