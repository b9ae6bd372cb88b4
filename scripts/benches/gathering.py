"""Real daemons in one process, each with its own certificate and link to a real server, for runs of secure sums.

A guest is the daemon that partners run: it decides, encodes, keeps, signs, masks and answers as it does everywhere. Two
things are left out: its child does not train but draws numbers, and it waits less long before it connects again. Each
stands behind a relay of its own, so that its link can be cut while it lives. A guest may be told to vanish at a step in
place of sending a message of some kind: its link is cut, or it is ended, and it is silent until it is let back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.client.child import Made
from aimass.client.daemon import Daemon
from aimass.client.run_folder import RunFolder
from aimass.client.worker_protocol import Opened, Order
from aimass.privacy.keys import write_private
from aimass.privacy.secagg.client_state import Kind
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, SecureSettings, Stage, TaskRef, TrainSettings, encode_plan
from aimass.proto.task import locate
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import decode_json
from aimass.proto.views import RunView, StepView
from aimass.proto.wire import MAX_DOCUMENT_BYTES, connect
from scripts.benches import crowd
from scripts.benches.door import Door
from scripts.demos.house import free_port

__all__ = ["Gathering", "Guest", "contribution", "model", "plan"]

T = TypeVar("T")
_AT_ONCE: Final = 10
_AGAIN_S: Final = 0.5
_BLOCK_BYTES: Final = 1 << 16
_TASK: Final = "heart"
_POLICY: Final = """smallest_cohort = 3
confinement = []
schemas = {{ "heart/1" = "heart" }}
[[tasks]]
name = "{task}"
digest = "{digest}"
"""
_DATA: Final = """name = "heart"
data_schema = "heart/1"
uris = ["x.csv"]
format = "csv"
participant = "{name}"
salt = "{salt}"
held_out = 0.2
"""


# ------------------------------------------------------------------- what is summed


def model(elements: int) -> bytes:
    """A first model."""
    return encode_numpy({"w": np.zeros(elements, np.float32)})


def contribution(seed: str, elements: int) -> Contribution:
    """What a guest's child makes of an order: numbers that its seed gives, in [-1, 1], and a weight from 1 to 100."""
    chance = np.random.default_rng(int(seed, 16))
    update = chance.uniform(-1, 1, elements).astype(np.float32)
    weight = float(chance.integers(1, 101))
    return Contribution({"update": Group(weight, {"w": update})}, {"loss": Metric(weight / 2, weight)}, {})


def plan(digest: str, rounds: int, quorum: int, phase_s: float, step_s: float = 600.0) -> Plan:
    """Secure sums over `rounds` rounds, against a server that may lie, a tenth of the partners lost in each."""
    return Plan(
        name="gathering", task=TaskRef(name=_TASK, digest=locate(_TASK).digest), data_schema="heart/1", seed=3,
        model=digest, stages=(Stage(driver="averaging", options={"rounds": rounds}),),
        train=TrainSettings(batch_size=8, learning_rate=0.1, steps=1), evaluate=EvaluateSettings(every=0),
        cohort=Cohort(quorum=quorum, join_deadline_s=step_s, step_deadline_s=step_s),
        secure=SecureSettings(
            min_cohort=quorum, colluders=0.1, dropouts=0.1, bits=16, max_weight=100, metrics=("loss",), phase_s=phase_s
        ),
    )  # fmt: skip


class _Child:
    """A child that draws numbers in place of training."""

    opened = Opened(device="none", confinement=("process",), training_rows=1, held_out_rows=1)
    alive = True

    def __init__(self, elements: int) -> None:
        self._elements = elements

    async def work(self, order: Order, *_: object) -> Made:
        return Made(memoryview(contribution(order.seed, self._elements).encode()), memoryview(b""))

    async def stop(self) -> None:
        pass


# ------------------------------------------------------------------- guests


class Relay:
    """A partner's way to the server, byte for byte; `cut` ends what is open and refuses what comes, `mend` lets it."""

    def __init__(self, server_port: int) -> None:
        self._server_port, self._down = server_port, False
        self._open: set[asyncio.StreamWriter] = set()
        self._door = Door(self._passed)
        self.port = self._door.port

    def open(self) -> None:
        self._door.open()

    def cut(self) -> None:
        """Neither side is told more than that the connection broke."""
        self._down = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._down = False

    async def close(self) -> None:
        await self._door.close()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        both = {writer}
        self._open |= both  # from here on a cut reaches it, also while it connects
        try:
            if self._down:
                return
            far_reader, far_writer = await self._door.connect(self._server_port)
            if writer.transport.is_closing():
                far_writer.transport.abort()
            both.add(far_writer)
            self._open.add(far_writer)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        except ConnectionError:
            pass  # the server is not there: neither is the way to it
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_BLOCK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class _Soon(SystemClock):
    """Nobody waits long before the next try."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, _AGAIN_S))


class _Vanishing(Daemon):
    """A daemon that asks before it sends whether it is still here."""

    def __init__(self, guest: Guest) -> None:
        async def start(*_: object) -> Any:
            return _Child(guest.elements)

        super().__init__(guest.folder, clock=_Soon(), start=start)
        self._guest, self._last = guest, ""

    def send(self, message: pb.FromPartner) -> None:
        told = message.secagg if message.HasField("secagg") else None
        if message.HasField("ready"):
            self._guest.encoded(message.ready)
        if self._guest.here(told.step if told else -1, told.kind if told else ""):
            self._last = f"{told.step} {told.kind}" if told else ""
            super().send(message)

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        step, _, kind = self._last.partition(" ")
        # After its shares, and before it says anything else, a partner transfers its masked input.
        if kind == Kind.SHARES and not self._guest.here(int(step), Kind.INPUT):
            raise Unavailable("this guest is gone", code="wire.connection_ended")
        return await super().transfer(use)


class Guest:
    """One partner: its folder outlives its daemon. `lanes` are what it encoded, by run and step, as it keeps them."""

    def __init__(self, folder: Path, elements: int, relay: Relay) -> None:
        self.name, self.folder, self.elements, self.relay = folder.name, folder, elements, relay
        self.vanishes: dict[int, Kind] = {}
        """At which step it vanishes in place of sending what."""
        self.dies = False
        """Whether its process ends when it vanishes, or only its link."""
        self.gone = asyncio.Event()
        self.online = asyncio.Event()
        self.lanes: dict[tuple[str, int], bytes] = {}
        self.sent: list[tuple[int, str]] = []
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a daemon on the folder."""
        self._stop = asyncio.Event()
        self._life = asyncio.create_task(_Vanishing(self).serve(self._stop, self.online.set))

    def encoded(self, message: pb.Ready) -> None:
        """Look at what is on the disk, and that it is what it was."""
        path = self.folder / "state" / "runs" / message.run_id
        data = RunFolder(path, UNINTERRUPTED).contribution(message.step).read_bytes()
        if self.lanes.setdefault((message.run_id, message.step), data) != data:
            raise RuntimeError(f"{self.name} encoded step {message.step} twice")

    def here(self, step: int, kind: str) -> bool:
        """Whether a message leaves; at its hour the guest is gone before it does."""
        if self.gone.is_set():
            return False
        if kind and self.vanishes.get(step) == kind:
            del self.vanishes[step]
            self.gone.set()
            self.relay.cut()
            if self.dies:
                self._stop.set()
            return False
        if kind:
            self.sent.append((step, kind))
        return True

    async def come_back(self) -> None:
        """The link stands again; who was ended starts again, on its folder."""
        self.gone.clear()
        self.relay.mend()
        if self.dies:
            assert self._life is not None
            await self._life
            self.begin()

    async def end(self) -> None:
        self._stop.set()
        if self._life is not None:
            await asyncio.gather(self._life, return_exceptions=True)
        await self.relay.close()


# ------------------------------------------------------------------- all of them


class Gathering:
    """A server's folder below `folder`, and guests. The server is started by whoever needs its process."""

    def __init__(self, folder: Path, count: int, elements: int) -> None:
        self.folder, self.elements = folder, elements
        self.port, self.watch_port = free_port(), free_port()
        self.names = tuple(f"p{number:04}" for number in range(count))
        crowd.found(folder, self.names, self.address)
        settings = folder / "server" / "server.toml"
        settings.write_text(f'watch_listen = "127.0.0.1:{self.watch_port}"\n{settings.read_text()}')
        self._members = json.loads((folder / "members.json").read_text())
        self.guests: dict[str, Guest] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def present(self) -> AsyncIterator[Sequence[Guest]]:
        """All guests, connected, until the block ends."""
        for name in self.names:
            relay = Relay(self.port)
            relay.open()
            self._home(name, relay.port)
            self.guests[name] = Guest(self.folder / name, self.elements, relay)
        try:
            guests, names = list(self.guests.values()), list(self.names)
            for start in range(0, len(names), _AT_ONCE):
                some = guests[start : start + _AT_ONCE]
                for guest in some:
                    guest.begin()
                await asyncio.gather(*(guest.online.wait() for guest in some))
            yield guests
        finally:
            await asyncio.gather(*(guest.end() for guest in self.guests.values()))

    def _home(self, name: str, port: int) -> None:
        home, member = self.folder / name, self._members[name]
        for part in ("keys", "trust", "data"):
            (home / part).mkdir(parents=True)
        (home / "keys").chmod(0o700)
        tls = home / "keys" / "tls.key"
        tls.touch(0o600)
        tls.write_text(member["tls"])
        write_private(
            home / "keys" / "identity.key", Ed25519PrivateKey.from_private_bytes(bytes.fromhex(member["identity"]))
        )
        (home / "trust" / "bundle.json").symlink_to(self.folder / "server" / "bundle.json")
        (home / "trust" / "root.pem").symlink_to(self.folder / "server" / "root.pem")
        (home / "trust" / "certificate.pem").write_text(member["certificate"])
        (home / "client.toml").write_text(
            f'name = "{name}"\nserver = "127.0.0.1:{port}"\nenrol = "127.0.0.1:1"\n[limits]\nmin_free_bytes = 0\n'
        )
        (home / "policy.toml").write_text(_POLICY.format(task=_TASK, digest=locate(_TASK).digest))
        (home / "data" / "heart.toml").write_text(_DATA.format(name=name, salt="00" * 32))

    async def submit(self, made: Callable[[str], Plan]) -> str:
        """As the scientist, the plan that is made of the first model's digest; the run's id."""
        blob = model(self.elements)
        async with self._scientist() as channel:
            header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
            await submit(channel, header, memoryview(blob))
            request = pb.SubmitRunRequest(plan=encode_plan(made(header.digest)), key=header.digest)
            view = decode_json(RunView, (await rpc.ControlStub(channel).SubmitRun(request)).json, "the run")
        return view.summary.run_id

    async def views(self, run_id: str) -> AsyncIterator[RunView]:
        """The run as its owner watches it, to its end; the server sends the steps that changed."""
        steps: dict[int, StepView] = {}
        async with self._scientist() as channel:
            async for document in rpc.ControlStub(channel).WatchRun(pb.RunRequest(run_id=run_id)):
                view = decode_json(RunView, document.json, "the run")
                steps |= {step.index: step for step in view.steps}
                yield msgspec.structs.replace(view, steps=tuple(steps[index] for index in sorted(steps)))

    @contextlib.asynccontextmanager
    async def _scientist(self) -> AsyncIterator[grpc.aio.Channel]:
        channel = connect(self.address, crowd.identity(self._members["sam"]), MAX_DOCUMENT_BYTES)
        try:
            yield channel
        finally:
            await channel.close()

    async def figure(self, name: str) -> float:
        """One of the figures that the server shows to who watches it."""

        def read() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.watch_port}/metrics") as answer:
                return str(answer.read().decode())

        text = await asyncio.to_thread(read)
        return sum(float(found) for found in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))
