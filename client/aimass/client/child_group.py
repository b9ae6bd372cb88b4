"""Training children that train together, one for each of a partner's devices: they contribute as one.

Each is as confined as one alone. They can open no socket, so what gloo or nccl would do goes over links that are opened
here before they are locked in (see `ranks`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import msgspec

from aimass.client.child import Child, ChildDied, ChildFailed, Made, Worker, start_child
from aimass.client.flower_source import AppSource
from aimass.client.worker_protocol import Opened, Order
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.personal import PERSONAL
from aimass.proto.step import StepKind
from aimass.proto.task import TaskSource

__all__ = ["ChildGroup", "start_children"]


class ChildGroup:
    """Two or more children as one worker. Training is for all of them; what is not cut into batches, and private
    training, whose noise is drawn once, is for the first."""

    def __init__(self, ranks: Sequence[Child]) -> None:
        self._ranks = ranks

    @property
    def opened(self) -> Opened:
        """The first one's, with the confinement that holds for all."""
        levels = frozenset.intersection(*(frozenset(rank.opened.confinement) for rank in self._ranks))
        return msgspec.structs.replace(self._ranks[0].opened, confinement=tuple(sorted(levels)))

    @property
    def alive(self) -> bool:
        """Whether all are."""
        return all(rank.alive for rank in self._ranks)

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        """As `Child.work`; where one fails the others, who wait for it, are ended."""
        together = order.privacy is None and (order.kind is StepKind.TRAIN or order.purpose == PERSONAL)
        ranks = self._ranks if together else self._ranks[:1]
        try:
            async with asyncio.TaskGroup() as group:
                works = [group.create_task(rank.work(order, inputs, state, max_bytes)) for rank in ranks]
        except* ChildFailed as failed:
            raise _first(failed.exceptions) from None
        return works[0].result()

    async def stop(self) -> None:
        """End them all."""
        await asyncio.gather(*(rank.stop() for rank in self._ranks))


def _first(errors: Sequence[BaseException]) -> BaseException:
    """The cause: one that died is why others lack it."""
    died = [error for error in errors if isinstance(error, ChildDied)]
    lacking = [error for error in errors if isinstance(error, ChildFailed) and error.code == "child.rank"]
    if lacking and not died:
        return ChildDied("a training child ended while others waited for it", code="child.died")
    return (died or errors)[0]


async def start_children(
    source: TaskSource | AppSource,
    manifest: ShardManifest,
    manifest_folder: Path,
    forbidden: Path,
    scratch_parent: Path,
    limits: ChildLimits,
    base: Path | None = None,
) -> Worker:
    """As many as the limits say, of an app one; raises as `start_child` does."""

    def start(rank: int, links: Sequence[socket.socket]) -> asyncio.Task[Child]:
        child = start_child(source, manifest, manifest_folder, forbidden, scratch_parent, limits, rank, links, base)
        return asyncio.create_task(child)

    if limits.ranks == 1 or isinstance(source, AppSource):
        return await start(0, ())
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(1, limits.ranks)]
    starting = [start(0, [ours for ours, _ in pairs]), *(start(rank, [pair[1]]) for rank, pair in enumerate(pairs, 1))]
    try:
        return ChildGroup(await asyncio.gather(*starting))
    except BaseException:
        for each in starting:
            each.cancel()
        for done in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(done, Child):
                await done.stop()
        raise
    finally:
        for pair in pairs:
            for link in pair:
                link.close()
