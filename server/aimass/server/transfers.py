"""Who may read and send which bytes: the transfer RPCs over engine, blobs and spool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import AimassError, LimitExceeded, NotFound, Refused, Unavailable, WrongState
from aimass.proto.grpc_env import grpc
from aimass.proto.offers import DifferenceRequest, Offer
from aimass.proto.storage import Blobs, Spool, SpoolWriter, map_file
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, Incoming, Outgoing, SubmitHeader
from aimass.server.contributions import Contributions
from aimass.server.differences import ModelDifferences, Pair
from aimass.server.engine import MODEL_KEY
from aimass.server.gate import Gate
from aimass.server.readings import Readings
from aimass.server.store_threads import StoreThreads

__all__ = ["Transfers", "Upload"]

_AT_ONCE: Final = 8
"""Models that are looked for, opened or stored together: where their store hangs, transfers wait for each other."""


class Transfers:
    """`Source` and `Receiver` of aimass.proto.transfer, and `Differences` of aimass.proto.offers."""

    def __init__(
        self,
        contributions: Contributions,
        readings: Readings,
        blobs: Blobs,
        spool: Spool,
        gate: Gate,
        max_model_bytes: int,
        room: Callable[[], None],
        differences: ModelDifferences,
    ) -> None:
        self._room, self._differences = room, differences
        self._contributions, self._readings = contributions, readings
        self._blobs, self._spool, self._gate = blobs, spool, gate
        self._threads = StoreThreads(_AT_ONCE, "transfers")
        self._max_model_bytes = max_model_bytes
        self._uploads: dict[str, asyncio.Task[Any]] = {}
        self._storing: dict[str, asyncio.Future[None]] = {}

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        """Partners read the inputs of their open steps; people read models that they may see."""
        peer = await self._gate.admit(context, "Fetch")
        if peer.role is Role.PARTNER and (made := self._differences.find(request.digest)) is not None:
            if not await self._may_compare(peer.name, request.run_id, made.pair):
                raise _not_for_you(request.digest)
            return Outgoing(peer.name, made.data, made.stands_for)
        if peer.role is Role.PARTNER:
            allowed = self._contributions.may_fetch(peer.name, request.run_id, request.digest)
        else:
            allowed = await self._may_read(peer, request.digest)
        if not allowed:
            raise _not_for_you(request.digest)
        if not await self._threads.run(self._blobs.has, request.digest):
            if peer.role is Role.PARTNER:
                await self._contributions.input_gone(request.run_id, request.digest)
            raise NotFound(
                "this model is not kept any more",
                code="model.not_kept",
                value=request.digest[:16],
                cure="Runs keep their first, best and last models; the operator's [keep] says how many.",
            )
        return Outgoing(peer.name, await self._threads.run(self._blobs.open, request.digest))

    async def difference(self, context: grpc.aio.ServicerContext, request: DifferenceRequest) -> Offer | None:
        """Partners may have an input of an open step as its difference to an earlier model of the same run."""
        peer, pair = await self._gate.admit(context, "Difference"), Pair(request.held, request.wanted)
        if not self._contributions.may_fetch(peer.name, request.run_id, request.wanted):
            raise _not_for_you(request.wanted)
        if not await self._readings.is_model(request.run_id, pair.held):
            return None
        made = await self._differences.made(pair)
        return None if made is None else Offer(digest=made.digest, bytes=len(made.data))

    async def _may_compare(self, partner: str, run_id: str, pair: Pair) -> bool:
        """Who may read one end of a difference can compute the other: both must be models of a run for its partners."""
        may_fetch = self._contributions.may_fetch(partner, run_id, pair.wanted)
        return may_fetch and await self._readings.is_model(run_id, pair.held)

    async def _may_read(self, peer: Peer, digest: str) -> bool:
        models = await self._readings.models(digest=digest)
        if not models and peer.role is not Role.ANALYST:
            raise NotFound("no committed model has this digest", code="model.unknown", value=digest)
        finished = {run.run_id for run in self._readings.summaries("finished", 1_000_000)}
        return any(
            peer.role is Role.OPERATOR
            or (peer.role is Role.SCIENTIST and self._readings.owner(model.run_id) == peer.name)
            or (peer.role is Role.ANALYST and model.run_id in finished)
            for model in models
        )

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        """Partners send contributions; scientists and operators send first models."""
        peer = await self._gate.admit(context, "Submit")
        if (header.kind == "contribution") != (peer.role is Role.PARTNER):
            raise Refused(f"the role {peer.role} does not send a {header.kind}", code="submit.kind", value=peer.name)
        if header.size > self._max_model_bytes:
            raise LimitExceeded(
                "larger than this server takes", code="submit.size", value=header.size, limit=self._max_model_bytes
            )
        self._room()
        if header.kind == "model":
            model = _Model(peer.name, header, self._blobs, self._spool, self._storing, self._threads)
            if not await model.look():
                await self._alone(model.key)
                await model.settled()
                await model.look()  # the older stream may have stored it meanwhile: it is not sent a second time
            return model
        contribution = Upload(peer.name, header, self._contributions, self._spool)
        if not contribution.done:
            await self._contributions.check_size(peer.name, header)
            await self._alone(contribution.key)
            await self._contributions.settled(contribution.key)
            # The older stream may have been acknowledged meanwhile: what it stored is not written over.
            contribution = Upload(peer.name, header, self._contributions, self._spool)
        return contribution

    async def _alone(self, key: str) -> None:
        """End an older stream of the same upload: a link that broke may not have been noticed here yet."""
        task = asyncio.current_task()
        while (older := self._uploads.get(key)) is not None:
            self._gate.end(older, Unavailable("a newer stream of this upload took over", code="transfer.replaced"))
            await asyncio.wait({older})
            if self._uploads.get(key) is older:
                del self._uploads[key]
        if task is None:
            return
        self._uploads[key] = task
        task.add_done_callback(lambda done: self._uploads.pop(key) if self._uploads.get(key) is done else None)


def _not_for_you(digest: str) -> Refused:
    return Refused("this blob is not for you, or not now", code="fetch.refused", value=digest[:16])


class Upload:
    """A contribution that its partner may send; where it may not, making this raises what `Contributions.key` does."""

    def __init__(self, peer: str, header: SubmitHeader, contributions: Contributions, spool: Spool) -> None:
        self.peer = peer
        self._header, self._contributions, self._spool = header, contributions, spool
        self.done = contributions.stored(peer, header)
        self.key = "" if self.done else contributions.key(peer, header)

    def open(self) -> SpoolWriter:
        """Where its bytes go; raises `WrongState` where its place is gone by then."""
        writer = self._spool.begin(self.key, self._header.size, self._header.digest)
        try:
            self._contributions.key(self.peer, self._header)
        except WrongState:
            # The place went, and its files, before this one was there: whoever withdrew has been told it is deleted.
            writer.close()
            self._spool.discard(self.key)
            raise
        return writer

    async def accept(self, path: Path) -> None:
        """Check and record it."""
        await self._contributions.accept(self.peer, self._header, path)


class _Model:
    """A first model. `storing` are those that are whole and on their way to the store, by key."""

    def __init__(
        self,
        peer: str,
        header: SubmitHeader,
        blobs: Blobs,
        spool: Spool,
        storing: dict[str, asyncio.Future[None]],
        threads: StoreThreads,
    ) -> None:
        self.peer, self._threads = peer, threads
        self._header, self._blobs, self._spool, self._storing = header, blobs, spool, storing
        self.done = False
        self.key = f"{MODEL_KEY}{peer}-{header.digest}"

    async def look(self) -> bool:
        """Whether the model is here already."""
        self.done = await self._threads.run(self._blobs.has, self._header.digest)
        return self.done

    def open(self) -> SpoolWriter:
        return self._spool.begin(self.key, self._header.size, self._header.digest, kept=False)

    async def settled(self) -> None:
        """An earlier stream's model is stored, or is not: its thread goes on where the stream itself is cut."""
        if (storing := self._storing.get(self.key)) is not None:
            await asyncio.wait({storing})

    async def accept(self, path: Path) -> None:
        try:
            Blob(map_file(path))  # canonical, or refused by name
        except AimassError:
            await asyncio.to_thread(self._spool.discard, self.key)
            raise
        work = asyncio.ensure_future(self._threads.run(self._blobs.adopt, path, self._header.digest))
        self._storing[self.key] = work
        work.add_done_callback(lambda _: self._storing.pop(self.key, None))
        await asyncio.shield(work)
