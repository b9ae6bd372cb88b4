"""How far an explanation is, on standard error: a line that moves on a terminal, a line a twentieth elsewhere."""

from __future__ import annotations

import argparse
import sys
from types import TracebackType
from typing import Final, TextIO

__all__ = ["Progress"]


_STEP: Final = 0.05
"""How much further work is between two lines in a log."""


class Progress:
    """`tell` of a `Work`. Nothing is said where somebody asked for quiet or for JSON."""

    def __init__(self, args: argparse.Namespace, stream: TextIO | None = None) -> None:
        found = sys.stderr if stream is None else stream
        self._stream = None if args.quiet or args.json else found
        self._moves, self._said, self._wide, self._next = found.isatty(), "", 0, 0.0

    def __call__(self, share: float, what: str) -> None:
        """Say it, where it is another part or per cent on a terminal, or far enough from what was said last."""
        line = f"{100 * share:3.0f} % {what}"[:78]
        if self._stream is None or (self._said == line if self._moves else share < self._next):
            return
        self._said, self._next = line, share + _STEP
        self._stream.write(f"\r{line:<{self._wide}}" if self._moves else f"{line}\n")
        self._stream.flush()
        self._wide = len(line)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None and self._moves and self._wide:
            self._stream.write("\n")
