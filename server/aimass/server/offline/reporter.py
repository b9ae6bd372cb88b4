"""Keeps an offline run's record at the training service up to date, on a thread of its own: training never waits.

Steps that could not be told of yet wait, and the newest models with them; of an older one that has to go meanwhile the
record has the figures alone.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from aimass.proto.errors import AimassError, NotFound, OutOfSpace, Unavailable
from aimass.proto.reports import Measured, StepReport
from aimass.proto.storage import Blobs
from aimass.proto.views import RunState, SlotState
from aimass.server.simulation.folder import Committed

__all__ = ["Record", "Reporter", "report_of"]

_HELD: Final = 4
"""Models that wait to be sent."""
_RETRY_S: Final = 2.0
_PATIENCE_S: Final = 120.0
_PARTING_S: Final = 5.0
"""For what is on its way when the run stops here."""
_NAMED: Final = 1_000
"""Shards of one step whose failure is told by name."""
_WORDS: Final = 500


def report_of(step: Committed, *, sent: bool = True) -> StepReport:
    """What the service is told of a step. A metric without a number, over rows that have none, is left out."""
    failed = {name: why[:_WORDS] for name, why in sorted(step.failed.items())[:_NAMED]}
    return StepReport(
        index=step.index,
        kind=step.kind,
        round=step.round,
        asked=step.asked,
        counted=step.counted,
        seconds=step.seconds,
        purpose=step.purpose,
        model=step.model,
        sent=sent,
        metrics={
            name: Measured(mean=mean, weight=step.weights.get(name, 0.0))
            for name, mean in step.metrics.items()
            if math.isfinite(mean)
        },
        slots=dict.fromkeys(failed, SlotState.FAILED),
        reasons=failed,
        statistics=step.statistics,
    )


class Record(Protocol):
    """The run's record at the service: `aimass.proto.reporting.Record`."""

    def step(self, report: StepReport, model: bytes | memoryview = b"") -> None:
        """Tell of a step; told before, it changes nothing."""
        ...

    def end(self, state: RunState, reason: str) -> None:
        """Tell how the run ended."""
        ...


class _Waiting(msgspec.Struct):
    """A step that is yet to be told of, and the model that it made while that is held."""

    report: StepReport
    model: memoryview | None


class Reporter:
    """One for a run. `begin` connects and finds the record; it raises `Unavailable` while there is no way to it."""

    def __init__(
        self,
        begin: Callable[[], Record],
        told: Iterable[Committed],
        models: Blobs,
        say: Callable[[str], None],
        retry_s: float = _RETRY_S,
    ) -> None:
        """`told` are the steps so far, of a run that goes on; those that the record has are not told again."""
        self._begin, self._models, self._say, self._retry_s = begin, models, say, retry_s
        self._waiting = deque[_Waiting]()
        self._news = threading.Condition()
        self._ended: tuple[RunState, str] | None = None
        self._over = threading.Event()
        self.refused: AimassError | None = None
        """Why the service takes no more reports, where it does not."""
        for step in told:
            self.committed(step)
        self._thread = threading.Thread(target=self._work, name="reports", daemon=True)
        self._thread.start()

    def committed(self, step: Committed) -> None:
        """A step is stored, and its model with it."""
        model = None
        if step.model:
            try:
                model = self._models.open(step.model)
            except NotFound:  # of an earlier round, and not kept
                model = None
        with self._news:
            self._waiting.append(_Waiting(report_of(step), model))
            for older in [one for one in self._waiting if one.model is not None][:-_HELD]:
                older.model = None
            self._news.notify()

    def ended(self, state: RunState, reason: str, patience_s: float = _PATIENCE_S) -> bool:
        """The run has ended; whether the service has heard of everything after so long."""
        self._ended = state, reason
        return self._finished(patience_s)

    def close(self) -> None:
        """The run stops here, and goes on another time: what waits is told then."""
        self._over.set()
        self._finished(_PARTING_S)

    def _finished(self, patience_s: float) -> bool:
        with self._news:
            self._news.notify()
        self._thread.join(patience_s)
        whole = not self._thread.is_alive() and self.refused is None
        self._over.set()
        return whole

    def _work(self) -> None:
        record: Record | None = None
        silent = False
        while not self._over.is_set():
            try:
                record = record or self._begin()
                if self._told_all(record):
                    return
                silent = False
            except (Unavailable, OutOfSpace) as error:
                if not silent:
                    self._say(f"the training service hears of this run later: {error.sentence()}")
                silent = True
                self._over.wait(self._retry_s)
            except AimassError as error:
                self.refused = error
                self._say(f"the training service takes no reports of this run: {error.sentence()}")
                return
            except Exception:
                if self._over.is_set():
                    return  # cut off with its link
                raise

    def _told_all(self, record: Record) -> bool:
        """Tell what waits, or wait for more; whether nothing more will come."""
        with self._news:
            if not self._waiting and self._ended is None and not self._over.is_set():
                self._news.wait()
            first = self._waiting[0] if self._waiting else None
        if first is not None:
            held = first.model
            record.step(msgspec.structs.replace(first.report, sent=held is not None), held or b"")
            with self._news:
                self._waiting.popleft()
            return False
        if self._ended is not None:
            record.end(*self._ended)
            return True
        return False
