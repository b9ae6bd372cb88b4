"""RPC to desk and back: the DataSets service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

from aimass.privacy.pki import Peer, Role
from aimass.proto.clock import Clock
from aimass.proto.data_sets import read_name
from aimass.proto.data_views import DataSetList, TrustView
from aimass.proto.errors import AimassError, LimitExceeded
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import datasets_pb2 as pb
from aimass.proto.v1 import datasets_pb2_grpc as rpc
from aimass.proto.v1 import federation_pb2 as shared
from aimass.proto.values import canonical_json
from aimass.proto.wire import abort
from aimass.server.datasets.caretaker import Caretaker
from aimass.server.datasets.desk import DataSetDesk
from aimass.server.datasets.meters import DataSetMeters
from aimass.server.gate import Gate
from aimass.server.guarded import guarded
from aimass.server.trust import TrustHolder

__all__ = ["Board", "DataSetService"]

log = logging.getLogger("aimass.datasets")
T = TypeVar("T")
_WATCHES: Final = 64
_WATCHES_OF_ONE: Final = 8


class Board:
    """What all watchers are shown: looked up once for all of them, when something changed here and every `look_s`,
    because a store does not say when it changes."""

    def __init__(self, desk: DataSetDesk, clock: Clock, look_s: float) -> None:
        self._desk, self._clock, self._look_s = desk, clock, look_s
        self._stir, self._changed = asyncio.Event(), asyncio.Event()
        self.shown: DataSetList | None = None
        self._watchers: Counter[str] = Counter()

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return self._watchers.total()

    @contextlib.contextmanager
    def watched(self, person: str) -> Iterator[None]:
        """`person` watches while the block runs; raises `LimitExceeded` where too many do, or one too often."""
        for held, limit in ((self.watchers, _WATCHES), (self._watchers[person], _WATCHES_OF_ONE)):
            if held >= limit:
                raise LimitExceeded(
                    "too many watch, or you watch too often",
                    code="dataset.watches",
                    value=held,
                    limit=limit,
                    cure="End another watch of yours, or try again later.",
                )
        self._watchers[person] += 1
        try:
            self.stir()
            yield
        finally:
            self._watchers[person] -= 1
            self._watchers += Counter()  # forgets who watches no more

    def stir(self) -> None:
        """Something may look different."""
        self._stir.set()

    async def changed(self) -> None:
        """Return at the next change."""
        await self._changed.wait()

    async def run(self) -> None:
        """Until it is cancelled. Without watchers nothing is looked up."""
        while True:
            if self.watchers:
                await self._look()
            waiting = [asyncio.create_task(self._stir.wait()), asyncio.create_task(self._sleep())]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            self._stir.clear()

    async def _sleep(self) -> None:
        await self._clock.sleep(self._look_s)

    async def _look(self) -> None:
        try:
            found = await asyncio.to_thread(self._desk.all)
        except AimassError as error:
            log.warning("cannot list the data sets: %s", error)
            return
        except Exception:  # the next look may find more
            log.exception("cannot list the data sets")
            return
        if found != self.shown:
            self.shown = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


class DataSetService(rpc.DataSetsServicer):
    """People and their programs."""

    def __init__(
        self,
        desk: DataSetDesk,
        caretaker: Caretaker,
        board: Board,
        trust: TrustHolder,
        gate: Gate,
        meters: DataSetMeters,
    ) -> None:
        self._desk, self._caretaker, self._board = desk, caretaker, board
        self._trust, self._meters, self.gate = trust, meters, gate

    @guarded
    async def ListDataSets(self, request: pb.ListDataSetsRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """All data sets with their health."""
        return _document(await asyncio.to_thread(self._desk.all))

    @guarded
    async def ShowDataSet(self, request: pb.DataSetRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """A version's manifest."""
        return shared.Document(json=await asyncio.to_thread(self._desk.document, request.name))

    async def WatchDataSets(  # noqa: N802
        self, request: pb.ListDataSetsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[shared.Document]:
        """All data sets now, and at each change."""
        try:
            with self._board.watched((await self.gate.admit(context, "WatchDataSets")).name):
                last = None
                while True:
                    if (shown := self._board.shown) is not None and shown != last:
                        last = shown
                        yield _document(shown)
                    else:
                        await self._board.changed()
        except AimassError as error:
            await abort(context, error)

    @guarded
    async def RegisterDataSet(self, request: pb.RegisterDataSetRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """A version whose shards are stored."""
        operator = peer.role is Role.OPERATOR
        view = await self._change(lambda: self._desk.register(request.manifest, peer.name, operator=operator))
        log.info("%s registered %s@%d", peer.name, view.name, view.version)
        return _document(view)

    @guarded
    async def OwnDataSet(self, request: pb.OwnDataSetRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """Whose it is, or is from now on."""
        name, operator = read_name(request.name).name, peer.role is Role.OPERATOR
        view = await asyncio.to_thread(self._desk.own, name, request.to, peer.name, operator=operator)
        if request.to:
            log.info("%s handed %s on to %s", peer.name, name, request.to)
        return _document(view)

    @guarded
    async def LeaseShards(self, request: pb.LeaseShardsRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """Shards for the caller to work on."""
        view = await asyncio.to_thread(
            self._desk.lend, request.name, request.job, peer.name, request.most, request.seconds
        )
        self._meters.leases.add("given" if view.lease else "none_free")
        return _document(view)

    @guarded
    async def RenewLease(self, request: pb.LeaseRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """The same for longer."""
        view = await asyncio.to_thread(
            self._desk.renew, request.name, request.job, request.lease, peer.name, request.seconds
        )
        self._meters.leases.add("renewed")
        return _document(view)

    @guarded
    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """Given back, some of it done."""
        view = await asyncio.to_thread(
            self._desk.release, request.name, request.job, request.lease, peer.name, tuple(request.done)
        )
        self._meters.leases.add("given_back")
        return _document(view)

    @guarded
    async def RepairDataSet(self, request: pb.RepairDataSetRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """Look at it now, and mend it."""
        return _document(await self._caretaker.mend(read_name(request.name).name, deep=request.deep))

    @guarded
    async def InstallTrust(self, request: shared.InstallTrustRequest, peer: Peer) -> shared.Document:  # noqa: N802
        """A bundle that the root signed."""
        roster = self._trust.install(request.bundle).roster
        return _document(TrustView(epoch=roster.epoch, partners=tuple(roster.partners)))

    async def _change(self, work: Callable[[], T]) -> T:
        result = await asyncio.to_thread(work)
        self._board.stir()
        return result


def _document(value: object) -> shared.Document:
    return shared.Document(json=canonical_json(value))
