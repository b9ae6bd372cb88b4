"""Role x RPC over the real wire, against a table written down a second time."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.privacy.pki import Role
from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.offers import DifferenceRequest
from aimass.proto.transfer import FetchRequest, SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json
from aimass.proto.wire import error_of
from aimass.server.authorisation import TABLE
from tests.support.edge_federation import CONNECT, Edge, Members, raw, run, serving

HELLO = pb.FromPartner(hello=pb.Hello(protocol_min=1, protocol_max=1, nonce=bytes(32))).SerializeToString()
CONTROL = (
    "SubmitRun", "ListRuns", "ShowRun", "WatchRun", "ChangeRun", "ListReceipts",
    "ListModels", "ShowModel", "ShowManifest", "Status", "ListEnrolments", "InstallTrust",
    "SubmitOffline", "ReportRun", "ReportStep", "ReportEnd", "WhoAmI", "EndStudy",
)  # fmt: skip
HEALTH = ("Check", "Watch")
PROBES = {
    CONNECT: HELLO,
    "/aimass.v1.Blobs/Fetch": canonical_json(FetchRequest(digest="0" * 64)),
    "/aimass.v1.Blobs/Difference": canonical_json(DifferenceRequest(run_id="0" * 32, held="0" * 64, wanted="1" * 64)),
    "/aimass.v1.Blobs/Submit": canonical_json(SubmitHeader(kind="model", size=1, digest="0" * 64)),
    **{f"/aimass.v1.Control/{name}": b"" for name in CONTROL},
    **{f"/grpc.health.v1.Health/{name}": b"" for name in HEALTH},
}
MAY = {
    "north": {"Connect", "Fetch", "Difference", "Submit", *HEALTH},
    "olga": {"Fetch", "Submit", *CONTROL, *HEALTH},
    "anna": {
        "Fetch", "Submit", "SubmitRun", "ListRuns", "ShowRun", "WatchRun", "ChangeRun",
        "ListReceipts", "ListModels", "ShowModel", "ShowManifest",
        "SubmitOffline", "ReportRun", "ReportStep", "ReportEnd", "WhoAmI", "EndStudy", *HEALTH,
    },
    "cleo": {"Fetch", "ListRuns", "ShowRun", "WatchRun", "ListModels", "ShowModel", "ShowManifest", "WhoAmI", *HEALTH},
    "grid": set(HEALTH),
    "hub": set(),
}  # fmt: skip


async def probe(edge: Edge, who: str, path: str) -> AimassError | None:
    """The error that a call ends with; None where it gets an answer."""
    call = raw(edge.channel(who), path)
    try:
        await call.write(PROBES[path])
        if path != CONNECT:
            await call.done_writing()
        answer = await call.read()
        if answer is grpc.aio.EOF:
            await call.code()
    except grpc.aio.AioRpcError as error:
        return error_of(error)
    finally:
        call.cancel()
    return None


@pytest.mark.parametrize("who", MAY)
def test_a_role_reaches_the_rpcs_of_its_row_and_no_other(tmp_path: Path, who: str) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            reached = set()
            for path in PROBES:
                error = await probe(edge, who, path)
                if error is None or error.code != "role.refused":
                    reached.add(path.rpartition("/")[2])
            assert reached == MAY[who]

    run(scenario())


def test_every_rpc_of_the_schema_stands_in_the_table() -> None:
    services = pb.DESCRIPTOR.services_by_name
    methods = {method.name for name in ("Federation", "Control") for method in services[name].methods}
    assert set(TABLE) == methods | {"Fetch", "Difference", "Submit", *HEALTH}
    assert {path.rpartition("/")[2] for path in PROBES} == set(TABLE)


def test_nobody_of_the_table_is_the_server_and_a_service_may_ask_for_health_alone() -> None:
    assert not any(Role.SERVER in roles for roles in TABLE.values())
    assert {name for name, roles in TABLE.items() if Role.SERVICE in roles} == set(HEALTH)
