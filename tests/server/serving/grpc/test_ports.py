from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import inference_pb2 as pb
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.proto.wire import TlsIdentity, server_credentials
from aimass.server.lifetime import GrpcPort
from aimass.server.serving.grpc.calls import GrpcMeters
from aimass.server.serving.grpc.ports import inference_server
from aimass.server.serving.grpc.service import InferenceService
from aimass.server.serving.grpc.settings import GrpcLimits
from tests.server.serving.grpc.test_service import Doors, Shelf
from tests.support.authorities import Authority
from tests.support.fronts import DirectDispatcher


def _server() -> grpc.aio.Server:
    service = InferenceService(
        DirectDispatcher({}), Shelf(), Doors(), GrpcMeters(), time.monotonic, 30.0, "0.1.0", lambda: True
    )
    return inference_server(service, GrpcLimits())


async def _is_live(port: int, root: bytes | None, own: tuple[bytes, bytes] | None = None) -> bool:
    address = f"127.0.0.1:{port}"
    key, chain = own or (None, None)
    if root is None:
        channel = grpc.aio.insecure_channel(address)
    else:
        channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root, key, chain))
    async with channel:
        try:
            answer = await rpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return bool(answer.live)


async def _serving(identity: Callable[[], TlsIdentity] | None, check: Any) -> None:
    port = GrpcPort(
        _server(),
        "127.0.0.1:0",
        server_credentials(identity, require_client=bool(identity().root_pem)) if identity else None,
        0.0,
    )
    number = port.listen()
    await port.start()
    try:
        await check(number)
    finally:
        await port.stop()


def test_a_port_without_certificates_answers_in_the_clear() -> None:
    async def check(port: int) -> None:
        assert await _is_live(port, None)

    asyncio.run(_serving(None, check))


def test_a_port_with_a_certificate_answers_callers_who_trust_it_and_nobody_in_the_clear() -> None:
    authority = Authority()
    identity = authority.identity()

    async def check(port: int) -> None:
        assert await _is_live(port, authority.pem)
        assert not await _is_live(port, Authority().pem)
        assert not await _is_live(port, None)

    asyncio.run(_serving(lambda: identity, check))


def test_a_port_that_asks_for_certificates_answers_those_of_its_authority_alone() -> None:
    authority, clients = Authority(), Authority()
    identity = authority.identity(clients.pem)

    async def check(port: int) -> None:
        assert await _is_live(port, authority.pem, clients.pair("olga"))
        assert not await _is_live(port, authority.pem)
        assert not await _is_live(port, authority.pem, Authority().pair("olga"))

    asyncio.run(_serving(lambda: identity, check))


def test_a_renewed_certificate_holds_from_the_next_handshake_on() -> None:
    former, later = Authority(), Authority()
    held = [former.identity()]

    async def check(port: int) -> None:
        assert await _is_live(port, former.pem)
        held[0] = later.identity()
        assert await _is_live(port, later.pem)
        assert not await _is_live(port, former.pem)

    asyncio.run(_serving(lambda: held[0], check))
