from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest

from aimass.proto.errors import METADATA_KEY, AimassError, BadInput, InternalError, Refused, from_wire
from aimass.proto.grpc_env import grpc
from aimass.proto.servable import DTYPES, Array, Servable
from aimass.proto.v1 import inference_pb2 as pb
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.server.serving.access import Caller
from aimass.server.serving.dispatch.requests import Answer, InvalidOutput, Overloaded, QueueDeadline, Request
from aimass.server.serving.grpc.calls import GrpcMeters
from aimass.server.serving.grpc.ports import inference_server
from aimass.server.serving.grpc.service import InferenceService
from aimass.server.serving.grpc.settings import GrpcLimits
from aimass.server.serving.tokens import May
from aimass.server.serving.v2.elements import pack
from tests.support.fronts import DirectDispatcher, Identity


class Broken(Identity):
    """A fault of ours."""

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        raise KeyError("secret")


class Noticing(DirectDispatcher):
    """Says when nobody waits for an answer any more."""

    def __init__(self, servables: Mapping[tuple[str, int], Servable]) -> None:
        super().__init__(servables)
        self.gone = asyncio.Event()

    async def infer(self, request: Request) -> Answer:
        try:
            return await super().infer(request)
        finally:
            self.gone.set()


class Doors:
    """Admits all, or ends each call with `fault`; `asked` is what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fault: AimassError | None = None
        self.caller = Caller("olga")

    def admit(self, context: Any, may: May, model: str) -> Caller:
        self.asked.append((may, model))
        if self.fault is not None:
            raise self.fault
        return self.caller

    def known(self, context: Any, may: May, model: str) -> Caller:
        return self.caller


class Shelf:
    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    async def load(self, model: str) -> None:
        self.done.append(("load", model))

    async def unload(self, model: str) -> None:
        self.done.append(("unload", model))


class House:
    """A server on loopback over an identity model in two versions, and a client of it."""

    def __init__(self) -> None:
        self.dispatcher = Noticing({("echo", 1): Identity(), ("echo", 2): Identity(), ("broken", 1): Broken()})
        self.dispatcher.known.add("sick")
        self.doors, self.shelf, self.meters = Doors(), Shelf(), GrpcMeters()
        self.ready = True
        self.channel: Any = None

    @contextlib.asynccontextmanager
    async def open(self, limits: GrpcLimits | None = None) -> AsyncIterator[rpc.GRPCInferenceServiceStub]:
        service = InferenceService(
            self.dispatcher, self.shelf, self.doors, self.meters, lambda: 100.0, 30.0, "0.1.0", lambda: self.ready
        )
        server = inference_server(service, limits or GrpcLimits())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                self.channel = channel
                yield rpc.GRPCInferenceServiceStub(channel)
        finally:
            await server.stop(0)


def with_house(check: Callable[[House, Any], Awaitable[None]], limits: GrpcLimits | None = None) -> House:
    async def run() -> House:
        house = House()
        async with house.open(limits) as stub:
            await asyncio.wait_for(check(house, stub), 20)
        return house

    return asyncio.run(run())


def echo(
    datatype: str = "FP32", shape: tuple[int, ...] = (1, 2), output: str = "", **rest: Any
) -> pb.ModelInferRequest:
    array = np.zeros(shape, DTYPES[datatype])
    if datatype == "BYTES":
        array[:] = b"text"
    return pb.ModelInferRequest(
        model_name=rest.pop("model_name", "echo"),
        inputs=[{"name": datatype.lower(), "datatype": datatype, "shape": shape}],
        outputs=[{"name": output or datatype.lower()}],
        raw_input_contents=[pack(datatype, array)],
        **rest,
    )


async def failed(call: Any) -> tuple[str, AimassError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    told = dict(caught.value.trailing_metadata() or ())
    return caught.value.code().name, from_wire(told[METADATA_KEY])


@pytest.mark.parametrize("datatype", list(DTYPES))
def test_every_datatype_comes_back_to_the_bit(datatype: str) -> None:
    async def check(house: House, stub: Any) -> None:
        asked = echo(datatype)
        answer = await stub.ModelInfer(asked)
        assert list(answer.raw_output_contents) == list(asked.raw_input_contents)
        assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (datatype, [1, 2])

    with_house(check)


def test_an_answer_says_which_version_gave_it_and_whose_it_is() -> None:
    async def check(house: House, stub: Any) -> None:
        answer = await stub.ModelInfer(echo(id="42", model_version="1"))
        assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", "42")
        assert house.dispatcher.asked[0].version == 1

    with_house(check)


def test_the_shortest_of_what_the_client_and_the_server_allow_is_the_deadline() -> None:
    async def check(house: House, stub: Any) -> None:
        asked = echo()
        await stub.ModelInfer(asked)
        await stub.ModelInfer(asked, timeout=10)
        asked.parameters["timeout"].int64_param = 2_000_000
        await stub.ModelInfer(asked, timeout=10)
        deadlines = [one.deadline for one in house.dispatcher.asked]
        assert deadlines[0] == 130.0
        assert 100.0 < deadlines[1] < 111.0
        assert deadlines[2] == 102.0

    with_house(check)


def test_metadata_names_versions_and_tensors() -> None:
    async def check(house: House, stub: Any) -> None:
        said = await stub.ModelMetadata(pb.ModelMetadataRequest(name="echo"))
        assert (said.name, list(said.versions), said.platform) == ("echo", ["1", "2"], "aimass")
        assert {(one.name, one.datatype) for one in said.inputs} == {(name.lower(), name) for name in DTYPES}
        assert list(said.outputs[0].shape) == [-1, -1]
        server = await stub.ServerMetadata(pb.ServerMetadataRequest())
        assert (server.name, server.version) == ("aimass", "0.1.0")
        assert "model_repository" in server.extensions

    with_house(check)


def test_health_tells_ready_from_alive_and_one_model_from_another() -> None:
    async def check(house: House, stub: Any) -> None:
        house.ready = False
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="echo", version="2"))).ready
        assert not (await stub.ModelReady(pb.ModelReadyRequest(name="sick"))).ready
        assert (await failed(stub.ModelReady(pb.ModelReadyRequest(name="none"))))[0] == "NOT_FOUND"

    with_house(check)


def test_the_repository_is_listed_loaded_and_unloaded() -> None:
    async def check(house: House, stub: Any) -> None:
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert [(one.name, one.version, one.state) for one in index.models] == [
            ("broken", "1", "READY"),
            ("echo", "1", "READY"),
            ("echo", "2", "READY"),
            ("sick", "", "UNAVAILABLE"),
        ]
        ready = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert {one.name for one in ready.models} == {"broken", "echo"}
        house.doors.caller = Caller("olga", ("echo",))
        shown = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        assert {one.name for one in shown.models} == {"echo"}
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sick"))
        await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="echo"))
        config = {"config": pb.ModelRepositoryParameter(string_param="{}")}
        status, error = await failed(
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sick", parameters=config))
        )
        assert (status, error.code) == ("INVALID_ARGUMENT", "v2.load_parameters")

    house = with_house(check)
    assert house.shelf.done == [("load", "sick"), ("unload", "echo")]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (BadInput("the model cannot take this"), "INVALID_ARGUMENT"),
        (Overloaded("full", retry_after_s=1), "RESOURCE_EXHAUSTED"),
        (QueueDeadline("echo"), "DEADLINE_EXCEEDED"),
        (InvalidOutput("echo", 1, "NaN"), "INTERNAL"),
    ],
)
def test_each_way_to_fail_has_its_status(fault: AimassError, status: str) -> None:
    async def check(house: House, stub: Any) -> None:
        house.dispatcher.fails = fault
        got, error = await failed(stub.ModelInfer(echo()))
        assert (got, error.code) == (status, fault.code)

    house = with_house(check)
    assert house.meters.calls.read() == {("ModelInfer", status): 1}


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (pb.ModelInferRequest(model_name="none"), "NOT_FOUND", "serving.model_unknown"),
        (pb.ModelInferRequest(model_name="echo", model_version="7"), "NOT_FOUND", "serving.model_unknown"),
        (pb.ModelInferRequest(model_name="echo", model_version="v1"), "NOT_FOUND", "serving.model_unknown"),
        (pb.ModelInferRequest(model_name="sick"), "UNAVAILABLE", "serving.not_ready"),
        (echo(output="fp8"), "INVALID_ARGUMENT", "serving.output_unknown"),
        (echo(shape=(1,)), "INVALID_ARGUMENT", "serving.input_form"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(asked: pb.ModelInferRequest, status: str, code: str) -> None:
    async def check(house: House, stub: Any) -> None:
        got, error = await failed(stub.ModelInfer(asked))
        assert (got, error.code) == (status, code)

    with_house(check)


def test_callers_are_admitted_to_the_model_that_they_ask_and_to_health_without() -> None:
    async def check(house: House, stub: Any) -> None:
        house.doors.fault = Refused("not for you", code="serve.scope")
        await stub.ServerLive(pb.ServerLiveRequest())
        await stub.ServerReady(pb.ServerReadyRequest())
        for call in (
            stub.ModelInfer(echo()),
            stub.ModelMetadata(pb.ModelMetadataRequest(name="echo")),
            stub.RepositoryIndex(pb.RepositoryIndexRequest()),
            stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sick")),
            stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="echo")),
        ):
            status, error = await failed(call)
            assert (status, error.code) == ("PERMISSION_DENIED", "serve.scope")

    house = with_house(check)
    asked = [("infer", ""), ("infer", "echo"), ("infer", "echo"), ("manage", "echo"), ("manage", "sick")]
    assert sorted(house.doors.asked) == asked
    assert not house.dispatcher.asked
    assert not house.shelf.done


def test_what_nobody_foresaw_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def check(house: House, stub: Any) -> None:
        status, error = await failed(stub.ModelInfer(echo(model_name="broken")))
        assert status == "INTERNAL"
        assert isinstance(error, InternalError)
        assert "secret" not in str(error)

    with_house(check)
    assert "secret" in caplog.text


def test_a_call_that_its_client_gives_up_ends_here_too() -> None:
    async def check(house: House, stub: Any) -> None:
        house.dispatcher.held = []
        call = stub.ModelInfer(echo())
        await house.dispatcher.came.wait()
        call.cancel()
        await house.dispatcher.gone.wait()

    house = with_house(check)
    assert house.meters.calls.read() == {("ModelInfer", "CANCELLED"): 1}


def test_a_server_that_has_too_much_to_do_says_when_to_ask_again() -> None:
    async def check(house: House, stub: Any) -> None:
        house.dispatcher.fails = Overloaded("full", retry_after_s=0.25)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(echo())
        assert dict(caught.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "250"

    with_house(check)


def test_a_message_that_is_small_until_it_is_unpacked_is_refused_too() -> None:
    async def check(house: House, stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(echo(shape=(1, 1 << 20)), compression=grpc.Compression.Gzip)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        assert not house.dispatcher.asked

    with_house(check, GrpcLimits(message_bytes=1 << 20))


def test_bytes_that_are_no_message_end_their_call_alone() -> None:
    async def run() -> None:
        house = House()
        async with house.open() as stub:
            garbage = house.channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer", request_serializer=bytes, response_deserializer=bytes
            )
            for data in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", bytes(1000)):
                with pytest.raises(grpc.aio.AioRpcError):
                    await garbage(data)
            assert (await stub.ModelInfer(echo())).model_name == "echo"

    asyncio.run(run())


def test_a_call_whose_message_does_not_come_gives_its_place_to_another() -> None:
    async def check(house: House, stub: Any) -> None:
        begin = house.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        silent = [begin() for _ in range(2)]
        for call in silent:
            status, error = await failed(call)
            assert (status, error.code) == ("DEADLINE_EXCEEDED", "serving.slow")
        assert (await stub.ModelInfer(echo())).model_name == "echo"

    with_house(check, GrpcLimits(calls=2, request_s=0.1))


def test_a_call_that_ends_without_a_message_is_refused() -> None:
    async def check(house: House, stub: Any) -> None:
        call = house.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")()
        await call.done_writing()
        status, error = await failed(call)
        assert (status, error.code) == ("INVALID_ARGUMENT", "serving.no_message")

    with_house(check)


def test_a_message_larger_than_the_limit_and_a_call_too_many_are_refused() -> None:
    async def check(house: House, stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as large:
            await stub.ModelInfer(echo(shape=(1, 10_000)))
        assert large.value.code().name == "RESOURCE_EXHAUSTED"
        house.dispatcher.held = []
        first = stub.ModelInfer(echo())
        await house.dispatcher.came.wait()
        with pytest.raises(grpc.aio.AioRpcError) as many:
            await stub.ModelInfer(echo())
        assert many.value.code().name == "RESOURCE_EXHAUSTED"
        house.dispatcher.release()
        assert (await first).model_name == "echo"

    with_house(check, GrpcLimits(message_bytes=20_000, calls=1))
