"""Runs while they go: one stream a run from the server, for however many viewers; nothing is asked again and again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from aimass.proto.errors import AimassError
from aimass.proto.views import RunView

__all__ = ["Feed", "Watching"]

log = logging.getLogger("aimass.explain.app")
_IDLE_S: Final = 30.0
"""A run at which nobody looked for so long is watched no more."""
_LEAVING_S: Final = 1.0
"""For so long at most the end of a feed waits for its streams to end."""


class Watching(Protocol):
    """What `aimass.proto.api.Run` is to a feed."""

    def watch(self) -> Iterator[RunView]:
        """The run at each change until it has ended, or was left."""
        ...

    def leave(self) -> None:
        """End the watching."""
        ...


class _Watched:
    def __init__(self, first: RunView, now: float, run: Watching) -> None:
        self.view, self.asked_at, self.over, self.run = first, now, first.summary.state.final, run
        self.error: AimassError | None = None
        self.following: threading.Thread | None = None

    def leave(self) -> None:
        """End the watching, if it has not ended."""
        if not self.over:
            self.run.leave()


class Feed:
    """The newest view of each run that somebody looks at. For any number of threads."""

    def __init__(self, open_run: Callable[[str], tuple[RunView, Watching]], now: Callable[[], float] = time.monotonic):
        self._open, self._now = open_run, now
        self._lock = threading.Lock()
        self._runs: dict[str, _Watched] = {}
        self._looked_at, self._closed = now(), False

    def latest(self, run_id: str) -> RunView:
        """The run as last heard of; from the first look on it is followed. Raises what ended its stream."""
        self.sweep()
        with self._lock:
            self._looked_at = self._now()
            held = self._runs.get(run_id)
            if held is not None and held.error is None:
                held.asked_at = self._now()
                return held.view
            if held is not None:
                del self._runs[run_id]
                if held.error is not None:
                    raise held.error
        view, run = self._open(run_id)
        fresh = _Watched(view, self._now(), run)
        with self._lock:
            if self._closed:  # it is not followed over a connection that ends
                return view
            held = self._runs.setdefault(run_id, fresh)
            if held is fresh and not fresh.over:
                fresh.following = threading.Thread(
                    target=self._follow, args=(run_id, fresh, run), name="aimass-feed", daemon=True
                )
                fresh.following.start()
        return held.view

    @property
    def used_at(self) -> float:
        """When somebody looked at a run last, by the feed's clock."""
        with self._lock:
            return self._looked_at

    def close(self) -> None:
        """Leave all runs, before the connection that they are watched over ends; calling it twice is fine.

        A stream whose loop has been stopped would never say that it has ended.
        """
        with self._lock:
            self._closed = True
            left = tuple(self._runs.values())
            self._runs.clear()
        for held in left:
            held.leave()
        until = time.monotonic() + _LEAVING_S
        for held in left:
            if held.following is not None:
                held.following.join(max(0.0, until - time.monotonic()))

    def sweep(self) -> None:
        """Leave runs at which nobody looks, also those of which nothing is heard, and forget ended ones."""
        with self._lock:
            left = [(run_id, held) for run_id, held in self._runs.items() if self._now() - held.asked_at > _IDLE_S]
            for run_id, _ in left:
                del self._runs[run_id]
        for _, held in left:
            held.leave()

    def _follow(self, run_id: str, held: _Watched, run: Watching) -> None:
        try:
            for view in run.watch():
                with self._lock:
                    held.view, held.over = view, view.summary.state.final
                    if self._runs.get(run_id) is not held:
                        return
        except AimassError as error:
            with self._lock:
                held.error = error
        except BaseException as error:  # noqa: BLE001  (a thread of its own: what ends it is said, and looked at anew)
            log.error("a run is not followed any more: %s", type(error).__name__)
            with self._lock:
                if self._runs.get(run_id) is held:
                    del self._runs[run_id]
