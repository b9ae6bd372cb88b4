"""The floor of a round: raw gRPC copies over mutual TLS, SHA-256 of each copy, one fsynced write of each update.

`floor_seconds` starts a server process and a process for each partner, as a federation has them, and nothing else of
what a federation does. The same file, started with arguments, is those processes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aimass.privacy.enrolment import make_request
from aimass.privacy.keys import create_keys, load_keys, tls_key_pem
from aimass.privacy.pki import Role
from aimass.privacy.root_store import RootStore
from aimass.privacy.trust_bundle import open_bundle
from aimass.proto.grpc_env import grpc
from aimass.proto.tls import TlsIdentity
from aimass.proto.wire import SERVER_OPTIONS, connect, server_credentials

_CHUNK = 1 << 20
_SERVICE = "floor"


def floor_seconds(folder: Path, size: int, partners: int, rounds: int) -> list[float]:
    """Seconds of each round after the first: all partners fetch `size` bytes, then all send as many."""
    folder.mkdir()
    root = RootStore.create(folder / "root", "floor", time.time())
    names = ["hub", *(f"p{index}" for index in range(partners))]
    requests = []
    for name in names:
        role, hosts = (Role.SERVER, ("127.0.0.1",)) if name == "hub" else (Role.PARTNER, ())
        token = root.token(name, role, hosts, time.time() + 600)
        requests.append(make_request(token, create_keys(folder / name)))
    (folder / "bundle.json").write_bytes(root.sign(requests, time.time()))
    (folder / "root.pem").write_bytes(root.root.to_pem())
    server = _start(folder, "serve", str(size))
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    clients = [_start(folder, "take", str(size), name, port, str(rounds)) for name in names[1:]]
    seconds: list[float] = []
    try:
        for _ in range(rounds):
            started = time.perf_counter()
            for client in clients:
                assert client.stdin is not None
                client.stdin.write("go\n")
                client.stdin.flush()
            for client in clients:
                assert client.stdout is not None
                client.stdout.readline()
            seconds.append(time.perf_counter() - started)
    finally:
        for process in (*clients, server):
            process.kill()
            process.communicate()
    return seconds[1:]


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.benches.floor", str(folder), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _identity(folder: Path, name: str) -> TlsIdentity:
    from aimass.privacy.trust_bundle import Root

    root = Root.from_pem((folder / "root.pem").read_bytes())
    certificates = open_bundle((folder / "bundle.json").read_bytes(), root).certificates
    role = "server" if name == "hub" else "partner"
    return TlsIdentity(certificates[f"{role}/{name}"], tls_key_pem(load_keys(folder / name).tls), root.certificate_pem)


async def _serve(folder: Path, size: int) -> None:
    data = memoryview(bytes(size))

    async def down(_: bytes, __: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for start in range(0, size, _CHUNK):
            yield bytes(data[start : start + _CHUNK])

    async def up(requests: AsyncIterator[bytes], __: grpc.aio.ServicerContext) -> bytes:
        hasher, path = hashlib.sha256(), folder / f"up-{os.urandom(4).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

        def take(chunk: bytes) -> None:
            hasher.update(chunk)
            os.write(descriptor, chunk)

        async for chunk in requests:
            await asyncio.to_thread(take, chunk)
        await asyncio.to_thread(os.fsync, descriptor)
        os.close(descriptor)
        path.unlink()
        return hasher.digest()

    server = grpc.aio.server(options=list(SERVER_OPTIONS))
    handlers = {
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    credentials = server_credentials(lambda: _identity(folder, "hub"))
    sys.stdout.write(f"{server.add_secure_port('127.0.0.1:0', credentials)}\n")
    sys.stdout.flush()
    await server.start()
    await server.wait_for_termination()


async def _take(folder: Path, size: int, name: str, port: str, rounds: int) -> None:
    channel, data = connect(f"127.0.0.1:{port}", _identity(folder, name)), memoryview(bytes(size))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, _CHUNK):
            yield bytes(data[start : start + _CHUNK])

    for _ in range(rounds):
        await asyncio.to_thread(sys.stdin.readline)
        hasher = hashlib.sha256()
        async for chunk in channel.unary_stream(f"/{_SERVICE}/Down")(b""):
            await asyncio.to_thread(hasher.update, chunk)
        await channel.stream_unary(f"/{_SERVICE}/Up")(chunks())
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    place, kind, *more = sys.argv[1:]
    if kind == "serve":
        asyncio.run(_serve(Path(place), int(more[0])))
    elif kind == "take":
        asyncio.run(_take(Path(place), int(more[0]), more[1], more[2], int(more[3])))
    else:
        sys.stdout.write(json.dumps(floor_seconds(Path(place), int(kind), 2, 5)) + "\n")
