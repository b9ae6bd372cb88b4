"""Who gets in: handshakes, certificates, roster, revocation, all over the real wire."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import time
from pathlib import Path

import pytest

from aimass.privacy.pki import Role
from aimass.privacy.trust_bundle import decode_bundle, share_of
from aimass.proto.errors import AimassError, Refused, Unauthenticated, Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import error_of, server_credentials
from aimass.server.settings import template
from tests.support.edge_federation import CONNECT, Edge, Members, ShiftedClock, failure, raw, run, serving, welcomed

DAY = 86_400.0


async def refusal(channel: grpc.aio.Channel) -> AimassError:
    """The error of `Status` over `channel`."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc.ControlStub(channel).Status(pb.StatusRequest(), timeout=5)
    return error_of(caught.value)


def test_a_caller_without_a_certificate_does_not_get_past_the_handshake(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            error = await refusal(edge.channel(edge.members.root.root.certificate_pem))
            assert isinstance(error, Unavailable)

    run(scenario())


def test_a_certificate_of_another_root_does_not_get_past_the_handshake(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        other = Members.create(tmp_path / "other")
        async with serving(Members.create(tmp_path)) as edge:
            stranger = dataclasses.replace(other.identity("olga"), root_pem=edge.members.root.root.certificate_pem)
            assert isinstance(await refusal(edge.channel(stranger)), Unavailable)

    run(scenario())


def test_an_expired_certificate_does_not_get_past_the_handshake(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            expired = edge.members.issued("olga", Role.OPERATOR, now=time.time() - 400 * DAY)
            assert isinstance(await refusal(edge.channel(expired)), Unavailable)

    run(scenario())


def test_a_certificate_that_expires_while_its_link_is_open_is_refused_at_the_next_call(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ShiftedClock()
        async with serving(Members.create(tmp_path), clock) as edge:
            channel = edge.channel("olga")
            await rpc.ControlStub(channel).Status(pb.StatusRequest())
            clock.shift_s[0] = 398 * DAY
            error = await refusal(channel)
            assert isinstance(error, Unauthenticated)
            assert error.code == "trust.expired"

    run(scenario())


def test_a_partner_whose_key_the_roster_does_not_pin_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            other_key = edge.members.issued("north", Role.PARTNER, now=time.time())
            error = await failure(raw(edge.channel(other_key), CONNECT))
            assert error.code == "trust.not_in_roster"

    run(scenario())


def test_a_revoked_member_is_refused_at_the_next_call_on_an_open_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            control = rpc.ControlStub(edge.channel("anna"))
            await control.ListRuns(pb.ListRequest())
            await edge.revoke("anna")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await control.ListRuns(pb.ListRequest())
            assert isinstance(error_of(caught.value), Refused)
            assert error_of(caught.value).code == "trust.revoked"

    run(scenario())


def test_revocation_cuts_the_open_stream_of_the_revoked_partner_alone_within_a_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            north, south = await welcomed(edge, "north"), await welcomed(edge, "south")
            await edge.revoke("north")
            error = await failure(north.call, seconds=1.0)
            assert error.code == "trust.revoked"
            told = await south.read("trust")
            assert told.trust.bundle == share_of(decode_bundle(edge.members.root.bundle()), "partner/south")

    run(scenario())


def test_an_older_bundle_is_refused_and_the_newer_one_stands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            await edge.revoke("north")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await edge.install(edge.members.bundle)
            assert error_of(caught.value).code == "roster.older"
            assert (await failure(raw(edge.channel("north"), CONNECT))).code == "trust.revoked"

    run(scenario())


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff" * 50])
def test_a_bundle_that_cannot_be_read_is_refused_by_name_and_nothing_changes(tmp_path: Path, damage: bytes) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await edge.install(damage)
            assert error_of(caught.value).kind == "bad_input"
            assert (edge.members.folder / "hub" / "bundle.json").read_bytes() == edge.members.bundle

    run(scenario())


def test_a_bundle_that_another_root_signed_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        other = Members.create(tmp_path / "other")
        forged = other.root.revoke("north")
        async with serving(Members.create(tmp_path)) as edge:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await edge.install(forged)
            assert error_of(caught.value).kind == "unauthenticated"

    run(scenario())


def test_a_partners_certificate_does_not_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        impostor = grpc.aio.server()
        port = impostor.add_secure_port("127.0.0.1:0", server_credentials(lambda: members.identity("north")))
        await impostor.start()
        async with serving(members) as edge:
            error = await refusal(edge.channel("olga", f"127.0.0.1:{port}"))
            assert isinstance(error, Unavailable)
            assert error.code == "wire.handshake"
        await impostor.stop(0)

    run(scenario())


def test_a_server_under_a_host_name_that_its_certificate_lacks_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        (tmp_path / "hub" / "server.toml").write_text(template("hub", "127.0.0.2:0", "127.0.0.1:0"))
        async with serving(members) as edge:
            error = await refusal(edge.channel("olga", f"127.0.0.2:{edge.started.port}"))
            assert isinstance(error, Unavailable)
            assert error.code == "wire.handshake"

    run(scenario())


async def handshake(edge: Edge, identity: TlsIdentity, folder: Path, version: ssl.TLSVersion) -> str:
    """The protocol version that a client that speaks `version` alone ends up with."""
    (folder / "root").write_bytes(identity.root_pem)
    (folder / "pair").write_bytes(identity.certificate_pem + identity.key_pem.reveal())
    context = ssl.create_default_context(cafile=str(folder / "root"))
    context.load_cert_chain(str(folder / "pair"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", edge.started.port, ssl=context)
    found = str(writer.get_extra_info("ssl_object").version())
    writer.close()
    return found


def test_a_client_that_speaks_tls_1_2_is_refused_and_one_that_speaks_1_3_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "tls").mkdir()
        async with serving(Members.create(tmp_path)) as edge:
            identity = edge.members.identity("north")
            assert await handshake(edge, identity, tmp_path / "tls", ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await handshake(edge, identity, tmp_path / "tls", ssl.TLSVersion.TLSv1_2)

    run(scenario())
