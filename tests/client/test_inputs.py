"""What a step works on comes to a partner: as a difference where that serves, whole in every other case."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest

from aimass.client.inputs import Inputs, applied, asks_for_difference
from aimass.client.link_speed import LinkSpeed
from aimass.client.meters import DaemonMeters
from aimass.client.model_cache import ModelCache
from aimass.proto.clock import SystemClock
from aimass.proto.difference import encode
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import NotFound, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.hashing import digest_of
from aimass.proto.home import LinkSettings
from aimass.proto.offers import DifferenceRequest, Offer, difference_handler
from aimass.proto.pace import Pace
from aimass.proto.storage import Spool
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import FetchRequest, Incoming, Outgoing, SubmitHeader, TransferLimits, transfer_handler

T = TypeVar("T")
RUN = "ab" * 16


def model(step: int, count: int = 100_000) -> bytes:
    """The model after so many small steps."""
    draw, weights = np.random.default_rng(7), np.zeros(count, np.float32)
    for index in range(step + 1):
        weights += draw.normal(0, 1.0 if index == 0 else 1e-3, count).astype(np.float32)
    return encode_numpy({"w": weights})


MODELS = [model(step) for step in range(4)]
DIGESTS = [digest_of([data]) for data in MODELS]


class Side:
    """The server's half. `fetches` are digests and offsets, `asked` what differences were asked for."""

    def __init__(self) -> None:
        self.blobs = dict(zip(DIGESTS, MODELS, strict=True))
        self.fetches: list[tuple[str, int]] = []
        self.asked: list[tuple[str, str]] = []
        self.spoilt: Callable[[bytes], bytes] = lambda difference: difference

    async def difference(self, context: grpc.aio.ServicerContext, request: DifferenceRequest) -> Offer | None:
        self.asked.append((request.held, request.wanted))
        if request.held not in self.blobs:
            return None
        ends = Blob(self.blobs[request.held]), Blob(self.blobs[request.wanted])
        data = self.spoilt(b"".join(encode(*ends)))
        digest = digest_of([data])
        self.blobs[digest] = data
        return Offer(digest=digest, bytes=len(data))

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        self.fetches.append((request.digest, request.offset))
        if request.digest not in self.blobs:
            raise Refused("not for you", code="fetch.refused")
        return Outgoing("north", memoryview(self.blobs[request.digest]))

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        raise AssertionError


@dataclasses.dataclass
class Place:
    """A partner with its inputs."""

    side: Side
    partner: Any
    meters: DaemonMeters
    inputs: Inputs
    address: str

    async def step(self, *numbers: int) -> list[bytes]:
        """What is there of these models once a step has begun with them."""
        return [path.read_bytes() for path in await self.inputs.brought([DIGESTS[number] for number in numbers])]

    @property
    def files(self) -> set[str]:
        return set(self.partner.cache.spool.sizes())


@dataclasses.dataclass
class _Uplink:
    channel: grpc.aio.Channel

    def send(self, message: object) -> None:
        raise AssertionError

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        return await use(self.channel)


def at_a_partner(
    folder: Path, work: Callable[[Place], Awaitable[None]], wish: str = "always", *, old: bool = False
) -> None:
    async def run() -> None:
        side, server, clock = Side(), grpc.aio.server(), SystemClock()
        server.add_generic_rpc_handlers((transfer_handler(side, side, TransferLimits(), clock),))
        if not old:
            server.add_generic_rpc_handlers((difference_handler(side),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        partner: Any = SimpleNamespace(
            cache=ModelCache(folder / "cache", UNINTERRUPTED), down=Pace(0, clock), link_speed=LinkSpeed(),
            settings=SimpleNamespace(link=LinkSettings(differences=wish)),  # type: ignore[arg-type]
        )  # fmt: skip
        meters = DaemonMeters()
        async with grpc.aio.insecure_channel(address) as channel:
            await work(Place(side, partner, meters, Inputs(RUN, partner, _Uplink(channel), meters), address))
        await server.stop(0)

    asyncio.run(asyncio.wait_for(run(), 30))


def count(meters: DaemonMeters) -> tuple[float, float]:
    """Bytes that came, and that were spared."""
    moved = dict(meters.bytes_moved.read()).get(("down",), 0.0)
    return moved, dict(meters.bytes_spared.read()).get((), 0.0)


def test_the_next_model_comes_as_its_difference_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        assert await place.step(0) == [MODELS[0]]
        assert place.side.asked == []
        assert await place.step(1) == [MODELS[1]]
        assert place.side.asked == [(DIGESTS[0], DIGESTS[1])]
        moved, spared = count(place.meters)
        assert moved + spared == 2 * len(MODELS[0])
        assert spared > 0.3 * len(MODELS[0])
        assert place.files == {DIGESTS[1]}, "neither the difference nor what it began with stays"

    at_a_partner(tmp_path, work)


def test_a_run_that_is_over_leaves_nothing_of_a_difference_that_never_came(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        cache = place.partner.cache
        cache.begin(RUN, [DIGESTS[1]])
        for digest in (DIGESTS[2], DIGESTS[3]):  # a server that was restarted may offer other bytes
            cache.coming(RUN, digest)
            writer = cache.spool.begin(digest, 10, digest)
            writer.append(b"12345")
            writer.close()
        assert place.files == {DIGESTS[0], DIGESTS[3]}
        cache.release(RUN)
        assert place.files == set()

    at_a_partner(tmp_path, work)


def test_a_partner_three_versions_behind_asks_from_what_it_holds(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        assert await place.step(3) == [MODELS[3]]
        assert place.side.asked == [(DIGESTS[0], DIGESTS[3])]
        assert DIGESTS[3] not in [digest for digest, _ in place.side.fetches]

    at_a_partner(tmp_path, work)


def test_what_the_server_no_longer_has_comes_whole(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        del place.side.blobs[DIGESTS[0]]
        assert await place.step(3) == [MODELS[3]]
        assert place.side.fetches[-1] == (DIGESTS[3], 0)

    at_a_partner(tmp_path, work)


def test_an_older_server_sends_the_whole(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        assert await place.step(1) == [MODELS[1]]
        assert count(place.meters) == (2 * len(MODELS[0]), 0)

    at_a_partner(tmp_path, work, old=True)


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda _: b"no difference",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda _: b"".join(encode(Blob(MODELS[0]), Blob(MODELS[2]))),  # to another model
        lambda _: b"".join(encode(Blob(model(0, 10)), Blob(model(1, 10)))),  # of another model
    ],
)
def test_a_difference_that_is_wrong_is_not_used_and_the_whole_comes(
    tmp_path: Path, spoilt: Callable[[bytes], bytes]
) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        place.side.spoilt = spoilt
        assert await place.step(1) == [MODELS[1]]
        assert place.side.fetches[-1] == (DIGESTS[1], 0)
        assert count(place.meters)[1] == 0
        assert place.files == {DIGESTS[1]}

    at_a_partner(tmp_path, work)


def test_a_model_that_changed_on_this_disk_leads_nowhere_and_the_whole_comes(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        (path,) = await place.inputs.brought([DIGESTS[0]])
        path.write_bytes(MODELS[0][:-4] + b"\x00\x00\x00\x01")
        assert await place.step(1) == [MODELS[1]]
        assert place.side.fetches[-1] == (DIGESTS[1], 0)

    at_a_partner(tmp_path, work)


def test_a_model_that_is_gone_from_this_disk_leads_nowhere_and_the_whole_comes(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        (path,) = await place.inputs.brought([DIGESTS[0]])
        path.unlink()
        assert await place.step(1) == [MODELS[1]]
        assert place.side.asked == []

    at_a_partner(tmp_path, work)


def test_a_difference_that_is_no_shorter_than_the_model_is_not_fetched(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        place.side.spoilt = lambda data: data + bytes(len(MODELS[0]))
        assert await place.step(1) == [MODELS[1]]
        assert [digest for digest, _ in place.side.fetches] == [DIGESTS[0], DIGESTS[1]]

    at_a_partner(tmp_path, work)


@pytest.mark.parametrize("offered", [0, 1], ids=["held", "wanted"])
def test_a_model_that_is_offered_as_a_difference_is_none_and_stays(tmp_path: Path, offered: int) -> None:
    async def work(place: Place) -> None:
        async def difference(context: object, request: DifferenceRequest) -> Offer:
            return Offer(digest=DIGESTS[offered], bytes=10)

        await place.step(0)
        place.side.difference = difference  # type: ignore[method-assign]
        assert await place.step(1) == [MODELS[1]]
        assert place.files == {DIGESTS[1]}

    at_a_partner(tmp_path, work)


def test_a_difference_of_more_bytes_than_were_offered_is_not_taken(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        large = bytes(4 * len(MODELS[0]))
        digest = digest_of([large])

        async def difference(context: object, request: DifferenceRequest) -> Offer:
            return Offer(digest=digest, bytes=10)

        await place.step(0)
        place.side.blobs[digest] = large
        place.side.difference = difference  # type: ignore[method-assign]
        assert await place.step(1) == [MODELS[1]]
        assert count(place.meters)[0] == 2 * len(MODELS[0])
        assert place.files == {DIGESTS[1]}

    at_a_partner(tmp_path, work)


def test_what_is_there_of_a_model_from_before_does_not_mix_with_what_a_difference_makes(tmp_path: Path) -> None:
    for name, data in (("held", MODELS[0]), ("difference", b"".join(encode(Blob(MODELS[0]), Blob(MODELS[1]))))):
        (tmp_path / name).write_bytes(data)
    spool = Spool(tmp_path / "spool")
    writer = spool.begin(DIGESTS[1], None, DIGESTS[1])
    writer.expect(10)
    writer.append(b"0123456789")
    writer.close()
    path = applied(tmp_path / "held", tmp_path / "difference", spool, DIGESTS[1])
    assert path.read_bytes() == MODELS[1]


def test_a_server_that_refuses_both_is_told_of_with_its_own_words(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        for digest in DIGESTS:
            place.side.blobs.pop(digest)
        with pytest.raises(Refused) as caught:
            await place.step(1)
        assert caught.value.code == "fetch.refused"

    at_a_partner(tmp_path, work)


def test_a_difference_that_broke_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        difference = b"".join(encode(Blob(MODELS[0]), Blob(MODELS[1])))
        writer = place.partner.cache.spool.begin(digest_of([difference]), len(difference), digest_of([difference]))
        writer.append(difference[:1_000])
        writer.close()
        assert await place.step(1) == [MODELS[1]]
        assert place.side.fetches[-1] == (digest_of([difference]), 1_000)
        assert place.files == {DIGESTS[1]}

    at_a_partner(tmp_path, work)


def test_what_has_begun_to_come_whole_goes_on_so(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        writer = place.partner.cache.spool.begin(DIGESTS[1], len(MODELS[1]), DIGESTS[1])
        writer.append(MODELS[1][:300_000])
        writer.close()
        place.partner.link_speed.bytes_per_s = None
        assert await place.step(1) == [MODELS[1]]
        assert place.side.asked == []
        assert place.side.fetches[-1] == (DIGESTS[1], 300_000)
        assert place.partner.link_speed.bytes_per_s is None, "too few of its bytes came now to tell"

    at_a_partner(tmp_path, work)


def test_beside_the_model_everything_comes_whole(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0, 2)
        assert await place.step(1, 3) == [MODELS[1], MODELS[3]]
        assert place.side.asked == [(DIGESTS[0], DIGESTS[1])]

    at_a_partner(tmp_path, work)


@pytest.mark.parametrize(("wish", "asks"), [("never", False), ("auto", False), ("always", True)])
def test_over_a_quick_link_only_who_always_wants_them_asks(tmp_path: Path, wish: str, asks: bool) -> None:
    async def work(place: Place) -> None:
        await place.step(0)
        assert place.partner.link_speed.bytes_per_s is not None
        place.partner.link_speed.bytes_per_s = 1e9
        await place.step(1)
        assert bool(place.side.asked) == asks

    at_a_partner(tmp_path, work, wish)


def test_over_a_link_that_turned_out_slow_the_next_model_comes_as_its_difference(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        place.partner.down = Pace(4_000_000, SystemClock())
        await place.partner.down.spend(4_000_000)  # what it had saved up
        await place.step(0)
        assert place.partner.link_speed.bytes_per_s < 8e6
        assert await place.step(1) == [MODELS[1]]
        assert place.side.asked == [(DIGESTS[0], DIGESTS[1])]

    at_a_partner(tmp_path, work, "auto")


@pytest.mark.parametrize(
    ("speed", "size", "asks"),
    [(None, 1 << 30, False), (1e6, 1 << 30, True), (31e6, 1 << 30, True), (33e6, 1 << 30, False), (1e6, 1_000, False)],
)
def test_a_link_that_is_slower_than_the_work_is_spared(speed: float | None, size: int, asks: bool) -> None:
    assert asks_for_difference("auto", speed, size) == asks
    assert asks_for_difference("always", speed, size)
    assert not asks_for_difference("never", speed, size)


def test_few_bytes_tell_nothing_of_a_link() -> None:
    speed = LinkSpeed()
    speed.moved(1_000, 1.0)
    assert speed.bytes_per_s is None
    speed.moved(1 << 20, 2.0)
    assert speed.bytes_per_s == (1 << 20) / 2


def test_an_answer_that_is_none_is_an_error_with_a_name_and_the_whole_comes(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        await place.step(0)

        async def other(*_: object) -> Offer | None:
            raise NotFound("nothing here", code="run.unknown")

        place.side.difference = other  # type: ignore[assignment, method-assign]
        assert await place.step(1) == [MODELS[1]]

    at_a_partner(tmp_path, work)
