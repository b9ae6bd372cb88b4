"""Data set services on the loopback: real TLS, and stores that misbehave when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aimass.proto.data_views import DataSetList
from aimass.proto.errors import NotFound
from aimass.proto.grpc_env import grpc
from aimass.proto.numbered import Numbered
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import datasets_pb2 as pb
from aimass.proto.v1 import datasets_pb2_grpc as rpc
from aimass.proto.values import decode_json
from aimass.proto.wire import connect
from aimass.server.datasets.layout import leader_prefix
from aimass.server.datasets.leadership import Term
from aimass.server.datasets.main import Started, serve
from tests.support.edge_federation import Members
from tests.support.stores import Unruly

SERVICES = ("one", "two")
_SETTINGS = """listen = "127.0.0.1:0"
stores = [{stores}]
watch_listen = "127.0.0.1:0"
look_s = 0.05
[care]
quick_every_s = 0.05
term_s = 3.0
"""


@dataclasses.dataclass(slots=True)
class Grid:
    """A federation, its stores, and a folder for each service."""

    members: Members
    stores: dict[str, Unruly]
    channels: list[grpc.aio.Channel]

    @staticmethod
    def create(folder: Path, stores: dict[str, Unruly]) -> Grid:
        """Everybody enrolled, and `data-one` and `data-two` ready to serve."""
        members = Members.create(folder, services={f"data-{name}": ("127.0.0.1",) for name in SERVICES})
        grid = Grid(members, stores, [])
        for name in SERVICES:
            text = _SETTINGS.format(stores=", ".join(f'"{url}"' for url in stores))
            (grid.folder_of(f"data-{name}") / "data.toml").write_text(text)
        return grid

    def folder_of(self, name: str) -> Path:
        """A member's folder as `aimass client enroll` leaves it."""
        home = self.members.folder / name / "home"
        if not home.is_dir():
            self.members.home(name, "127.0.0.1:1")
            (home / "trust" / "bundle.json").write_bytes(self.members.bundle)
        return home

    def identity(self, name: str) -> TlsIdentity:
        """What `name` shows on a link."""
        return self.members.identity(name)

    def channel(self, who: str, started: Started) -> grpc.aio.Channel:
        """A link of `who` to a service, closed with it."""
        self.channels.append(connect(f"127.0.0.1:{started.port}", self.identity(who)))
        return self.channels[-1]

    @contextlib.asynccontextmanager
    async def serving(self, name: str) -> AsyncIterator[Started]:
        """One of the services while the block runs."""
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve(self.folder_of(f"data-{name}"), stop, ready.set_result, open_store=self.stores.__getitem__)
        )
        try:
            done, _ = await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                await task
            yield ready.result()
        finally:
            while self.channels:
                await self.channels.pop().close()
            stop.set()
            await task

    def terms(self, who: str) -> list[Term]:
        """The last terms of a service as leader, in order."""
        document = Numbered(next(iter(self.stores.values())), leader_prefix())
        terms = [decode_json(Term, document.read(number), "a term") for number in document.numbers()]
        return [term for term in terms if term.holder.startswith(f"data-{who}-")]

    async def until(self, look: Callable[[], object]) -> None:
        """Return when `look` finds what it looks for in a store."""
        while True:
            with contextlib.suppress(NotFound):
                look()
                return
            await asyncio.sleep(0.02)

    async def until_whole(self, who: str, started: Started) -> None:
        """Return when a service says that every data set is whole."""
        call = rpc.DataSetsStub(self.channel(who, started)).WatchDataSets(pb.ListDataSetsRequest())
        async for document in call:
            views = decode_json(DataSetList, document.json, "a list").data_sets
            if all(view.health is not None and view.health.whole for view in views):
                call.cancel()
                return
