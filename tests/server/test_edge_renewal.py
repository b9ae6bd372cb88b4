"""Renewal and succession over the wire: no restart, no break, whichever of the two roots a member knows."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from aimass.privacy.keys import tls_key_pem
from aimass.privacy.renewal import renew, succeed
from aimass.privacy.trust_bundle import decode_bundle, open_bundle, share_of
from aimass.proto.grpc_env import grpc
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import error_of
from aimass.server.trust import PREVIOUS
from tests.support.edge_federation import Edge, Line, Members, run, serving, welcomed

YEAR = 365 * 86_400.0


async def _works(edge: Edge, identity: TlsIdentity) -> bool:
    try:
        await rpc.ControlStub(edge.channel(identity)).ListRuns(pb.ListRequest())
    except grpc.aio.AioRpcError as error:
        assert error_of(error).code in ("wire.handshake", "wire.unreachable"), error_of(error)  # noqa: PT017
        return False
    return True


def test_renewed_certificates_are_shown_from_the_next_link_on_and_open_links_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            line = await welcomed(edge, "north")
            assert "hub" in renew(members.root, time.time(), 2 * YEAR)
            bundle = members.root.bundle()
            await edge.install(bundle)
            # The same roster, and yet partners hear of it: their certificates are in it.
            assert (await line.read("trust")).trust.bundle == share_of(decode_bundle(bundle), "partner/north")
            members.bundle = bundle
            assert await _works(edge, members.identity("anna"))
            shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", edge.started.port))
            assert x509.load_pem_x509_certificate(shown.encode()) == x509.load_pem_x509_certificate(
                members.identity("hub").certificate_pem
            )

    run(scenario())


def test_who_has_the_roster_and_its_certificate_is_sent_no_bundle_and_who_lacks_either_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        held = open_bundle(members.bundle, members.root.root).roster.digest
        async with serving(members) as edge:
            line = await Line.open(edge.channel("north"), roster_digest=held)
            await line.read("welcome")
            await edge.revoke("south")  # it is the first that this partner hears
            share = (await line.read("trust")).trust.bundle
            trust = open_bundle(share, members.root.root)
            assert list(trust.certificates) == ["partner/north"]
            assert "south" not in trust.roster.by_name
            other = await Line.open(edge.channel("north"), roster_digest=held)
            await other.read("welcome")
            await other.read("trust")  # a roster of before
            renew(members.root, time.time(), 2 * YEAR)
            await edge.install(members.root.bundle())
            late = await Line.open(edge.channel("north"), roster_digest=trust.roster.digest)
            await late.read("welcome")
            await late.read("trust")  # the roster of now, and a certificate of before

    run(scenario())


def test_where_a_root_was_succeeded_everybody_is_sent_the_bundle(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            new = succeed(members.root, tmp_path / "new", "another root", time.time())
            await edge.install(new.bundle())
            digest = open_bundle(new.bundle(), members.root.root).roster.digest
            line = await Line.open(edge.channel("north"), roster_digest=digest)
            await line.read("welcome")
            await line.read("trust")

    run(scenario())


def test_a_new_root_is_known_to_who_holds_the_old_one_and_to_who_holds_the_new_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        old = members.identity("anna")
        async with serving(members) as edge:
            line = await welcomed(edge, "north")
            new = succeed(members.root, tmp_path / "new", "another root", time.time())
            bundle = new.bundle()
            await edge.install(bundle)
            assert (await line.read("trust")).trust.bundle == share_of(decode_bundle(bundle), "partner/north")
            trust = open_bundle(bundle, members.root.root)
            fresh = TlsIdentity(
                trust.certificates["scientist/anna"], tls_key_pem(members.keys["anna"].tls), new.root.certificate_pem
            )
            assert await _works(edge, old)
            assert await _works(edge, fresh)
            stranger = Members.create(tmp_path / "stranger")
            assert not await _works(edge, stranger.identity("anna"))
        async with serving(members) as edge:
            assert await _works(edge, old)
            assert await _works(edge, fresh)
        (tmp_path / "hub" / PREVIOUS).unlink()
        async with serving(members) as edge:
            assert not await _works(edge, old)
            assert await _works(edge, fresh)

    run(scenario())


@pytest.mark.parametrize("points", [2, 4])
def test_a_server_that_died_in_the_middle_of_a_succession_goes_on_under_the_new_root(
    tmp_path: Path, points: int
) -> None:
    from aimass.server.trust import TrustHolder

    class Crash(Exception):
        pass

    class After:
        left = points

        def reached(self, _: str) -> None:
            self.left -= 1
            if self.left == 0:
                raise Crash

    members = Members.create(tmp_path)
    new = succeed(members.root, tmp_path / "new", "another root", time.time())
    with pytest.raises(Crash):
        TrustHolder(tmp_path / "hub", After()).install(new.bundle())

    async def scenario() -> None:
        async with serving(members) as edge:
            assert await _works(edge, members.identity("anna"))
            assert (tmp_path / "hub" / "root.pem").read_bytes() == new.root.to_pem()

    run(scenario())
