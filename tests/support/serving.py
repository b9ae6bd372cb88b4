"""What tests of serving share: workers that do as they are told, and a dispatcher whose time a test owns."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aimass.proto.errors import AimassError, Unavailable
from aimass.proto.servable import Array, TensorSpec
from aimass.server.serving.dispatch.dispatcher import Dispatcher
from aimass.server.serving.dispatch.requests import Answer, Request
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.dispatch.working import Reply
from aimass.server.serving.workers.protocol import DIGEST_NAME, Opened
from tests.support.clock import ManualClock

X = TensorSpec("x", "FP64", (-1, 2))
Y = TensorSpec("y", "FP64", (-1,))
OPENED = Opened(inputs=(X,), outputs=(Y,), confinement=())


def source(version: int = 1, model: str = "sums") -> Source:
    return Source(model, version, "sums", "00" * 32, Path("/nowhere"), f"{version:064x}")


def rows(*values: float) -> dict[str, Any]:
    """Rows whose sums are the values."""
    return {"x": np.array([[value, 0.0] for value in values])}


class FakeWorker:
    """Answers each row's sum plus its version's `offset` when a test lets it."""

    def __init__(self, version: Source, offset: float = 0.0, opened: Opened = OPENED) -> None:
        self.source, self.offset, self.opened = version, offset, opened
        self.alive, self.ended = True, False
        self.batches: list[list[list[float]]] = []
        self.resident_bytes = 1 << 20
        self._tensors: Mapping[str, Sequence[Array]] = {}
        self._answered: Callable[[Reply], None] | None = None
        self._lost: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        return self.alive and self._answered is None

    def when_lost(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def compute(self, tensors: Mapping[str, Sequence[Array]], answered: Callable[[Reply], None]) -> None:
        assert self.idle
        self.batches.append([part[:, 0].tolist() for part in tensors["x"]])
        self._tensors, self._answered = tensors, answered

    def digest(self, answered: Callable[[Reply], None]) -> None:
        assert self.idle
        self._tensors, self._answered = {}, answered

    def answer(self, reply: Reply | None = None) -> None:
        """Finish what it was asked, by default rightly."""
        answered, self._answered = self._answered, None
        assert answered is not None
        if reply is None and not self._tensors:
            reply = {DIGEST_NAME: np.array([self.source.digest.encode()], object)}
        elif reply is None:
            reply = {"y": np.concatenate(self._tensors["x"]).sum(axis=1) + self.offset}
        answered(reply)

    def kill(self) -> None:
        """It ends, and its front learns of it."""
        if self.alive:
            self.alive = False
            self._lost()

    async def end(self) -> None:
        self.alive, self.ended = False, True


@dataclasses.dataclass
class House:
    """A dispatcher over fake workers; `outcomes` are in the order in which requests were settled."""

    settings: DispatchSettings
    refuses: AimassError | None = None
    most_started: int = 1_000
    opens: Opened = OPENED
    held_up: asyncio.Event | None = None
    clock: ManualClock = dataclasses.field(default_factory=ManualClock)
    started: list[FakeWorker] = dataclasses.field(default_factory=list)
    outcomes: list[tuple[str, Answer | AimassError]] = dataclasses.field(default_factory=list)
    draws: list[float] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.dispatcher = Dispatcher(
            self._start, self.settings, now=self.clock.now, clock=self.clock, draw=lambda: self.draws.pop(0)
        )

    async def _start(self, version: Source) -> FakeWorker:
        if self.held_up is not None:
            await self.held_up.wait()
        if self.refuses is not None:
            raise self.refuses
        if len(self.started) >= self.most_started:
            raise away()
        worker = FakeWorker(version, offset=100.0 * (version.version - 1), opened=self.opens)
        self.started.append(worker)
        return worker

    async def serve(self, *versions: int, fallback: int | None = None) -> list[FakeWorker]:
        """Load versions, the first of which has all the share; their first workers."""
        workers = []
        for version in versions:
            await self.dispatcher.load(source(version))
            workers.append(self.started[-1])
        self.dispatcher.share("sums", {versions[0]: 1.0}, fallback)
        return workers

    def ask(self, *values: float, id_: str = "", **fields: Any) -> None:
        self.dispatcher.submit(
            Request("sums", rows(*values), id=id_, **fields), lambda outcome: self.outcomes.append((id_, outcome))
        )

    def told(self) -> list[tuple[str, object]]:
        """What became of requests so far: the sums, or the code of the error."""
        return [
            (id_, outcome.tensors["y"].tolist() if isinstance(outcome, Answer) else outcome.code)
            for id_, outcome in self.outcomes
        ]


async def turns(count: int = 5) -> None:
    """Let what is due in the event loop happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def away() -> AimassError:
    return Unavailable("no worker can be started", code="serving.start_died")
