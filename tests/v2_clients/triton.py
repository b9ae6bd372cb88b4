"""tritonclient against a server: `triton.py HTTP GRPC`, both HOST:PORT. Prints a line for each thing that was tried."""

# mypy: ignore-errors
from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from echoed import ENDS, Report, expect, same
from tritonclient.utils import InferenceServerException

ALL = {**ENDS, "BF16": np.array([[1.5, -3.0]], ml_dtypes.bfloat16)}


def inputs(kit, binary=None):
    made = []
    for datatype, array in ALL.items():
        one = kit.InferInput(datatype.lower(), list(array.shape), datatype)
        if binary is None:
            one.set_data_from_numpy(array)
        else:
            one.set_data_from_numpy(array, binary_data=binary or datatype == "BF16")
        made.append(one)
    return made


def compared(result):
    for datatype, array in ALL.items():
        got = result.as_numpy(datatype.lower())
        expect(got is not None and same(got, array), f"{datatype}: {got!r} of {array!r}")


def refused(call, status):
    try:
        call()
    except InferenceServerException as error:
        expect(str(error.status()).removeprefix("StatusCode.") == status, f"{error.status()}: {error.message()}")
        expect(error.message(), "no text")
    else:
        raise AssertionError("nothing was refused")


def both(report, kind, kit, client, statuses):
    """What is the same over HTTP and gRPC, by `statuses` for a wrong request and an unknown model."""
    wrong, unknown = statuses
    report.check(f"{kind} health", lambda: expect(client.is_server_live() and client.is_server_ready()))
    report.check(f"{kind} model ready", lambda: expect(client.is_model_ready("identity")))
    report.check(f"{kind} version ready", lambda: expect(client.is_model_ready("identity", "1")))

    def outputs():
        result = client.infer("identity", inputs(kit), outputs=[kit.InferRequestedOutput("fp32")], request_id="42")
        said = result.get_response()
        said = said if isinstance(said, dict) else {"id": said.id, "model_version": said.model_version}
        expect(same(result.as_numpy("fp32"), ALL["FP32"]))
        expect(result.as_numpy("int8") is None, "more than was asked for")
        expect((said["id"], said["model_version"]) == ("42", "1"), said)

    report.check(f"{kind} requested output", outputs)
    report.check(f"{kind} version", lambda: compared(client.infer("identity", inputs(kit), model_version="1")))
    report.check(f"{kind} timeout", lambda: compared(client.infer("identity", inputs(kit), timeout=10_000_000)))
    report.check(
        f"{kind} parameters", lambda: compared(client.infer("identity", inputs(kit), parameters={"mine": "yes"}))
    )
    report.check(f"{kind} unknown model", lambda: refused(lambda: client.infer("none", inputs(kit)), unknown))
    report.check(
        f"{kind} unknown version",
        lambda: refused(lambda: client.infer("identity", inputs(kit), model_version="7"), unknown),
    )
    report.check(f"{kind} missing inputs", lambda: refused(lambda: client.infer("identity", inputs(kit)[:3]), wrong))
    report.check(
        f"{kind} unknown output",
        lambda: refused(
            lambda: client.infer("identity", inputs(kit), outputs=[kit.InferRequestedOutput("none")]), wrong
        ),
    )

    def shape():
        one = kit.InferInput("fp32", [2], "FP32")
        one.set_data_from_numpy(np.zeros(2, np.float32))
        client.infer("identity", [one])

    report.check(f"{kind} wrong shape", lambda: refused(shape, wrong))
    report.check(f"{kind} load", lambda: client.load_model("identity"))
    report.check(
        f"{kind} load with a configuration", lambda: refused(lambda: client.load_model("identity", config="{}"), wrong)
    )
    report.check(f"{kind} load of an unknown model", lambda: refused(lambda: client.load_model("none"), unknown))


def http(report, address):
    with over_http.InferenceServerClient(address, concurrency=4) as client:
        both(report, "http", over_http, client, ("400", "404"))
        for ins in (True, False):
            for outs in (True, False):
                wanted = [over_http.InferRequestedOutput(name.lower(), binary_data=outs) for name in ALL]
                report.check(
                    f"http inputs {'binary' if ins else 'JSON'}, outputs {'binary' if outs else 'JSON'}",
                    lambda ins=ins, wanted=wanted: compared(
                        client.infer("identity", inputs(over_http, ins), outputs=wanted)
                    ),
                )

        def metadata():
            said = client.get_model_metadata("identity")
            expect({one["name"]: one["datatype"] for one in said["inputs"]} == {n.lower(): n for n in ALL}, said)
            expect(said["versions"] == ["1"], said)
            server = client.get_server_metadata()
            expect(server["name"] == "aimass" and "binary_tensor_data" in server["extensions"], server)

        def index():
            (one,) = client.get_model_repository_index()
            expect((one["name"], one["version"], one["state"]) == ("identity", "1", "READY"), one)

        def several():
            asked = [client.async_infer("identity", inputs(over_http)) for _ in range(16)]
            for one in asked:
                compared(one.get_result())

        report.check("http metadata", metadata)
        report.check("http index", index)
        report.check("http at once", several)


def grpc(report, address):
    with over_grpc.InferenceServerClient(address) as client:
        both(report, "grpc", over_grpc, client, ("INVALID_ARGUMENT", "NOT_FOUND"))

        def metadata():
            said = client.get_model_metadata("identity")
            expect({one.name: one.datatype for one in said.outputs} == {n.lower(): n for n in ALL}, said)
            expect(list(said.versions) == ["1"], said)
            expect("model_repository" in client.get_server_metadata().extensions)

        def index():
            (one,) = client.get_model_repository_index().models
            expect((one.name, one.version, one.state) == ("identity", "1", "READY"), one)

        report.check("grpc metadata", metadata)
        report.check("grpc index", index)
        report.check("grpc all datatypes", lambda: compared(client.infer("identity", inputs(over_grpc))))
        report.check(
            "grpc client timeout", lambda: compared(client.infer("identity", inputs(over_grpc), client_timeout=10))
        )


if __name__ == "__main__":
    http(Report(), sys.argv[1])
    grpc(Report(), sys.argv[2])
