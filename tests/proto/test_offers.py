"""Differences over the wire: what is offered, what is not, and what was spared when one was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aimass.proto.clock import SystemClock
from aimass.proto.errors import AimassError, BadInput, NotFound, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.hashing import digest_of
from aimass.proto.offers import DifferenceRequest, Offer, difference_handler, offered
from aimass.proto.rpc_errors import error_of
from aimass.proto.storage import Spool
from aimass.proto.traffic import Moved
from aimass.proto.transfer import (
    FetchRequest,
    Incoming,
    Outgoing,
    SubmitHeader,
    TransferLimits,
    TransferMeters,
    fetch,
    transfer_handler,
)

REQUEST = DifferenceRequest(run_id="ab" * 16, held="0" * 64, wanted="1" * 64)
DATA = b"a difference" * 100
OFFER = Offer(digest=digest_of([DATA]), bytes=len(DATA))


class Side:
    """Offers one difference, which stands for ten times its bytes."""

    def __init__(self) -> None:
        self.answer: Offer | AimassError | None = OFFER
        self.late_s = 0.0

    async def difference(self, context: grpc.aio.ServicerContext, request: DifferenceRequest) -> Offer | None:
        assert request == REQUEST
        await asyncio.sleep(self.late_s)
        if isinstance(self.answer, AimassError):
            raise self.answer
        return self.answer

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        return Outgoing("north", memoryview(DATA), 10 * len(DATA))

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        raise AssertionError


def over_the_wire(work: Callable[[Side, TransferMeters, grpc.aio.Channel], Awaitable[None]]) -> None:
    async def run() -> None:
        side, meters, server = Side(), TransferMeters(), grpc.aio.server()
        bulk = transfer_handler(side, side, TransferLimits(), SystemClock(), meters)
        server.add_generic_rpc_handlers((bulk, difference_handler(side)))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await work(side, meters, channel)
        await server.stop(0)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_an_offer_arrives_and_none_arrives() -> None:
    async def work(side: Side, _: TransferMeters, channel: grpc.aio.Channel) -> None:
        assert await offered(channel, REQUEST, 5) == OFFER
        side.answer = None
        assert await offered(channel, REQUEST, 5) is None

    over_the_wire(work)


def test_who_waits_too_long_for_one_has_none() -> None:
    async def work(side: Side, _: TransferMeters, channel: grpc.aio.Channel) -> None:
        side.late_s = 5
        assert await offered(channel, REQUEST, 0.1) is None

    over_the_wire(work)


@pytest.mark.parametrize("error", [Refused("not for you", code="fetch.refused"), NotFound("gone", code="run.unknown")])
def test_a_refusal_arrives_by_name(error: AimassError) -> None:
    async def work(side: Side, _: TransferMeters, channel: grpc.aio.Channel) -> None:
        side.answer = error
        with pytest.raises(type(error)) as caught:
            await offered(channel, REQUEST, 5)
        assert caught.value.code == error.code

    over_the_wire(work)


@pytest.mark.parametrize("request_bytes", [b"", b"{}", b'{"run_id":"a","held":"b","wanted":"c"}', b"x" * 100_000])
def test_a_request_that_is_none_is_refused_by_name(request_bytes: bytes) -> None:
    async def work(side: Side, _: TransferMeters, channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/aimass.v1.Blobs/Difference")(request_bytes)
        assert isinstance(error_of(caught.value), BadInput)

    over_the_wire(work)


def test_what_a_difference_spared_is_counted_once_for_its_run_when_its_last_byte_went(tmp_path: Path) -> None:
    async def work(_: Side, meters: TransferMeters, channel: grpc.aio.Channel) -> None:
        heard: list[tuple[str, Moved]] = []
        meters.of_run = lambda run_id, moved: heard.append((run_id, moved))
        spool = Spool(tmp_path / "spool")
        part = spool.begin(OFFER.digest, OFFER.bytes, OFFER.digest)
        part.append(DATA[:200])
        part.close()
        await fetch(channel, FetchRequest(digest=OFFER.digest, run_id=REQUEST.run_id), spool, 1 << 20)
        total = Moved()
        for run_id, moved in heard:
            assert run_id == REQUEST.run_id
            total += moved
        assert total == Moved(down=len(DATA) - 200, spared=9 * len(DATA))
        assert dict(meters.bytes_moved.read()) == {("down",): len(DATA) - 200}
        assert dict(meters.bytes_spared.read()) == {(): 9 * len(DATA)}

    over_the_wire(work)
