"""A federation in one process for attacks: the real server, real daemons, mutual TLS, their own folders and disks.

Nothing of it is changed but the training child, which makes known numbers, and the server's clock, which a scenario
moves. What each side finds is read where an operator reads it: in its own log, by the stable name of the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import msgspec
import numpy as np

from aimass.client.daemon import Daemon
from aimass.privacy.enrolment import make_request
from aimass.privacy.keys import create_keys, tls_key_pem
from aimass.privacy.pki import Role
from aimass.privacy.root_store import RootStore
from aimass.privacy.trust_bundle import open_bundle
from aimass.proto.contribution import Contribution, Group
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import About, code_of
from aimass.proto.plan import encode_plan
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.tls import TlsIdentity
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import decode_json
from aimass.proto.views import RunView, SlotState
from aimass.proto.wire import connect
from aimass.server import main
from aimass.server.secure_desk import SecureDesk
from aimass.server.settings import template
from tests.attack.parts import (
    LANES,
    POLICY,
    SCALE,
    WAIT_S,
    WEIGHT,
    Escaped,
    LabClock,
    Record,
    Worker,
    plan,
    update,
)

__all__ = ["House", "Run", "counted"]

_WHO: contextvars.ContextVar[tuple[House | None, str]] = contextvars.ContextVar("who", default=(None, "lab"))
"""Whose process a task would be."""
_TOLD: Final = ("gave up attempt", "the server ended the attempt")
"""What lines say that pass on another's refusal."""


class _Book(logging.Handler):
    """All logs of a house, each line by whose process it would be: daemons and server run in tasks of their own."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self.records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        (house, who), subject = _WHO.get(), getattr(record, "about", About())
        if house is self._house:
            self.records.append(Record(who, code_of(record), record.getMessage(), subject.partner, subject.step))


class Partner:
    """A daemon in a task of its own, on a folder that outlives it."""

    def __init__(self, house: House, name: str, place: int) -> None:
        self.house, self.name, self.folder = house, name, house.folder / name
        self.update, self.weight = update(place), float(WEIGHT)
        self.daemon: Daemon
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def made(self) -> Contribution:
        """What its training comes to."""
        return Contribution({"update": Group(self.weight, {"w": self.update})}, {}, {})

    async def start(self) -> None:
        """Begin a process: a new daemon over the folder; returns when the server has greeted it."""

        async def start(*_: object) -> Any:
            return Worker(self.made)

        async def life() -> None:
            _WHO.set((self.house, self.name))
            self.daemon = Daemon(self.folder, start=start)
            await self.daemon.serve(self._stop, ready.set)

        ready, self._stop = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(life())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        assert ready.is_set(), f"{self.name} does not come up"

    async def kill(self) -> None:
        """End the process where it stands: what it held in memory is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._stop.set()
            self._task = None


@dataclasses.dataclass(slots=True)
class Run:
    """A run that was submitted over the wire."""

    house: House
    id: str
    model: np.ndarray

    async def ended(self, seconds: float = WAIT_S) -> RunView:
        """Wait for the end, as its owner does."""
        view: RunView | None = None
        try:
            async with asyncio.timeout(seconds):
                async for document in self.house.control.WatchRun(pb.RunRequest(run_id=self.id)):
                    view = decode_json(RunView, document.json, "a run")
        except TimeoutError:
            state = view.summary.state if view is not None else "unknown"
            raise Escaped(f"the run does not end, it is {state}; {self.house.tail()}") from None
        document = await self.house.control.ShowRun(pb.RunRequest(run_id=self.id))
        return decode_json(RunView, document.json, "a run")

    def check_model(self, view: RunView) -> None:
        """Each committed step is, to the last bit, the mean of who was counted in it."""
        wanted = self.model
        for step in sorted(view.steps, key=lambda step: step.index):
            if step.state == "committed":
                those = [self.house.partners[name].update.astype(np.float64) for name in counted(step)]
                wanted = (wanted + np.mean(those, axis=0).astype(np.float32)).astype(np.float32)
        found = Blob(self.house.blobs.open(view.summary.model)).numpy("w")
        if not np.allclose(found, wanted, rtol=0, atol=1e-6):
            raise Escaped(f"the sum is not that of the counted inputs: {found}, not {wanted}")


def counted(step: Any) -> list[str]:
    """Who is in a step's sum."""
    return sorted(name for name, slot in step.slots.items() if slot is SlotState.COUNTED)


class House:
    """The federation. `desk` is the running server's own: what a lying operator has in hands."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        self.book = _Book(self)
        self.clock = LabClock()
        self.root = RootStore.create(folder / "root", "lab", time.time())
        self._enrol()
        self.partners = {name: Partner(self, name, place) for place, name in enumerate(names)}
        self.desk: SecureDesk
        self._stop = asyncio.Event()
        self._server: asyncio.Task[None] | None = None
        self._channels: list[grpc.aio.Channel] = []
        self.control: Any
        self.scientist: Any
        self.marked = 0
        self._models = 0

    # ---------------------------------------------------------------- set up

    def _enrol(self) -> None:
        self.port = _free_port()
        address = f"127.0.0.1:{self.port}"
        roles = {"hub": Role.SERVER, "anna": Role.SCIENTIST, "olga": Role.OPERATOR}
        roles |= dict.fromkeys(self.names, Role.PARTNER)
        requests, self.keys = [], {}
        for name, role in roles.items():
            hosts = ("127.0.0.1", "localhost") if role is Role.SERVER else ()
            token = self.root.token(name, role, hosts, time.time() + 600)
            self.keys[name] = create_keys(self.folder / name / "keys")
            requests.append(make_request(token, self.keys[name]))
        bundle = self.root.sign(requests, time.time())
        self.trust = open_bundle(bundle, self.root.root)
        for name, role in roles.items():
            home, pem = self.folder / name, self.root.root.to_pem()
            if role is Role.SERVER:
                (home / "bundle.json").write_bytes(bundle)
                (home / "root.pem").write_bytes(pem)
                (home / "server.toml").write_text(template("hub", address, "127.0.0.1:0"))
                continue
            (home / "trust").mkdir()
            (home / "trust" / "bundle.json").write_bytes(bundle)
            (home / "trust" / "root.pem").write_bytes(pem)
            (home / "trust" / "certificate.pem").write_bytes(self.trust.certificates[f"{role}/{name}"])
            (home / "client.toml").write_text(f'name = "{name}"\nserver = "{address}"\nenrol = "{address}"\n')
            (home / "policy.toml").write_text(POLICY)
            (home / "data").mkdir()
            (home / "data" / "heart.toml").write_text(
                f'name = "heart"\ndata_schema = "heart/1"\nuris = ["x.csv"]\nformat = "csv"\nparticipant = "{name}"\n'
                f'salt = "{"00" * 32}"\nheld_out = 0.2\n'
            )

    def identity(self, name: str, role: Role) -> TlsIdentity:
        """What a member shows on a link."""
        certificate = self.trust.certificates[f"{role}/{name}"]
        return TlsIdentity(certificate, tls_key_pem(self.keys[name].tls), self.root.root.certificate_pem)

    def channel(self, name: str, role: Role) -> grpc.aio.Channel:
        """A link of one's own to the server."""
        channel = connect(f"127.0.0.1:{self.port}", self.identity(name, role))
        self._channels.append(channel)
        return channel

    def id(self, name: str) -> int:
        """A member's id in the roster."""
        return self.trust.roster.by_name[name].id

    @property
    def blobs(self) -> Any:
        """The server's models."""
        return self.desk._blobs

    @property
    def spool(self) -> Any:
        """What partners sent and is not summed yet."""
        return self.desk._spool

    # ---------------------------------------------------------------- life

    async def start_server(self) -> None:
        """Begin the server's process."""

        def kept(*args: Any) -> SecureDesk:
            self.desk = SecureDesk(*args)
            return self.desk

        async def life() -> None:
            _WHO.set((self, "server"))
            await main.serve(self.folder / "hub", self._stop, ready.set_result, clock=self.clock)

        self._stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        with mock.patch.object(main, "SecureDesk", kept):  # to have it in hands: it is the real one
            self._server = asyncio.create_task(life())
            await asyncio.wait({self._server, ready}, return_when=asyncio.FIRST_COMPLETED)
        if self._server.done():
            self._server.result()
        channel = self.channel("anna", Role.SCIENTIST)
        self.scientist, self.control = channel, rpc.ControlStub(channel)

    async def kill_server(self) -> None:
        """End the server's process where it stands."""
        if self._server is not None:
            self._server.cancel()
            await asyncio.gather(self._server, return_exceptions=True)
            self._server = None
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """Server and daemons, until the block ends."""
        logger = logging.getLogger("aimass")
        logger.addHandler(self.book)
        level, propagate = logger.level, logger.propagate
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            await self.start_server()
            await asyncio.gather(*(partner.start() for partner in self.partners.values()))
            yield self
        finally:
            await asyncio.gather(*(partner.kill() for partner in self.partners.values()))
            await self.kill_server()
            logger.removeHandler(self.book)
            logger.setLevel(level)
            logger.propagate = propagate

    # ---------------------------------------------------------------- runs

    async def submit(
        self, partners: Sequence[str] = (), rounds: int = 1, model: np.ndarray | None = None, **secure: Any
    ) -> Run:
        """The scientist submits a run; unless a model is given it has one of its own, since partners count them."""
        if model is None:
            self._models += 1
            model = (np.full(LANES, self._models) / SCALE).astype(np.float32)
        blob = encode_numpy({"w": model})
        header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
        await submit(self.scientist, header, memoryview(blob))
        request = pb.SubmitRunRequest(
            plan=encode_plan(plan(partners or self.names, blob, rounds, **secure)), key=secrets.token_hex(8)
        )
        document = await self.control.SubmitRun(request)
        return Run(self, msgspec.json.decode(document.json)["summary"]["run_id"], model)

    async def until(self, reached: Callable[[], Any], what: str, seconds: float = WAIT_S) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                raise Escaped(f"not in time: {what}; {self.tail()}")
            await asyncio.sleep(0.003)

    # ---------------------------------------------------------------- what was found

    def mark(self) -> None:
        """Only what is logged from here on is looked at."""
        self.marked = len(self.book.records)

    def said(self, who: str, code: str, about: str = "", *, told: bool = False) -> list[Record]:
        """Lines of somebody's log with this code (`E_...` or a full one), about this partner where one is named.

        Only what it found itself, or with `told` also what another told it.
        """
        wanted = f"secagg.{code}" if code.startswith("E_") else code
        return [
            record
            for record in self.book.records[self.marked :]
            if record.who == who
            and (record.code == wanted or f"[{wanted}]" in record.text or f" {code}:" in record.text)
            and (not about or record.about == about)
            and (told or not any(words in record.text for words in _TOLD))
        ]

    def tail(self) -> str:
        """The newest lines, for an error message."""
        lines = self.book.records[self.marked :][-25:]
        return "\n".join(f"{line.who}: {line.about} {line.code} {line.text[:200]}" for line in lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
