"""Curves that take minutes each: computed two at a time, and kept, so that a bench that was broken off goes on."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

__all__ = ["Keyed", "compute", "kept"]


class Keyed(Protocol):
    """What a curve is known by."""

    @property
    def key(self) -> str: ...


C = TypeVar("C", bound=Keyed)


def kept(path: Path) -> dict[str, list[float]]:
    """The curves in a file, by key."""
    return json.loads(path.read_text()) if path.is_file() else {}


def compute(
    path: Path, curves: Sequence[C], values: Callable[[C], list[float]], done: Callable[[C], None] = lambda _: None
) -> None:
    """Compute those that the file does not have, each in a process of its own; `done` hears of each that is kept."""
    missing = [curve for curve in curves if curve.key not in kept(path)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        waiting = {pool.submit(values, curve): curve for curve in missing}
        for ready in concurrent.futures.as_completed(waiting):
            curve = waiting[ready]
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(kept(path) | {curve.key: ready.result()}, indent=1))
            done(curve)
