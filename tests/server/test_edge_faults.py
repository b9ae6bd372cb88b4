"""Faults that were found at the edge, each over the real wire: cut streams, torn uploads, hung-up callers, bad bundles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Contribution, Group
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.grpc_env import grpc
from aimass.proto.tensors import Blob
from aimass.proto.transfer import CHUNK_BYTES, FetchRequest, SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json
from aimass.proto.wire import SERVER_OPTIONS, connect, error_of, server_credentials
from aimass.server.gate import Gate
from aimass.server.main import serve
from aimass.server.partner_desk import PartnerDesk
from aimass.server.people.desk import People
from aimass.server.people.settings import PeopleSettings
from aimass.server.service import FederationService
from aimass.server.sessions import Sessions
from aimass.server.trust import TrustHolder
from tests.support.edge_federation import CONNECT, Edge, Line, Members, failure, raw, run, serving, welcomed
from tests.support.edge_runs import join, model, open_step, submit_run


def test_a_revoked_scientists_watch_is_cut_within_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            run_id = await submit_run(edge)
            watch = rpc.ControlStub(edge.channel("anna")).WatchRun(pb.RunRequest(run_id=run_id))
            await watch.read()
            await edge.revoke("anna")
            assert (await failure(watch, 1.0)).code == "trust.revoked"

    run(scenario())


def test_a_revoked_partners_open_upload_is_cut_within_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob = model()
            run_id, _ = await open_step(edge, blob)
            up = raw(edge.channel("north"), "/aimass.v1.Blobs/Submit")
            await up.write(canonical_json(SubmitHeader(kind="contribution", size=1000, digest="1" * 64, run_id=run_id)))
            await up.read()
            await edge.revoke("north")
            assert (await failure(up, 1.0)).code == "trust.revoked"

    run(scenario())


def test_a_revoked_partners_open_download_is_cut_within_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob = model(16 << 20)
            run_id, _ = await open_step(edge, blob)
            down = edge.channel("north").unary_stream("/aimass.v1.Blobs/Fetch")(
                canonical_json(FetchRequest(digest=Blob(blob).digest, run_id=run_id))
            )
            await down.read()
            await edge.revoke("north")
            got = 0
            with pytest.raises(grpc.aio.AioRpcError):
                while (c := await down.read()) is not grpc.aio.EOF:
                    got += len(c)
                assert got < 16 << 20, f"all {got} bytes"

    run(scenario())


def test_a_damaged_head_ends_nothing_but_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob = model()
            run_id = await submit_run(edge, blob=blob)
            lines = {n: await welcomed(edge, n) for n in ("north", "south")}
            await lines["north"].call.write(
                pb.FromPartner(head_seen=pb.HeadSeen(run_id=run_id, entries=1, head="not hexadecimal", signature=b"x"))
            )
            await join(lines, run_id, blob)
            await lines["north"].until("open_step")

    run(scenario())


def test_unreadable_bytes_after_the_hello_end_the_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            call = raw(edge.channel("north"), CONNECT)
            await call.write(
                pb.FromPartner(hello=pb.Hello(protocol_min=1, protocol_max=1, nonce=bytes(32))).SerializeToString()
            )
            await call.read()
            await call.read()
            await call.write(b"\xff" * 50)
            await failure(call, 2)

    run(scenario())


def test_one_contribution_sent_by_two_streams_at_once_is_stored_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob = model(600_000)
            run_id, _ = await open_step(edge, blob)
            data = Contribution({"update": Group(1.0, {"w": np.ones(600_000, np.float32)})}, {}, {}).encode()
            header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id)
            stale = raw(
                edge.channel("north"), "/aimass.v1.Blobs/Submit"
            )  # the broken link that the server has not noticed
            await stale.write(canonical_json(header))
            await stale.read()
            await stale.write(data[:CHUNK_BYTES])
            fresh = asyncio.create_task(submit(edge.channel("north"), header, memoryview(data)))
            await asyncio.sleep(0)
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await stale.write(data[CHUNK_BYTES:])
            await fresh

    run(scenario())


def test_two_scientists_send_the_same_first_model_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob = model(2_000_000)
            header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
            await asyncio.gather(*(submit(edge.channel(w), header, memoryview(blob)) for w in ("anna", "bert", "olga")))
            await submit_run(edge, blob=blob)

    run(scenario())


def test_one_key_submitted_twice_at_once_gives_one_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            await submit_run(edge, key="another key")
            a, b = await asyncio.gather(submit_run(edge), submit_run(edge))
            assert a == b

    run(scenario())


def test_a_partner_that_missed_many_receipts_catches_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            run_id = await submit_run(edge)
            db = sqlite3.connect(tmp_path / "hub/data/runs.sqlite")
            for i in range(400):
                row = {
                    "run_id": run_id,
                    "step": i,
                    "partner": "north",
                    "entries": i + 2,
                    "body": b"{}",
                    "signature": b"s",
                }
                db.execute(
                    f"insert into receipts ({','.join(row)}) values ({','.join('?' * len(row))})", list(row.values())
                )
            db.commit()
            db.close()
            line = await welcomed(edge, "north")
            for _ in range(400):
                await line.until("receipt")

    run(scenario())


def test_a_bundle_without_the_servers_certificate_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            b = json.loads(members.root.revoke("south"))
            b["certificates"] = {"partner/north": "junk"}
            with pytest.raises(grpc.aio.AioRpcError):
                await edge.install(canonical_json(b))
        async with serving(members):
            pass

    run(scenario())


def test_revoked_between_connect_and_hello(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = Line(rpc.FederationStub(edge.channel("north")).Connect())
            await line.call.wait_for_connection()
            await edge.revoke("north")
            assert (await failure(line.call, 1.0)).code == "trust.revoked"

    run(scenario())


def test_removal_admitted_while_the_server_was_down_reaches_the_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            run_id = await submit_run(edge)
        (tmp_path / "hub/bundle.json").write_bytes(members.root.revoke("north"))
        async with serving(members) as edge:
            doc = json.loads((await rpc.ControlStub(edge.channel("anna")).ShowRun(pb.RunRequest(run_id=run_id))).json)
            p = next(x for x in doc["participants"] if x["partner"] == "north")
            assert p["state"] not in ("invited", "joined"), p

    run(scenario())


def test_a_message_above_four_mebibytes_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            with pytest.raises(grpc.aio.AioRpcError) as c:
                await rpc.ControlStub(edge.channel("anna")).SubmitRun(
                    pb.SubmitRunRequest(plan=bytes(5 << 20), key="k" * 8)
                )
            assert error_of(c.value).kind == "limit", repr(error_of(c.value))

    run(scenario())


def test_two_own_models_of_one_digest_are_both_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            a = await submit_run(edge, "anna")
            b = await submit_run(edge, "bert")
            db = sqlite3.connect(tmp_path / "hub/data/runs.sqlite")
            for r in (a, b):
                db.execute(
                    "insert into models (run_id, step, digest, round, bytes, committed_at) values (?,0,?,1,1,?)",
                    (r, "5" * 64, time.time()),
                )
            db.commit()
            db.close()
            for who in ("anna", "bert"):
                await rpc.ControlStub(edge.channel(who)).ShowModel(pb.ModelRequest(digest="5" * 64))

    run(scenario())


class _NothingMissed:
    def arrives(self, partner: str) -> None:
        return None

    async def connected(self, partner: str, marks: object, studies: object = ()) -> None:
        pass

    async def ledgers(self, partner: str) -> list[bytes]:
        return []


def _service(members: Members, sessions: Sessions) -> FederationService:
    trust = TrustHolder(members.folder / "hub", UNINTERRUPTED)
    desk, signer = cast("PartnerDesk", _NothingMissed()), members.keys["hub"].identity
    gate = Gate(trust, People(PeopleSettings(), members.folder, SystemClock()))
    return FederationService(desk, sessions, trust, gate, SystemClock(), signer, "hub")


def test_a_partner_that_does_not_read_is_disconnected_over_the_wire(tmp_path: Path) -> None:
    async def scenario() -> None:
        members, sessions = Members.create(tmp_path), Sessions()
        server = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_FederationServicer_to_server(_service(members, sessions), server)
        port = server.add_secure_port("127.0.0.1:0", server_credentials(lambda: members.identity("hub")))
        await server.start()
        channel = connect(f"127.0.0.1:{port}", members.identity("north"))
        line = await Line.open(channel)
        await line.read("welcome")
        big = pb.ToPartner(trust=pb.TrustUpdate(bundle=bytes(1 << 20)))
        while "north" in sessions.connected():
            sessions.send("north", big)
            await asyncio.sleep(0)
        assert (await failure(line.call)).code == "session.slow"
        await channel.close()
        await server.stop(0)

    run(scenario())


class Gatekeeper:
    def __init__(self) -> None:
        self.hold, self.at, self.go = False, threading.Event(), threading.Event()

    def reached(self, point: str) -> None:
        if self.hold and point.startswith("store.") and point.endswith(".written"):
            self.at.set()
            self.go.wait(20)


def test_a_change_whose_caller_hangs_up_while_it_is_stored_still_happens(tmp_path: Path) -> None:
    async def scenario() -> None:
        members, keeper = Members.create(tmp_path), Gatekeeper()
        stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(tmp_path / "hub", stop, ready.set_result, durability=keeper))
        edge = Edge(members, await ready, stop, [])
        run_id = await submit_run(edge)
        control = rpc.ControlStub(edge.channel("anna"))
        keeper.hold = True
        call = control.ChangeRun(pb.ChangeRunRequest(run_id=run_id, change="stop"))
        hung = asyncio.ensure_future(call)
        assert await asyncio.to_thread(keeper.at.wait, 5)
        call.cancel()
        for _ in range(2):  # on the same connection, so the server has read the cancellation before it answers
            await control.ListRuns(pb.ListRequest())
        keeper.hold = False
        keeper.go.set()
        watch = control.WatchRun(pb.RunRequest(run_id=run_id))
        while await watch.read() is not grpc.aio.EOF:  # ends with the run
            pass
        doc = json.loads((await control.ShowRun(pb.RunRequest(run_id=run_id))).json)
        state = sqlite3.connect(tmp_path / "hub/data/runs.sqlite").execute("select state from runs").fetchone()[0]
        assert doc["summary"]["state"] == state == "stopped", (doc["summary"]["state"], state)
        for c in edge.channels:
            await c.close()
        stop.set()
        await task
        with contextlib.suppress(asyncio.CancelledError):
            await hung

    run(scenario())
