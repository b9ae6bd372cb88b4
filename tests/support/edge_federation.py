"""A federation on the loopback for tests of the server's edge: a root, enrolled members, a real server, real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aimass.privacy.enrolment import EnrolRequest, make_request
from aimass.privacy.keys import KeyPair, create_keys, read_private, spki, tls_key_pem
from aimass.privacy.pki import Role, issue
from aimass.privacy.root_store import RootStore
from aimass.privacy.trust_bundle import open_bundle
from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import MAX_MESSAGE_BYTES, connect, error_of
from aimass.server.main import Started, serve
from aimass.server.settings import template

MEMBERS = {
    "hub": Role.SERVER,
    "north": Role.PARTNER,
    "south": Role.PARTNER,
    "olga": Role.OPERATOR,
    "anna": Role.SCIENTIST,
    "bert": Role.SCIENTIST,
    "cleo": Role.ANALYST,
    "grid": Role.SERVICE,
}
CONNECT = "/aimass.v1.Federation/Connect"


def run(scenario: Coroutine[object, object, None], seconds: float = 60.0) -> None:
    """Run a test's coroutine; one that hangs fails."""
    asyncio.run(asyncio.wait_for(scenario, seconds))


@dataclasses.dataclass(frozen=True, slots=True)
class ShiftedClock:
    """The machine's clock, moved by `shift_s` from the first call on."""

    shift_s: list[float] = dataclasses.field(default_factory=lambda: [0.0])

    def now(self) -> float:
        return time.time() + self.shift_s[0]

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclasses.dataclass(slots=True)
class Members:
    """The root's folder, everybody's keys, and the server's folder."""

    folder: Path
    root: RootStore
    keys: dict[str, KeyPair]
    bundle: bytes

    @staticmethod
    def create(folder: Path, services: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> Members:
        """Everybody of `MEMBERS` and `services` with their hosts, enrolled, and a server's folder that may start."""
        members = Members(folder, RootStore.create(folder / "root", "test", time.time()), {}, b"")
        requests = [members.request(name, role) for name, role in MEMBERS.items()]
        requests += [members.request(name, Role.SERVICE, hosts) for name, hosts in services.items()]
        members.bundle = members.root.sign(requests, time.time())
        server = folder / "hub"
        (server / "bundle.json").write_bytes(members.bundle)
        (server / "root.pem").write_bytes(members.root.root.to_pem())
        (server / "server.toml").write_text(template("hub", "127.0.0.1:0", "127.0.0.1:0"))
        return members

    def request(self, name: str, role: Role, hosts: tuple[str, ...] = ()) -> EnrolRequest:
        """A newcomer's request with a token and keys of its own."""
        hosts = ("127.0.0.1", "localhost") if role is Role.SERVER else hosts
        token = self.root.token(name, role, hosts, time.time() + 60)
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.keys[name] = create_keys(folder / f"keys{'' if role is Role.SERVER else len(self.keys)}")
        return make_request(token, self.keys[name])

    def identity(self, name: str) -> TlsIdentity:
        """What `name` shows on a link."""
        role = next(member.role for member in reversed(self.root.state.members) if member.name == name)
        certificates = open_bundle(self.bundle, self.root.root).certificates
        return TlsIdentity(
            certificates[f"{role}/{name}"], tls_key_pem(self.keys[name].tls), self.root.root.certificate_pem
        )

    def home(self, name: str, address: str) -> Path:
        """The folder of a person who looks for the server at `address`."""
        identity, folder = self.identity(name), self.folder / name / "home"
        (folder / "trust").mkdir(parents=True)
        (folder / "client.toml").write_text(f'name = "{name}"\nserver = "{address}"\nenrol = "{address}"\n')
        (folder / "trust" / "root.pem").write_bytes(self.root.root.to_pem())
        (folder / "trust" / "certificate.pem").write_bytes(identity.certificate_pem)
        (keys,) = (self.folder / name).glob("keys*")
        (folder / "keys").symlink_to(keys)
        return folder

    def issued(
        self, name: str, role: Role, *, now: float, key: ec.EllipticCurvePrivateKey | None = None
    ) -> TlsIdentity:
        """A certificate of the root's that no roster knows, for a key of its own unless one is given."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        root_key = read_private(self.folder / "root" / "root.key")
        assert isinstance(root_key, ec.EllipticCurvePrivateKey)
        root = x509.load_pem_x509_certificate(self.root.root.certificate_pem)
        certificate = issue(root, root_key, role, name, spki(key), now=now)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return TlsIdentity(pem, tls_key_pem(key), self.root.root.certificate_pem)


@dataclasses.dataclass(slots=True)
class Edge:
    """A running server, and channels to it."""

    members: Members
    started: Started
    stop: asyncio.Event
    channels: list[grpc.aio.Channel]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.started.port}"

    @property
    def enrol_address(self) -> str:
        return f"127.0.0.1:{self.started.enrol_port}"

    def channel(
        self, who: str | TlsIdentity | bytes, address: str = "", receive_bytes: int = MAX_MESSAGE_BYTES
    ) -> grpc.aio.Channel:
        """A channel of a member, of any identity, or of nobody (the root's certificate alone)."""
        identity = self.members.identity(who) if isinstance(who, str) else who
        channel = connect(address or self.address, identity, receive_bytes)
        self.channels.append(channel)
        return channel

    async def install(self, bundle: bytes) -> None:
        """The operator installs a bundle on the running server."""
        await rpc.ControlStub(self.channel("olga")).InstallTrust(pb.InstallTrustRequest(bundle=bundle))

    async def revoke(self, name: str) -> None:
        """The root holder revokes, the operator installs."""
        await self.install(self.members.root.revoke(name))


@contextlib.asynccontextmanager
async def serving(members: Members, clock: Clock | None = None, settings: str = "") -> AsyncIterator[Edge]:
    """The server of `members`, in this loop, until the block ends; `settings` stand before its other settings."""
    if settings:
        held = members.folder / "hub" / "server.toml"
        held.write_text(f"{settings}\n{held.read_text()}")
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(members.folder / "hub", stop, ready.set_result, clock=clock))
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    edge = Edge(members, ready.result(), stop, [])
    try:
        yield edge
    finally:
        for channel in edge.channels:
            await channel.close()
        stop.set()
        await task


def raw(channel: grpc.aio.Channel, path: str) -> grpc.aio.StreamStreamCall:
    """Any RPC as a stream of bytes both ways, which on the wire it is."""
    return channel.stream_stream(path)()


async def failure(call: grpc.aio.StreamStreamCall, seconds: float = 5.0) -> AimassError:
    """Read `call` to its end and give the named error that ended it; an RPC that ends well fails the test."""
    try:
        async with asyncio.timeout(seconds):
            while await call.read() is not grpc.aio.EOF:
                pass
            code = await call.code()
    except grpc.aio.AioRpcError as error:
        return error_of(error)
    assert code != grpc.StatusCode.OK, "the call ended well"
    return error_of(await broken(call))


@dataclasses.dataclass(slots=True)
class Line:
    """One partner's control stream."""

    call: grpc.aio.StreamStreamCall

    @staticmethod
    async def open(
        channel: grpc.aio.Channel,
        lowest: int = 1,
        highest: int = 1,
        nonce: bytes = bytes(32),
        roster_digest: str = "",
    ) -> Line:
        line = Line(rpc.FederationStub(channel).Connect())
        hello = pb.Hello(
            protocol_min=lowest, protocol_max=highest, software="a test", nonce=nonce, roster_digest=roster_digest
        )
        await line.call.write(pb.FromPartner(hello=hello))
        return line

    async def read(self, kind: str) -> pb.ToPartner:
        """The next message, which is of `kind`."""
        message = await asyncio.wait_for(self.call.read(), 5)
        if message is grpc.aio.EOF:
            raise error_of(await broken(self.call))
        assert message.WhichOneof("body") == kind, message
        return message  # type: ignore[no-any-return]

    async def until(self, kind: str) -> pb.ToPartner:
        """The next message of `kind`."""
        while True:
            message = await asyncio.wait_for(self.call.read(), 5)
            if message is grpc.aio.EOF:
                raise error_of(await broken(self.call))
            if message.WhichOneof("body") == kind:
                return message  # type: ignore[no-any-return]


async def broken(call: grpc.aio.StreamStreamCall) -> grpc.aio.AioRpcError:
    """The status that a stream ended with, as an error."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


async def welcomed(edge: Edge, name: str) -> Line:
    """A partner that is connected and has read welcome and bundle."""
    line = await Line.open(edge.channel(name))
    await line.read("welcome")
    await line.read("trust")
    return line
