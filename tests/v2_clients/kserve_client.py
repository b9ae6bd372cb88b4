"""KServe's client against a server: `kserve_client.py HTTP GRPC`. Prints a line for each thing that was tried."""

# mypy: ignore-errors
from __future__ import annotations

import asyncio
import sys

import grpc
import httpx
from echoed import ENDS, Report, expect, same
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def request(binary, outputs=None):
    """All that the client can write in this form: it has FP16 as bytes alone, and sends the rest beside them."""
    inputs = []
    for datatype, array in ENDS.items():
        one = InferInput(datatype.lower(), list(array.shape), datatype)
        one.set_data_from_numpy(array, binary_data=binary or datatype == "FP16")
        inputs.append(one)
    return InferRequest("identity", inputs, request_id="42", request_outputs=outputs)


def compared(response, version):
    expect((response.model_name, response.model_version, response.id) == ("identity", version, "42"), response)
    for datatype, array in ENDS.items():
        got = response.get_output_by_name(datatype.lower())
        expect(got is not None and same(got.as_numpy(), array), f"{datatype}: {got}")


async def refused(call, kind, told):
    try:
        await call
    except kind as error:
        expect(told(error), error)
    else:
        raise AssertionError("nothing was refused")


async def over_http(address):
    url = f"http://{address}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))

    async def unknown():
        await refused(
            client.infer(url, request(True), model_name="none"),
            httpx.HTTPStatusError,
            lambda error: error.response.status_code == 404,
        )

    async def asked(binary, as_bytes):
        outputs = [RequestedOutput(name.lower(), {"binary_data": as_bytes or name == "FP16"}) for name in ENDS]
        compared(await client.infer(url, request(binary, outputs), model_name="identity"), None)  # which it leaves out

    yield "http live", client.is_server_live(url)
    yield "http ready", client.is_server_ready(url)
    yield "http model ready", client.is_model_ready(url, "identity")
    for binary in (True, False):
        for as_bytes in (True, False):
            yield f"http binary {binary}, outputs binary {as_bytes}", asked(binary, as_bytes)
    yield "http unknown model", unknown()
    await client.close()


async def over_grpc(address):
    client = InferenceGRPCClient(address, retries=0)

    async def all_datatypes():
        # Its reader of answers does not know BF16 over gRPC, so that is not asked for.
        compared(await client.infer(request(True, [RequestedOutput(name.lower()) for name in ENDS])), "1")

    async def unknown():
        asked = request(True)
        asked.model_name = "none"
        await refused(client.infer(asked), grpc.RpcError, lambda error: error.code() is grpc.StatusCode.NOT_FOUND)

    yield "grpc live", client.is_server_live()
    yield "grpc ready", client.is_server_ready()
    yield "grpc model ready", client.is_model_ready("identity")
    yield "grpc all datatypes", all_datatypes()
    yield "grpc unknown model", unknown()
    await client.close()


async def main(http, rpc):
    report = Report()
    for tried in (over_http(http), over_grpc(rpc)):
        async for name, call in tried:
            try:
                found = await call
            except Exception as error:  # noqa: BLE001  (it is told, and the next thing is tried)
                found = error
            report.check(name, lambda found=found: told(found))


def told(found):
    if isinstance(found, Exception):
        raise found
    expect(found in {None, True}, found)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
