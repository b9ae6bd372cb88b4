"""What others see of a real server: health over mutual TLS, readiness and figures over HTTP, until it stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json
from aimass.proto.wire import error_of
from tests.support.edge_federation import Edge, Members, failure, raw, run, serving, welcomed
from tests.support.figures import get, samples

# isort: split
from grpc_health.v1 import health_pb2 as schema
from grpc_health.v1 import health_pb2_grpc as health_rpc

WATCHED = 'watch_listen = "127.0.0.1:0"'
SERVING = schema.HealthCheckResponse.SERVING
NOT_SERVING = schema.HealthCheckResponse.NOT_SERVING
SUBMIT = "/aimass.v1.Blobs/Submit"


async def check(edge: Edge, who: str = "grid", service: str = "") -> int:
    stub = health_rpc.HealthStub(edge.channel(who))
    return int((await stub.Check(schema.HealthCheckRequest(service=service))).status)


async def ready(edge: Edge) -> tuple[int, list[str]]:
    status, _, body = await get(edge.started.watch_port, "/readyz")
    return status, [reason["code"] for reason in json.loads(body)["reasons"]]


def full(members: Members) -> Members:
    """A server whose floor of free space no disk reaches."""
    held = members.folder / "hub" / "server.toml"
    lines = [line for line in held.read_text().splitlines() if not line.startswith("min_free_bytes")]
    held.write_text("\n".join(lines).replace("[limits]", f"[limits]\nmin_free_bytes = {1 << 60}"))
    return members


def test_a_server_that_serves_says_so_to_every_probe(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path), settings=WATCHED) as edge:
            for service in ("", "aimass.v1.Federation", "aimass.v1.Control", "aimass.v1.Blobs"):
                assert await check(edge, service=service) == SERVING
            assert await ready(edge) == (200, [])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(edge, service="aimass.v1.Nothing")
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    run(scenario())


def test_a_disk_below_its_floor_is_not_ready_in_both_languages_and_metrics_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(full(Members.create(tmp_path)), settings=WATCHED) as edge:
            assert await ready(edge) == (503, ["server.low_space"])
            assert await check(edge) == NOT_SERVING
            assert (await get(edge.started.watch_port, "/healthz"))[0] == 200
            status, _, body = await get(edge.started.watch_port, "/metrics")
            assert status == 200
            assert samples(body.decode())["aimass_ready", ""] == 0

    run(scenario())


def test_a_server_that_stops_says_so_before_it_is_gone_and_ends_its_watches(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path), settings=WATCHED) as edge:
            watch = health_rpc.HealthStub(edge.channel("grid")).Watch(schema.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            upload = raw(edge.channel("olga"), SUBMIT)
            await upload.write(canonical_json(SubmitHeader(kind="model", size=1, digest="0" * 64)))
            assert await upload.read() == b'{"offset":0}'  # its byte never comes, and the server waits in its grace
            edge.stop.set()
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() == grpc.StatusCode.OK
            assert await ready(edge) == (503, ["server.stopping"])
            assert (await get(edge.started.watch_port, "/healthz"))[0] == 200

    run(scenario())


def test_a_watcher_of_an_unknown_service_waits_and_a_fifth_watch_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            stub = health_rpc.HealthStub(edge.channel("grid"))
            watches = [stub.Watch(schema.HealthCheckRequest(service=name)) for name in ("", "x", "y", "z")]
            statuses = [int((await watch.read()).status) for watch in watches]
            assert statuses == [SERVING, *[schema.HealthCheckResponse.SERVICE_UNKNOWN] * 3]
            fifth = raw(edge.channel("grid"), "/grpc.health.v1.Health/Watch")
            await fifth.write(b"")
            await fifth.done_writing()
            assert (await failure(fifth)).code == "health.watches"
            other = health_rpc.HealthStub(edge.channel("olga")).Watch(schema.HealthCheckRequest())
            assert (await other.read()).status == SERVING

    run(scenario())


def test_a_revoked_member_is_told_nothing_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            watch = health_rpc.HealthStub(edge.channel("grid")).Watch(schema.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            await edge.revoke("grid")
            refused: AimassError | None = None
            try:
                await watch.read()
                await watch.read()
            except grpc.aio.AioRpcError as error:
                refused = error_of(error)
            assert refused is not None
            assert refused.code == "trust.revoked"

    run(scenario())


def test_figures_name_partners_and_neither_runs_nor_paths(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path), settings=WATCHED) as edge:
            await welcomed(edge, "north")
            status, headers, body = await get(edge.started.watch_port, "/metrics")
            text = body.decode()
            found = samples(text)
            assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
            assert found["aimass_partner_connected", 'partner="north"'] == 1
            assert found["aimass_partner_connected", 'partner="south"'] == 0
            assert found["aimass_partners_connected", ""] == 1
            assert found["aimass_runs", 'state="running"'] == 0
            assert found["aimass_ready", ""] == 1
            assert found["aimass_disk_free_bytes", ""] > 0
            assert found["aimass_certificate_ends_seconds", ""] > 1e9
            assert found["aimass_partner_certificate_ends_seconds", ""] > 1e9
            assert found["process_resident_memory_bytes", ""] > 1e6
            for secret in (str(tmp_path), "PRIVATE", "run=", "olga", edge.members.root.root.fingerprint):
                assert secret not in text

    run(scenario())


def test_refused_transfers_are_counted_by_their_code(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path), settings=WATCHED) as edge:
            call = raw(edge.channel("north"), SUBMIT)
            await call.write(b"no header")
            await failure(call)
            found = samples((await get(edge.started.watch_port, "/metrics"))[2].decode())
            assert found["aimass_transfers_refused_total", 'code="value.invalid"'] == 1
            assert found["aimass_log_complaints_total", 'code="value.invalid",level="warning"'] == 1

    run(scenario())


def test_a_server_that_nobody_watches_listens_on_its_two_ports_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            assert edge.started.watch_port == 0
            await rpc.ControlStub(edge.channel("olga")).Status(pb.StatusRequest())
            assert await check(edge) == SERVING

    run(scenario())
