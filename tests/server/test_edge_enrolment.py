"""The enrolment port over the real wire: one RPC, limits, and the bundle that comes by itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.enrolment import EnrolRequest, request_fingerprint
from aimass.privacy.pki import Role
from aimass.privacy.trust_bundle import open_bundle
from aimass.proto.errors import AimassError, LimitExceeded
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import EnrolmentList
from aimass.proto.wire import error_of
from aimass.server.enrolment_limits import EnrolmentLimits, address_of
from aimass.server.settings import EnrolmentSettings
from tests.server.test_edge_authorisation import PROBES
from tests.support.edge_federation import Edge, Members, ShiftedClock, failure, raw, run, serving


def enrol(edge: Edge, request: bytes) -> grpc.aio.UnaryStreamCall:
    """A newcomer's call: it has the root's certificate and none of its own."""
    channel = edge.channel(edge.members.root.root.certificate_pem, edge.enrol_address)
    return rpc.EnrolmentStub(channel).Enrol(pb.EnrolRequest(request=request))


async def refused(edge: Edge, request: bytes) -> AimassError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call = enrol(edge, request)
        await call.read()
        await call.code()
    return error_of(caught.value)


async def pending(edge: Edge) -> EnrolmentList:
    answer = await rpc.ControlStub(edge.channel("olga")).ListEnrolments(pb.StatusRequest())
    return decode_json(EnrolmentList, answer.json, "the list")


def test_the_bundle_finds_the_newcomer_that_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            request = edge.members.request("west", Role.PARTNER)
            call = enrol(edge, canonical_json(request))
            assert (await call.read()).pending.fingerprint == request_fingerprint(request)
            (waiting,) = (await pending(edge)).requests
            assert waiting.request.encode() == canonical_json(request)
            bundle = edge.members.root.sign([request], 0.0 + waiting.received_at)
            await edge.install(bundle)
            answer = await asyncio.wait_for(call.read(), 1.0)
            assert "partner/west" in open_bundle(answer.bundle, edge.members.root.root).certificates
            assert (await pending(edge)).requests == ()

    run(scenario())


def test_a_request_survives_a_restart_and_the_same_again_is_kept_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        request = canonical_json(members.request("west", Role.PARTNER))
        for _ in range(2):
            async with serving(members) as edge:
                call = enrol(edge, request)
                assert (await call.read()).WhichOneof("body") == "pending"
                assert len((await pending(edge)).requests) == 1
                call.cancel()

    run(scenario())


def test_a_newcomer_with_other_keys_under_an_enrolled_name_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            forged = msgspec.structs.replace(edge.members.request("west", Role.PARTNER), name="north")
            assert (await refused(edge, canonical_json(forged))).code == "enrol.superseded"
            assert (await pending(edge)).requests == ()

    run(scenario())


def test_a_newcomer_that_waits_hears_that_its_name_went_to_another_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            first = edge.members.request("west", Role.PARTNER)
            other = edge.members.request("west", Role.PARTNER)
            call = enrol(edge, canonical_json(first))
            assert (await call.read()).WhichOneof("body") == "pending"
            await edge.install(edge.members.root.sign([other], time.time()))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert error_of(caught.value).code == "enrol.superseded"
            assert (await pending(edge)).requests == ()

    run(scenario())


def test_a_request_that_nobody_signed_is_forgotten_after_a_week(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ShiftedClock()
        async with serving(Members.create(tmp_path), clock) as edge:
            for name, day in (("west", 0), ("east", 8)):
                clock.shift_s[0] = day * 86_400.0
                await enrol(edge, canonical_json(edge.members.request(name, Role.PARTNER))).read()
            assert [view.name for view in (await pending(edge)).requests] == ["east"]

    run(scenario())


def test_one_address_may_not_take_all_places() -> None:
    limits = EnrolmentLimits(EnrolmentSettings(per_minute=5, per_address=2, waiting=3))
    for _ in range(2):
        limits.take("a", 0.0)
    with pytest.raises(LimitExceeded, match="one address"):
        limits.take("a", 59.0)
    for who in "bcd":
        limits.take(who, 59.0)
    with pytest.raises(LimitExceeded, match="at once"):
        limits.take("e", 59.5)
    limits.take("a", 60.0)
    with limits.waiting("a"), limits.waiting("a"):
        with pytest.raises(LimitExceeded, match="one address"), limits.waiting("a"):
            pass
        with (
            limits.waiting("b"),
            pytest.raises(LimitExceeded, match="newcomers wait;"),
            limits.waiting("c"),
        ):
            pass
    with limits.waiting("a"), limits.waiting("b"):
        pass


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.1:4242", "ipv4:10.0.0.1"), ("ipv6:%5B::1%5D:4242", "ipv6:%5B::1%5D"), ("unix", "unix")],
)
def test_an_address_is_a_peer_without_its_port(peer: str, address: str) -> None:
    assert address_of(peer) == address


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda good: good[:-1],
        lambda good: good + b" ",
        lambda good: good.replace(b'"partner"', b'"emperor"'),
        lambda good: good.replace(b'"west"', b'"../west"'),
        lambda good: good.replace(b'{"', b'{"unknown":1,"', 1),
        lambda _: b"[" * 4000,
        lambda _: b"\xff\xfe",
    ],
)
def test_a_damaged_request_is_refused_by_name_and_not_kept(tmp_path: Path, damage: object) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            good = canonical_json(edge.members.request("west", Role.PARTNER))
            error = await refused(edge, damage(good))  # type: ignore[operator]
            assert error.kind == "bad_input"
            assert (await pending(edge)).requests == ()

    run(scenario())


def test_an_oversized_request_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            assert (await refused(edge, b"[" * 5_000)).code == "enrol.size"

    run(scenario())


def test_more_requests_of_an_address_than_a_minute_allows_are_refused_until_the_minute_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ShiftedClock()
        async with serving(Members.create(tmp_path), clock) as edge:
            codes = [(await refused(edge, b"{}")).code for _ in range(31)]
            assert codes[30] == "enrol.rate"
            assert "enrol.rate" not in codes[:30]
            clock.shift_s[0] = 61.0
            assert (await refused(edge, b"{}")).code != "enrol.rate"

    run(scenario())


@pytest.mark.parametrize("path", PROBES)
def test_the_enrolment_port_knows_no_other_rpc(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            call = raw(edge.channel("olga", edge.enrol_address), path)
            await failure(call)
            assert await call.code() == grpc.StatusCode.UNIMPLEMENTED

    run(scenario())


def test_the_main_port_takes_no_enrolment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            call = raw(edge.channel("north"), "/aimass.v1.Enrolment/Enrol")
            await failure(call)
            assert await call.code() == grpc.StatusCode.UNIMPLEMENTED

    run(scenario())


def test_requests_of_many_newcomers_are_listed_oldest_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            requests: list[EnrolRequest] = [members.request(name, Role.PARTNER) for name in ("west", "east", "centre")]
            for request in requests:
                await enrol(edge, canonical_json(request)).read()
            assert [view.name for view in (await pending(edge)).requests] == ["west", "east", "centre"]

    run(scenario())
