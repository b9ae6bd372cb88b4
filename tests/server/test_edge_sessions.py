"""Control streams over the real wire: hello, versions, replacement, slow readers, and the end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from aimass.privacy.pki import Peer, Role
from aimass.privacy.signing import Label, public_key, verify
from aimass.proto.errors import AimassError, LimitExceeded
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import error_of
from aimass.server.service import welcome_body
from aimass.server.sessions import Mailbox, Session, Sessions
from tests.support.edge_federation import CONNECT, Line, Members, failure, raw, run, serving, welcomed

NONCE = bytes(range(32))


def test_the_welcome_proves_the_identity_key_of_the_rosters_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = await Line.open(edge.channel("north"), nonce=NONCE)
            welcome = (await line.read("welcome")).welcome
            key = public_key(edge.members.keys["hub"].identity)
            verify(key, Label.WELCOME, welcome_body(NONCE, welcome.protocol), welcome.proof, "the server")
            assert abs(welcome.time_ms / 1000 - time.time()) < 60

    run(scenario())


@pytest.mark.parametrize(("lowest", "highest"), [(2, 9), (0, 0), (3, 2), (1, 0)])
def test_a_daemon_outside_the_protocol_window_is_told_both_windows(tmp_path: Path, lowest: int, highest: int) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = await Line.open(edge.channel("north"), lowest, highest)
            error = await failure(line.call)
            assert error.code == "wire.protocol_version"
            assert error.value == f"{lowest} to {highest}"
            assert error.limit == "1 to 1"

    run(scenario())


@pytest.mark.parametrize("first", [pb.FromPartner(), pb.FromPartner(joined=pb.Joined()), pb.FromPartner(hello=pb.Hello(protocol_min=1, protocol_max=1, nonce=b"short"))])  # fmt: skip
def test_a_connection_that_does_not_begin_with_a_good_hello_is_refused(tmp_path: Path, first: pb.FromPartner) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = Line(rpc.FederationStub(edge.channel("north")).Connect())
            await line.call.write(first)
            assert (await failure(line.call)).code == "session.hello"

    run(scenario())


def test_a_second_connection_of_a_partner_ends_the_first_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            older, newer = await welcomed(edge, "north"), await welcomed(edge, "north")
            assert (await failure(older.call, 1.0)).code == "session.replaced"
            await edge.revoke("south")
            await newer.read("trust")

    run(scenario())


def test_a_refused_message_ends_nothing_but_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = await welcomed(edge, "north")
            await line.call.write(pb.FromPartner(joined=pb.Joined(run_id="no such run")))
            await line.call.write(pb.FromPartner(hello=pb.Hello(nonce=NONCE)))
            await line.call.write(pb.FromPartner())
            await edge.revoke("south")
            await line.read("trust")

    run(scenario())


def test_bytes_that_are_no_hello_end_their_stream_and_the_server_lives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            call = raw(edge.channel("north"), CONNECT)
            await call.write(b"\xff" * 100)
            await failure(call)
            await welcomed(edge, "south")

    run(scenario())


def test_a_partner_that_does_not_read_is_cut_off_with_a_named_reason_and_its_queue_is_bounded() -> None:
    async def scenario() -> None:
        sessions = Sessions()
        slow = Session(Peer(Role.PARTNER, "north", 1, b"", 0.0), 0.0, "", 0)
        sessions.open(slow)
        slow.caught_up()
        for _ in range(10_000):
            sessions.send("north", pb.ToPartner())
        assert isinstance(slow.ended, LimitExceeded)
        assert slow.ended.code == "session.slow"
        assert slow.queue.qsize() == 1
        assert await slow.queue.get() is None

    run(scenario())


def test_a_mailbox_gives_in_order_what_is_put_and_waits_while_it_is_empty() -> None:
    async def scenario() -> None:
        box = Mailbox()
        reading = asyncio.create_task(box.get())
        await asyncio.sleep(0)
        assert not reading.done()
        first, second = pb.ToPartner(), pb.ToPartner()
        box.put_nowait(first)
        box.put_nowait(second)
        box.put_nowait(None)
        assert await reading is first
        assert (box.qsize(), await box.get(), await box.get()) == (2, second, None)
        impatient = asyncio.create_task(box.get())
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        box.put_nowait(first)
        assert await box.get() is first
        box.put_nowait(first)
        box.clear()
        assert box.qsize() == 0

    run(scenario())


def test_a_session_that_was_replaced_does_not_take_the_newer_one_with_it() -> None:
    async def scenario() -> None:
        sessions = Sessions()
        peer = Peer(Role.PARTNER, "north", 1, b"", 0.0)
        older, newer = Session(peer, 0.0, "", 0), Session(peer, 1.0, "", 0)
        sessions.open(older)
        sessions.open(newer)
        assert not sessions.close(older)
        assert sessions.get("north") is newer
        assert sessions.close(newer)
        assert sessions.connected() == frozenset()

    run(scenario())


def test_the_operator_sees_who_is_connected_and_since_when(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            await welcomed(edge, "north")
            control = rpc.ControlStub(edge.channel("olga"))
            status = (await control.Status(pb.StatusRequest())).json
            assert b'"name":"north"' in status
            assert status.count(b'"connected":true') == 1

    run(scenario())


@pytest.mark.alone
def test_a_stop_ends_open_streams_with_the_reason_within_seconds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            line = await welcomed(edge, "north")
            enrolment = edge.members.request("west", Role.PARTNER)
            from aimass.proto.values import canonical_json

            waiting = rpc.EnrolmentStub(edge.channel(edge.members.root.root.certificate_pem, edge.enrol_address)).Enrol(
                pb.EnrolRequest(request=canonical_json(enrolment))
            )
            await waiting.read()
            began = time.monotonic()
            edge.stop.set()
            assert (await failure(line.call)).code == "server.stopping"
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                while await waiting.read() is not grpc.aio.EOF:
                    pass
                raise asyncio.CancelledError
        assert time.monotonic() - began < 4

    run(scenario())


def test_a_message_larger_than_the_limit_is_refused_and_the_server_lives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            control = rpc.ControlStub(edge.channel("anna"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await control.SubmitRun(pb.SubmitRunRequest(plan=bytes(3 << 20), key="k" * 8))
            assert isinstance(error_of(caught.value), AimassError)
            assert error_of(caught.value).code == "plan.size"
            await control.ListRuns(pb.ListRequest())

    run(scenario())
