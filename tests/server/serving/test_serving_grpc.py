"""A serving process over gRPC: the same models, tokens and certificates as over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import inference_pb2 as pb
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.server.health import health_rpc
from aimass.server.serving.main import Started
from aimass.server.serving.tokens import Token, TokenFile, digest_of_token, make_token, write_tokens
from tests.server.serving.test_serving_main import Place
from tests.support.authorities import Authority

# isort: split
from grpc_health.v1 import health_pb2 as health

GRPC = {"grpc": "127.0.0.1:0"}


@asynccontextmanager
async def calling(port: int, credentials: Any = None) -> AsyncIterator[Any]:
    address = f"127.0.0.1:{port}"
    made = grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
    async with made as channel:
        yield channel


def patient() -> pb.ModelInferRequest:
    """The one row of `fronts.ROW`, as KServe's client would write it."""
    message = pb.ModelInferRequest(model_name="heart", outputs=[{"name": "label"}])
    for name, datatype, shape, contents in (
        ("age", "FP64", (1, 1), {"fp64_contents": [61]}),
        ("chol", "FP64", (1, 1), {"fp64_contents": [240.5]}),
        ("sex", "BYTES", (1, 1), {"bytes_contents": [b"Male"]}),
        ("note", "BYTES", (1, 1), {"bytes_contents": [b"no pain"]}),
        ("scan", "UINT8", (1, 2, 2), {"uint_contents": [0, 1, 2, 255]}),
    ):
        message.inputs.add(name=name, datatype=datatype, shape=shape, contents=contents)
    return message


async def status_of(call: Any) -> str:
    """The status that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_champion_answers_and_probes_are_told_that_it_does(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        async with calling(started.grpc_port) as channel:
            answer = await rpc.GRPCInferenceServiceStub(channel).ModelInfer(patient())
            assert (answer.model_version, list(answer.outputs[0].contents.bytes_contents)) == ("1", [b"yes"])
            probe = health_rpc.HealthStub(channel)
            for name in ("", "inference.GRPCInferenceService"):
                told = await probe.Check(health.HealthCheckRequest(service=name))
                assert told.status == health.HealthCheckResponse.SERVING
            assert await status_of(probe.Check(health.HealthCheckRequest(service="other"))) == "NOT_FOUND"

    place.run(check, **GRPC)


def test_a_stop_tells_probes_first_and_answers_what_is_open(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        place.dispatcher.held = []
        async with calling(started.grpc_port) as channel:
            watch = health_rpc.HealthStub(channel).Watch(health.HealthCheckRequest())
            assert (await watch.read()).status == health.HealthCheckResponse.SERVING
            open_ = asyncio.ensure_future(rpc.GRPCInferenceServiceStub(channel).ModelInfer(patient()))
            await place.dispatcher.came.wait()
            stop.set()
            assert (await watch.read()).status == health.HealthCheckResponse.NOT_SERVING
            assert not place.dispatcher.closed
            place.dispatcher.release()
            assert (await open_).model_version == "1"

    place.run(check, **GRPC)


def test_tokens_are_asked_for_but_for_health(place: Place) -> None:
    secret, path = make_token(lambda size: b"\x01" * size), place.folder / "tokens.json"
    write_tokens(path, TokenFile(tokens=(Token(name="clinic", digest=digest_of_token(secret.reveal())),)))
    told = (("authorization", f"Bearer {secret.reveal().decode()}"),)

    async def check(started: Started, stop: asyncio.Event) -> None:
        async with calling(started.grpc_port) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            assert await status_of(stub.ModelInfer(patient())) == "UNAUTHENTICATED"
            assert await status_of(stub.ModelInfer(patient(), metadata=told)) == "OK"
            load = pb.RepositoryModelLoadRequest(model_name="heart")
            assert await status_of(stub.RepositoryModelLoad(load, metadata=told)) == "PERMISSION_DENIED"
            assert await status_of(stub.ServerReady(pb.ServerReadyRequest())) == "OK"

    place.run(check, tokens=str(path), **GRPC)


def test_tls_shows_its_certificate_and_asks_for_the_callers(place: Place, tmp_path: Path) -> None:
    servers, callers = Authority(), Authority()
    paths = {name: tmp_path / name for name in ("certificate", "key", "client_ca")}
    key, chain = servers.pair("serving", "127.0.0.1")
    for name, data in (("certificate", chain), ("key", key), ("client_ca", callers.pem)):
        paths[name].write_bytes(data)

    async def check(started: Started, stop: asyncio.Event) -> None:
        mine = grpc.ssl_channel_credentials(servers.pem, *callers.pair("olga"))
        for credentials, status in ((mine, "OK"), (grpc.ssl_channel_credentials(servers.pem), "UNAVAILABLE")):
            async with calling(started.grpc_port, credentials) as channel:
                stub = rpc.GRPCInferenceServiceStub(channel)
                assert await status_of(stub.ModelInfer(patient(), timeout=10)) == status

    place.run(check, tls={name: str(path) for name, path in paths.items()}, **GRPC)


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        (place.folder / "other").mkdir()
        other = Place(place.folder / "other")
        with pytest.raises(Unavailable, match="in use"):
            await asyncio.to_thread(other.run, check, grpc=f"127.0.0.1:{started.grpc_port}")

    place.run(check, **GRPC)
