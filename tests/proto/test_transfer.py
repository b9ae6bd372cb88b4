"""Fetch and Submit over a real gRPC server: cut anywhere they go on, and what is wrong is refused by name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.clock import Clock, SystemClock
from aimass.proto.errors import (
    AimassError,
    BadInput,
    Conflict,
    IntegrityError,
    LimitExceeded,
    Refused,
    Unavailable,
    WrongState,
)
from aimass.proto.grpc_env import grpc
from aimass.proto.rpc_errors import error_of
from aimass.proto.storage import FileBlobs, Spool, SpoolWriter
from aimass.proto.stored import open_blobs
from aimass.proto.transfer import (
    FetchRequest,
    Incoming,
    Outgoing,
    SubmitHeader,
    TransferLimits,
    fetch,
    submit,
    transfer_handler,
)
from aimass.proto.values import canonical_json, decode_json
from tests.support.clock import ManualClock
from tests.support.fault_proxy import Fault, FaultProxy, Faults, Kind, Way

DATA = bytes(range(256)) * 12_000  # three chunks
RATE = 512 << 10
DIGEST = hashlib.sha256(DATA).hexdigest()
LONG = DATA * 3  # more than a link takes before anybody reads
LONG_DIGEST = hashlib.sha256(LONG).hexdigest()


class Side:
    """The server's half: one blob to fetch, a spool to submit into."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder / "spool")
        self.accepted: list[bytes] = []
        self.refusal: AimassError | None = None
        self.address = ""
        self.data = DATA

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        if request.digest != DIGEST:
            raise Refused("not for you", code="fetch.refused")
        return Outgoing("north", memoryview(self.data))

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        return Upload(self, header)


class Upload:
    """One upload of a partner called north."""

    peer = "north"
    done = False

    def __init__(self, side: Side, header: SubmitHeader) -> None:
        self._side, self._header = side, header

    def open(self) -> SpoolWriter:
        return self._side.spool.begin("key", self._header.size, self._header.digest)

    async def accept(self, path: Path) -> None:
        if self._side.refusal is not None:
            raise self._side.refusal
        self._side.accepted.append(path.read_bytes())


class OneAtATime(Side):
    """As the real server: a newer stream of an upload ends the older one, and opens the spool once that has ended."""

    writing: asyncio.Task[object] | None = None
    ended = 0

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        task = asyncio.current_task()
        while (older := self.writing) is not None and older is not task:
            self.ended += not older.done()
            older.cancel()
            await asyncio.wait({older})
            if self.writing is older:
                self.writing = None
        self.writing = task
        return await super().authorise_submit(context, header)


def over_the_wire(
    folder: Path,
    work: Callable[[Side, grpc.aio.Channel], Awaitable[None]],
    *,
    make: Callable[[Path], Side] = Side,
    idle_s: float = 5.0,
    rate: int = 0,
    clock: Clock | None = None,
    streams: int = 4,
) -> None:
    async def run() -> None:
        side = make(folder)
        server = grpc.aio.server()
        limits = TransferLimits(10 << 20, streams, idle_s=idle_s, up_bytes_per_s=rate, down_bytes_per_s=rate)
        server.add_generic_rpc_handlers((transfer_handler(side, side, limits, clock or SystemClock()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        side.address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await work(side, channel)
        await server.stop(0)

    asyncio.run(run())


def own_connection(address: str) -> grpc.aio.Channel:
    """A channel that shares its connection with no other to the same address."""
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def header(size: int = len(DATA), digest: str = DIGEST) -> SubmitHeader:
    return SubmitHeader(kind="contribution", size=size, digest=digest)


def test_what_is_fetched_and_submitted_arrives_whole(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        path = await fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 10 << 20)
        assert path.read_bytes() == DATA
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_a_fault_of_the_servers_machine_is_none_of_the_callers_and_passes(tmp_path: Path) -> None:
    """Unnamed, it would cost a partner its step: what is refused is not sent again."""

    class Broken(Side):
        async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
            raise OSError(errno.EMFILE, "Too many open files")

        async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
            raise OSError(errno.EMFILE, "Too many open files")

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        for transfer in (
            fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 10 << 20),
            submit(channel, header(), memoryview(DATA)),
        ):
            with pytest.raises(Unavailable, match="Too many open files") as caught:
                await transfer
            assert caught.value.code == "transfer.system"

    over_the_wire(tmp_path, work, make=Broken)


@settings(max_examples=8)
@given(held=st.integers(0, len(DATA)))
def test_a_transfer_that_broke_off_anywhere_goes_on_to_the_same_digest(
    tmp_path_factory: pytest.TempPathFactory, held: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("cut")

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        for spool, key, size in ((Spool(tmp_path / "cache"), DIGEST, 10 << 20), (side.spool, "key", len(DATA))):
            writer = spool.begin(key, size, DIGEST)
            writer.append(DATA[:held])
            writer.close()
        path = await fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 10 << 20)
        assert path.read_bytes() == DATA
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_who_sends_hears_first_that_the_receiver_was_reached_and_where_it_goes_on(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        writer = side.spool.begin("key", len(DATA), DIGEST)
        writer.append(DATA[:100])
        writer.close()
        heard: list[tuple[int, int]] = []
        await submit(channel, header(), memoryview(DATA), lambda done, whole: heard.append((done, whole)))
        assert heard[0] == (100, len(DATA))
        assert heard[-1] == (len(DATA), len(DATA))

    over_the_wire(tmp_path, work)


def test_a_fetch_with_nothing_left_to_come_ends_well_where_the_end_is_read_before_the_beginning(tmp_path: Path) -> None:
    """A busy process finds the call over when it first looks: the library then gives no first metadata."""

    async def ended(request: bytes, context: grpc.aio.ServicerContext) -> None:
        context.set_trailing_metadata((("aimass-size", str(len(DATA))),))

    async def run() -> None:
        server = grpc.aio.server()
        handlers = {"Fetch": grpc.unary_stream_rpc_method_handler(ended)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("aimass.v1.Blobs", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        cache = Spool(tmp_path / "cache")
        writer = cache.begin(DIGEST, len(DATA), DIGEST)
        writer.append(DATA)
        writer.close()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            path = await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)
            assert path.read_bytes() == DATA
        await server.stop(0)

    asyncio.run(run())


class _CutError(Exception):
    """The link breaks here."""


def _cut_at(byte: int) -> Callable[[int, int], None]:
    def progress(here: int, _: int) -> None:
        if here >= byte:
            raise _CutError

    return progress


@settings(max_examples=10)
@given(down=st.lists(st.integers(1, len(DATA)), max_size=4), up=st.lists(st.integers(1, len(DATA)), max_size=4))
def test_links_that_are_cut_again_and_again_end_in_the_same_digest_both_ways(
    tmp_path_factory: pytest.TempPathFactory, down: list[int], up: list[int]
) -> None:
    tmp_path = tmp_path_factory.mktemp("cuts")
    spool = Spool(tmp_path / "cache")

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        request = FetchRequest(digest=DIGEST)
        for byte in down:
            with contextlib.suppress(_CutError):
                await fetch(channel, request, spool, 10 << 20, _cut_at(byte))
        assert (await fetch(channel, request, spool, 10 << 20)).read_bytes() == DATA
        for byte in up:
            with contextlib.suppress(_CutError):
                await submit(channel, header(), memoryview(DATA), _cut_at(byte))
        await submit(channel, header(), memoryview(DATA))
        assert set(side.accepted) == {DATA}

    over_the_wire(tmp_path, work, make=OneAtATime)


def test_a_newer_stream_of_an_upload_writes_on_where_the_one_that_it_ends_had_come_to(tmp_path: Path) -> None:
    """The older one's link died and nobody noticed: it is still there, with bytes in its hands."""

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        assert isinstance(side, OneAtATime)
        olds = []
        for kept in (400_000, 900_000, 2_000_000):
            olds.append(channel.stream_stream("/aimass.v1.Blobs/Submit")())
            await olds[-1].write(canonical_json(header()))
            offset = int(decode_json(dict[str, int], await olds[-1].read(), "an offset")["offset"])
            assert offset == 0 or len(olds) > 1
            await olds[-1].write(DATA[offset:kept])
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]
        assert side.ended == len(olds)

    over_the_wire(tmp_path, work, make=OneAtATime)


@pytest.mark.parametrize("held", [DATA[:1000][::-1], DATA[:1_500_000][::-1]])
def test_a_part_that_changed_between_two_tries_is_found_and_the_next_try_succeeds(tmp_path: Path, held: bytes) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        cache = Spool(tmp_path / "cache")
        for spool, key, size in ((cache, DIGEST, 10 << 20), (side.spool, "key", len(DATA))):
            writer = spool.begin(key, size, DIGEST)
            writer.append(held)
            writer.close()
        with pytest.raises(Unavailable, match="had changed"):
            await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)
        assert (await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)).read_bytes() == DATA
        with pytest.raises(Unavailable, match="had changed"):
            await submit(channel, header(), memoryview(DATA))
        assert side.accepted == []
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_a_file_that_its_sender_changed_between_two_tries_is_found_and_the_next_try_succeeds(tmp_path: Path) -> None:
    other = DATA[::-1]

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        cache = Spool(tmp_path / "cache")
        side.data = other
        with pytest.raises(_CutError):
            await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20, _cut_at(1 << 20))
        side.data = DATA
        with pytest.raises(Unavailable, match="had changed"):
            await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)
        assert (await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)).read_bytes() == DATA
        writer = side.spool.begin("key", len(DATA), DIGEST)
        writer.append(other[: 1 << 20])
        writer.close()
        with pytest.raises(Unavailable, match="had changed"):
            await submit(channel, header(), memoryview(DATA))
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_more_than_the_whole_is_held_and_it_is_begun_afresh(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        cache = Spool(tmp_path / "cache")
        for spool, key in ((cache, DIGEST), (side.spool, "key")):
            writer = spool.begin(key, 10 << 20, DIGEST)
            writer.append(DATA + b"more")
            writer.close()
        with pytest.raises(Unavailable) as caught:
            await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)
        assert caught.value.code == "transfer.changed"
        assert (await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)).read_bytes() == DATA
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_a_peer_is_held_to_its_rate_both_ways(tmp_path: Path) -> None:
    clock = ManualClock()

    async def seconds(transfer: Awaitable[object]) -> int:
        """How long it took on the clock that moves only when the transfer waits."""
        task, taken = asyncio.ensure_future(transfer), 0
        while not task.done():
            if clock.sleepers:
                clock.advance(1.0)
                taken += 1
            await asyncio.sleep(0)
        await task
        return taken

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        down = await seconds(fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 10 << 20))
        up = await seconds(submit(channel, header(), memoryview(DATA)))
        most = -(-len(DATA) // RATE)
        assert most - 1 <= down <= most + 1
        assert most - 1 <= up <= most + 1

    over_the_wire(tmp_path, work, rate=RATE, clock=clock)


def test_wrong_bytes_short_bytes_and_too_many_are_refused_and_the_next_upload_succeeds(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        with pytest.raises(IntegrityError):
            await submit(channel, header(), memoryview(b"x" * len(DATA)))
        with pytest.raises(LimitExceeded):
            await submit(channel, header(size=10), memoryview(DATA[:20]))
        with pytest.raises(Unavailable):
            await submit(channel, header(), memoryview(DATA[:100]))
        assert side.accepted == []
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted == [DATA]

    over_the_wire(tmp_path, work)


def test_a_claim_of_ten_gigabytes_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await submit(channel, header(size=10 << 30), memoryview(b""))
        assert caught.value.code == "transfer.size"

    over_the_wire(tmp_path, work)


def test_a_refusal_reaches_the_sender_by_name(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        side.refusal = BadInput("NaN", code="contribution.not_finite", value="nan", limit="finite")
        with pytest.raises(BadInput) as caught:
            await submit(channel, header(), memoryview(DATA))
        assert (caught.value.code, caught.value.value, caught.value.limit) == (
            "contribution.not_finite",
            "nan",
            "finite",
        )

    over_the_wire(tmp_path, work)


def test_an_offset_beyond_the_end_another_blob_and_a_request_that_is_none_are_refused(tmp_path: Path) -> None:
    async def code(channel: grpc.aio.Channel, request: bytes) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.unary_stream("/aimass.v1.Blobs/Fetch")(request):
                pass
        return caught.value.code()

    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        assert await code(channel, canonical_json(FetchRequest(digest=DIGEST, offset=len(DATA) + 1))) == invalid
        assert await code(channel, b"\xff\xff") == invalid
        assert await code(channel, canonical_json(FetchRequest(digest="0" * 64))) == grpc.StatusCode.PERMISSION_DENIED

    over_the_wire(tmp_path, work)


def test_a_blob_above_the_fetchers_limit_is_not_taken(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        with pytest.raises(LimitExceeded):
            await fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 1000)

    over_the_wire(tmp_path, work)


def test_uploads_at_once_of_one_sender_are_limited(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        async def hold() -> AsyncIterator[bytes]:
            yield canonical_json(header())
            await asyncio.Event().wait()

        held = [channel.stream_stream("/aimass.v1.Blobs/Submit")(hold()) for _ in range(4)]
        for call in held:
            await call.read()
        with pytest.raises(LimitExceeded) as caught:
            await submit(channel, header(), memoryview(DATA))
        assert caught.value.code == "transfer.streams"
        for call in held:
            call.cancel()

    over_the_wire(tmp_path, work)


@pytest.mark.parametrize(("transfer", "way"), [("fetch", Way.DOWN), ("fetch", Way.UP), ("submit", Way.UP)])
def test_a_transfer_over_a_half_dead_link_ends_by_name_and_goes_on_over_the_next(
    tmp_path: Path, transfer: str, way: Way
) -> None:
    """What is swallowed is the model, the request for it, or the update."""
    at_byte = 20 if (transfer, way) == ("fetch", Way.UP) else 1_500_000

    async def once(side: Side, address: str) -> None:
        async with own_connection(address) as channel:
            if transfer == "fetch":
                path = await fetch(
                    channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 64 << 20, idle_s=0.3
                )
                assert path.read_bytes() == side.data
            else:
                await submit(channel, header(len(LONG), LONG_DIGEST), memoryview(LONG), idle_s=0.3)
                assert side.accepted == [LONG]

    async def work(side: Side, address: str) -> None:
        async with FaultProxy(
            int(address.partition(":")[2]), Faults(given={0: Fault(Kind.HALF_OPEN, way, at_byte)})
        ) as proxy:
            with pytest.raises(Unavailable) as caught:
                await once(side, proxy.address)
            assert caught.value.code == "transfer.idle"
            before = proxy.moved[way]
            await once(side, proxy.address)
            assert proxy.moved[way] - before < len(LONG if transfer == "submit" else DATA)

    over_the_wire(tmp_path, lambda side, _: work(side, side.address))


@pytest.mark.parametrize("held", [b"?" * 1_000, bytes(len(DATA) + 1)])
def test_what_is_held_of_a_broken_transfer_and_has_changed_is_sent_again_from_the_start(
    tmp_path: Path, held: bytes
) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        cache = Spool(tmp_path / "cache")
        for spool, key in ((cache, DIGEST), (side.spool, "key")):
            (spool.path(key).parent / f"{key}.{DIGEST}.part").write_bytes(held)
        with pytest.raises(Unavailable) as caught:
            await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)
        assert caught.value.code == "transfer.changed"
        assert (await fetch(channel, FetchRequest(digest=DIGEST), cache, 10 << 20)).read_bytes() == DATA
        with contextlib.suppress(Unavailable):  # the receiver sees by itself that it holds more than there is
            await submit(channel, header(), memoryview(DATA))
            assert len(held) > len(DATA)
        await submit(channel, header(), memoryview(DATA))
        assert side.accepted[0] == DATA

    over_the_wire(tmp_path, work)


def test_bytes_that_never_had_the_digest_are_refused_by_name_and_not_sent_for_ever(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        with pytest.raises(IntegrityError) as caught:
            await submit(channel, header(), memoryview(bytes(len(DATA))))
        assert caught.value.code == "spool.digest"
        side.data = bytes(len(DATA))
        with pytest.raises(IntegrityError) as caught:
            await fetch(channel, FetchRequest(digest=DIGEST), Spool(tmp_path / "cache"), 10 << 20)
        assert caught.value.code == "spool.digest"

    over_the_wire(tmp_path, work)


def test_an_upload_that_was_given_up_takes_no_more_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    writer = spool.begin("key", len(DATA), DIGEST)
    writer.append(DATA[:10])
    spool.discard("key")
    with pytest.raises(WrongState):
        writer.append(DATA[10:20])
    writer.close()


# ---------------------------------------------------------------- the stores behind it


def test_a_blob_that_changed_on_the_disk_is_refused_by_a_new_process(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    digest = blobs.put([b"one", b"two"])
    assert bytes(blobs.open(digest)) == b"onetwo"
    (tmp_path / digest[:2] / digest).write_bytes(b"onetwX")
    with pytest.raises(IntegrityError):
        FileBlobs(tmp_path).open(digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, ""])
def test_only_a_digest_names_a_blob(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        FileBlobs(tmp_path).open(name)


@pytest.mark.parametrize("url", ["ftp://x/y", "file://host/x", "relative/path", "file:relative"])
def test_a_url_without_a_store_is_refused_with_those_that_there_are(url: str) -> None:
    with pytest.raises(BadInput, match="file://"):
        open_blobs(url)


def test_an_upload_that_was_finished_before_a_crash_is_not_sent_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for expected in (0, 5):
        writer = spool.begin("key", 5, hashlib.sha256(b"12345").hexdigest())
        assert writer.offset == expected
        if writer.offset == 0:
            writer.append(b"12345")
        assert writer.finish().read_bytes() == b"12345"
        writer.close()


def test_an_upload_of_other_bytes_under_the_same_key_starts_afresh(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = spool.begin("key", 10, "a" * 64)
    first.append(b"12345")
    first.close()
    second = spool.begin("key", 10, "b" * 64)
    assert second.offset == 0
    with pytest.raises(Conflict):
        second.finish()
    second.close()


def test_two_writers_of_one_upload_give_no_file_rather_than_a_mixed_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = (spool.begin("key", len(DATA), DIGEST) for _ in range(2))
    first.append(DATA)
    second.append(DATA)
    with pytest.raises(IntegrityError):
        second.finish()
    first.close()


async def _failed(call: grpc.aio.UnaryStreamCall) -> AimassError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    return error_of(caught.value)


def _begun(channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall:
    return channel.unary_stream("/aimass.v1.Blobs/Fetch")(canonical_json(FetchRequest(digest=DIGEST)))


def test_readers_that_stop_reading_are_cut_off_and_their_places_are_free(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        side.data = bytes(64 << 20)
        held = [_begun(channel) for _ in range(4)]
        for call in held:
            await call.initial_metadata()
        # Not a byte of theirs is read; what the links take in between is far from all.
        while isinstance(await _admitted(_begun(channel)), LimitExceeded):
            pass
        codes = []
        for call in held:
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pass
            codes.append(await call.code())
        assert {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED} & set(codes)

    over_the_wire(tmp_path, work, idle_s=0.3)


async def _admitted(call: grpc.aio.UnaryStreamCall) -> AimassError | None:
    """Why a download was not begun, if it was not."""
    try:
        if not await call.initial_metadata():
            await call.read()
    except grpc.aio.AioRpcError as error:
        return error_of(error)
    call.cancel()
    return None


def test_many_downloads_at_once_come_in_smaller_chunks(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        side.data = bytes(64 << 20)
        alone = _begun(channel)
        sizes = [len(await alone.read())]
        many = [_begun(channel) for _ in range(46)]
        for call in many:
            await call.initial_metadata()
        last = _begun(channel)
        sizes += [len(await last.read()) for _ in range(4)]
        assert sizes == [1 << 20, *[512 << 10] * 4]
        for call in (alone, last, *many):
            call.cancel()

    over_the_wire(tmp_path, work, streams=100)


def test_more_downloads_at_once_than_one_may_have_are_refused(tmp_path: Path) -> None:
    async def work(side: Side, channel: grpc.aio.Channel) -> None:
        side.data = bytes(64 << 20)
        held = [_begun(channel) for _ in range(4)]
        for call in held:
            await call.initial_metadata()
        assert (await _failed(_begun(channel))).code == "transfer.streams"
        for call in held:
            call.cancel()

    over_the_wire(tmp_path, work)
