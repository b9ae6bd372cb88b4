"""What the engine and its desks share: a run in memory, and where messages to partners go."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Protocol

from aimass.privacy.transcript import Chain
from aimass.proto.traffic import Moved
from aimass.proto.v1 import federation_pb2 as pb
from aimass.server import steps
from aimass.server.aggregation.secure_sums import SecureInputs
from aimass.server.runs import Gone, Run
from aimass.server.store import RunRow
from aimass.server.turns import Turn

__all__ = ["Live", "Outbox", "Programs", "SecretSums", "Waiting"]


Message = pb.ToPartner | Callable[[], pb.ToPartner]
"""What is said, or what makes it when its turn has come: what is large does not wait in a thousand copies."""


class Outbox(Protocol):
    """Where messages to partners go. Never blocks; a partner that is away gets everything when it connects."""

    def send(self, partner: str, message: Message) -> None:
        """Queue `message`."""
        ...

    def connected(self) -> frozenset[str]:
        """Who is here now."""
        ...


class SecretSums(Protocol):
    """Who makes the sums of steps that are summed in secret. What it gives is to be spawned."""

    async def sweep(self) -> None:
        """At the start: forget what belongs to steps that are over."""
        ...

    def form(self, live: Live, index: int, number: int) -> Coroutine[Any, Any, None]:
        """Begin the attempt that a step's state speaks of, or go on with it."""
        ...

    def gone(self, run_id: str, action: Gone) -> Coroutine[Any, Any, None]:
        """A member is out of its attempt."""
        ...

    def closed(self, run_id: str, left: Collection[str]) -> Coroutine[Any, Any, None] | None:
        """All steps of a run are over but those that are `left`."""
        ...

    async def inputs(self, live: Live, state: steps.StepState) -> tuple[SecureInputs, ...]:
        """What a closed step's sums are made of, one for each circle that came to one."""
        ...

    def stop(self) -> None:
        """End all tasks."""
        ...


class Programs(Protocol):
    """Who runs the programs beside the engine that drivers listen to. Nothing here waits."""

    def changed(self, live: Live) -> None:
        """A run was stored in a new state, or is taken up after a restart."""
        ...

    def stop(self) -> None:
        """Begin nothing any more; the engine's tasks end after this."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """An event that waits for its turn, and where its outcome goes; who stopped waiting for it does not stop it."""

    turn: Turn
    outcome: asyncio.Future[Run]


@dataclasses.dataclass(slots=True)
class Live:
    """A run in memory: its row, its chain, its locks, who watches it, and what partners signed of its history.

    Under `lock` the run changes; events are `waiting` for it. Under `reducing` a step is summed, which may take long or
    wait for room on the disk: meanwhile people and partners are served, and a program waits to be heard. Partners in
    `behind` have connected and are yet to be brought up to date: until then they are told no news, which would come
    before what it follows on. `deadlines` are waited for, by step. `heads` of partners in `fresh_heads` are stored with
    the next commit. `let_go` are blobs that its driver named before the last changes. `moved` are bytes on the wire,
    `moved_stored` those that are stored.
    """

    row: RunRow
    chain: Chain
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    waiting: list[Waiting] = dataclasses.field(default_factory=list)
    committing: bool = False
    reducing: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    behind: set[str] = dataclasses.field(default_factory=set)
    deadlines: dict[int, asyncio.Task[None]] = dataclasses.field(default_factory=dict)
    watchers: set[asyncio.Event] = dataclasses.field(default_factory=set)
    heads: dict[str, tuple[Chain, bytes]] = dataclasses.field(default_factory=dict)
    fresh_heads: set[str] = dataclasses.field(default_factory=set)
    let_go: set[str] = dataclasses.field(default_factory=set)
    moved: Moved = dataclasses.field(default_factory=Moved)
    moved_stored: Moved = dataclasses.field(default_factory=Moved)
    changes: int = 0
    changed: dict[int, int] = dataclasses.field(default_factory=dict)
    """When each step changed last in this process, counted in `changes`; the latest stand last."""

    def touch(self, steps: Iterable[int]) -> None:
        """Note that these steps have just changed."""
        self.changes += 1
        for index in steps:
            self.changed.pop(index, None)
            self.changed[index] = self.changes

    def since(self, change: int) -> list[int]:
        """Steps that changed after `change`, in no time for those that did not."""
        return sorted(itertools.takewhile(lambda index: self.changed[index] > change, reversed(self.changed)))
