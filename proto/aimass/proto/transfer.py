"""Bulk data over gRPC: `Fetch` and `Submit` in raw chunks, resumable at an offset, verified by digest.

The messages of these two RPCs are raw bytes with an identity serialiser, because a protobuf field copies them. A Fetch
starts with a JSON request and streams chunks; a Submit starts with a JSON header, is answered with the offset to go
on from, and is acknowledged only when the receiver has stored, checked and recorded it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol, TypeVar

import msgspec

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, IntegrityError, LimitExceeded, Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.intake import pour, whole
from aimass.proto.logs import Log, about
from aimass.proto.meters import Count, Spread
from aimass.proto.names import Digest
from aimass.proto.pace import Pace
from aimass.proto.room import Room
from aimass.proto.rpc_errors import abort, error_of
from aimass.proto.sealed import SealedHead
from aimass.proto.storage import Spool, SpoolWriter
from aimass.proto.traffic import Moved
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = [
    "CHUNK_BYTES",
    "IDLE_S",
    "SERVICE",
    "FetchRequest",
    "Outgoing",
    "Receiver",
    "Size",
    "Source",
    "SubmitHeader",
    "TransferLimits",
    "TransferMeters",
    "fetch",
    "submit",
    "transfer_handler",
]

log = logging.getLogger("aimass.transfer")
T = TypeVar("T")
SERVICE: Final = "aimass.v1.Blobs"
CHUNK_BYTES: Final = 1 << 20
IDLE_S: Final = 60.0
_FETCH: Final = f"/{SERVICE}/Fetch"
_SUBMIT: Final = f"/{SERVICE}/Submit"
_SIZE_KEY: Final = "aimass-size"
_MAX_HEADER: Final = 4_096
_OFFSET: Final = "transfer.offset"
_LAST_WORD_S: Final = 0.5
_IDLE: Final = "transfer.idle"
_TORN: Final = "transfer.changed"
_CHANGED: Final = frozenset({"spool.digest", "transfer.offset"})
_STORED: Final = b'{"status":"stored"}'
_OWN: Final = 2
"""Chunks of who fetches alone: one comes while one is written."""
_ALL: Final = 16
"""Chunks of all uploads to a server together that are being read or written."""
_DOWN_BYTES: Final = 24 << 20
"""Bytes of all downloads from a server together that are being written to their links."""
_LEAST_BYTES: Final = 64 << 10

Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]


class FetchRequest(Value, frozen=True):
    """A blob by digest, from `offset`; `run_id` says on whose behalf, empty for a model outside a run."""

    digest: Digest
    run_id: str = ""
    offset: Size = 0


class SubmitHeader(Value, frozen=True, omit_defaults=True):
    """What is about to be sent. (run, step, attempt, sender) names it: the same again gets the same answer."""

    kind: Literal["contribution", "model"]
    size: Size
    digest: Digest
    run_id: str = ""
    step: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    attempt: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] = 0
    masked: Annotated[str, msgspec.Meta(max_length=1_024)] = ""
    """Of a masked input its signed header, in hexadecimal."""
    ledger: SealedHead | None = None
    """How far the ledger goes from which a plain contribution was debited."""


class _Offset(Value, frozen=True):
    offset: Size


@dataclasses.dataclass(frozen=True, slots=True)
class TransferLimits:
    """Largest upload, streams at once per peer, seconds without a byte after which a peer is cut off, and bytes per
    second of one peer's streams together, up to the server and down from it; 0 is no limit."""

    max_bytes: int = 8 << 30
    streams_per_peer: int = 4
    idle_s: float = IDLE_S
    up_bytes_per_s: int = 0
    down_bytes_per_s: int = 0


class TransferMeters:
    """What the serving side counts: `down` is to its callers, `up` from them."""

    def __init__(self) -> None:
        self.bytes_moved = Count("aimass_transfer_bytes", "Bytes of models and contributions that moved.", "direction")
        self.bytes_spared = Count(
            "aimass_transfer_spared_bytes", "Bytes that did not move because a model went as its difference to another."
        )
        self.of_run: Callable[[str, Moved], None] = lambda _, __: None
        """Hears what moved for which run; no meter names one."""
        self.open = Count("aimass_transfers_open", "Transfers that are under way.", "direction", kind="gauge")
        self.resumed = Count(
            "aimass_transfers_resumed", "Transfers that went on where an earlier one broke.", "direction"
        )
        self.refused = Count("aimass_transfers_refused", "Transfers that were refused or cut off, by code.", "code")
        self.flush_seconds = Spread("aimass_spool_flush_seconds", "The last flush of an upload that is whole.")
        self.accept_seconds = Spread(
            "aimass_accept_seconds", "From a whole upload to its acknowledgement: checked and recorded."
        )

    def moved(self, run_id: str, moved: Moved) -> None:
        """Count bytes; `run_id` is empty for what belongs to no run."""
        for direction, by in (("down", moved.down), ("up", moved.up)):
            if by:
                self.bytes_moved.add(direction, by=by)
        if moved.spared:
            self.bytes_spared.add(by=moved.spared)
        if run_id:
            self.of_run(run_id, moved)

    @contextlib.contextmanager
    def under_way(self, direction: str, offset: int) -> Iterator[None]:
        """Count a transfer that begins at `offset`, until the block ends."""
        if offset:
            self.resumed.add(direction)
        self.open.add(direction)
        try:
            yield
        finally:
            self.open.add(direction, by=-1)


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """One admitted download: who reads, and the blob's bytes, one map for all readers.

    Of a difference `stands_for` is the size of the model that it leads to; 0 for a blob that stands for itself.
    """

    peer: str
    data: memoryview
    stands_for: int = 0


class Source(Protocol):
    """Who may read what."""

    async def authorise_fetch(self, context: grpc.aio.ServicerContext, request: FetchRequest) -> Outgoing:
        """The blob for this caller; raises `Refused` or `NotFound`."""
        ...


class Receiver(Protocol):
    """Where uploads go."""

    async def authorise_submit(self, context: grpc.aio.ServicerContext, header: SubmitHeader) -> Incoming:
        """Whether this caller may send `header`; raises `Refused`, `LimitExceeded` or `WrongState`."""
        ...


class Incoming(Protocol):
    """One admitted upload."""

    peer: str

    @property
    def done(self) -> bool:
        """True where it is already stored and recorded: nothing needs to be sent."""
        ...

    def open(self) -> SpoolWriter:
        """Where its bytes go."""
        ...

    async def accept(self, path: Path) -> None:
        """Check and record the finished upload durably; raises the named reason to refuse it."""
        ...


def transfer_handler(
    source: Source,
    receiver: Receiver,
    limits: TransferLimits,
    clock: Clock,
    meters: TransferMeters | None = None,
) -> grpc.GenericRpcHandler:
    """The two RPCs of `aimass.v1.Blobs` for a grpc.aio server."""
    traffic = _Traffic(limits, clock)
    meters = meters or TransferMeters()

    async def fetch_handler(request: bytes, context: grpc.aio.ServicerContext) -> None:
        stream_log = about(log)
        try:
            wanted = decode_json(FetchRequest, request[:_MAX_HEADER], "the fetch request")
            stream_log = about(log, wanted.run_id)
            outgoing = await source.authorise_fetch(context, wanted)
            if wanted.run_id:
                stream_log = about(log, wanted.run_id, partner=outgoing.peer)
            view = outgoing.data
            if wanted.offset > len(view):
                raise BadInput("the offset lies beyond the end", code=_OFFSET, value=wanted.offset, limit=len(view))
            with traffic.stream(outgoing.peer, "down") as peer, meters.under_way("down", wanted.offset):
                context.set_trailing_metadata(((_SIZE_KEY, str(len(view))),))
                await context.send_initial_metadata(((_SIZE_KEY, str(len(view))),))
                await _send(
                    view[wanted.offset :], context, traffic, peer.down, limits.idle_s,
                    lambda size: meters.moved(wanted.run_id, Moved(down=size)),
                )  # fmt: skip
                meters.moved(wanted.run_id, Moved(spared=max(0, outgoing.stands_for - len(view))))
        except DeadlinePassed as error:
            stream_log.warning("a transfer was cut off: %s", error)
            meters.refused.add(error.code)
            await _hang_up(context, error)
        except (AimassError, OSError) as error:
            await _refuse(context, error, stream_log, meters)

    # No generator: one that waits in a `yield` when its stream is cut is left to the collector, with its file open.
    async def submit_handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        stream_log = about(log)
        try:
            # Before anybody may end this stream: an end that meets the first bytes on their way is never sent.
            await context.send_initial_metadata(())
            header = decode_json(
                SubmitHeader, (await _next(requests, limits.idle_s))[:_MAX_HEADER], "the submit header"
            )
            stream_log = about(log, header.run_id, header.step if header.run_id else None)
            if header.size > limits.max_bytes:
                raise LimitExceeded(
                    "the upload is larger than this server takes",
                    code="transfer.size",
                    value=header.size,
                    limit=f"{limits.max_bytes} bytes",
                )
            incoming = await receiver.authorise_submit(context, header)
            if header.run_id:
                stream_log = about(log, header.run_id, header.step, incoming.peer)
            with traffic.stream(incoming.peer, "up") as peer:
                paced = _paced(
                    requests, peer.up, limits.idle_s, lambda size: meters.moved(header.run_id, Moved(up=size))
                )
                async with contextlib.aclosing(paced) as chunks:
                    await _receive(chunks, context.write, header, incoming, traffic.up, meters)
        except (AimassError, OSError) as error:
            await _refuse(context, error, stream_log, meters)

    handlers = {
        "Fetch": grpc.unary_stream_rpc_method_handler(fetch_handler),
        "Submit": grpc.stream_stream_rpc_method_handler(submit_handler),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


@dataclasses.dataclass(slots=True)
class _Peer:
    """One peer's streams, and the rates that they share."""

    up: Pace
    down: Pace
    streams: int = 0


class _Traffic:
    """Who moves bytes now."""

    def __init__(self, limits: TransferLimits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._peers: dict[str, _Peer] = {}
        self._streams = {"up": 0, "down": 0}
        self.up = Room(_ALL)

    @property
    def down_bytes(self) -> int:
        """Bytes of a download's next chunk. A slow reader keeps its own for long, so there is no waiting in line."""
        return max(_LEAST_BYTES, min(CHUNK_BYTES, _DOWN_BYTES // max(1, self._streams["down"])))

    @contextlib.contextmanager
    def stream(self, name: str, direction: Literal["up", "down"]) -> Iterator[_Peer]:
        """Count a stream of a peer while it lasts; raises `LimitExceeded` for one too many."""
        limits = self._limits
        # A peer is remembered as long as the server runs: its rate does not begin afresh with each stream.
        peer = self._peers.setdefault(
            name, _Peer(Pace(limits.up_bytes_per_s, self._clock), Pace(limits.down_bytes_per_s, self._clock))
        )
        if peer.streams >= limits.streams_per_peer:
            raise LimitExceeded(
                "too many transfers at once", code="transfer.streams", value=name, limit=limits.streams_per_peer
            )
        peer.streams += 1
        self._streams[direction] += 1
        try:
            yield peer
        finally:
            peer.streams -= 1
            self._streams[direction] -= 1


async def _send(
    view: memoryview,
    context: grpc.aio.ServicerContext,
    traffic: _Traffic,
    pace: Pace,
    idle_s: float,
    count: Callable[[int], None],
) -> None:
    start = 0
    while start < len(view):
        chunk = bytes(view[start : start + traffic.down_bytes])
        start += len(chunk)
        await pace.spend(len(chunk))
        # It returns when there is room on the link: a reader that stops reading is not waited for.
        await _in_time(context.write(chunk), idle_s)
        count(len(chunk))


async def _receive(
    chunks: AsyncIterator[bytes],
    reply: Callable[[bytes], Awaitable[None]],
    header: SubmitHeader,
    incoming: Incoming,
    room: Room,
    meters: TransferMeters,
) -> None:
    if incoming.done:
        await reply(canonical_json(_Offset(offset=header.size)))
        await reply(_STORED)
        return
    writer = await _opened(incoming.open)
    try:
        with meters.under_way("up", writer.offset):
            await reply(canonical_json(_Offset(offset=writer.offset)))
            await pour(chunks, writer, header.size, room)
            with meters.flush_seconds.timing():
                path = await whole(writer.finish)
    finally:
        writer.close()
    with meters.accept_seconds.timing():
        await incoming.accept(path)
    await reply(_STORED)


async def _opened(opener: Callable[[], SpoolWriter]) -> SpoolWriter:
    """Where the bytes go; a stream that is cut while that is being opened leaves no file open."""
    opening = asyncio.ensure_future(asyncio.to_thread(opener))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_opened)
        raise


def _close_opened(opening: asyncio.Future[SpoolWriter]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


async def _paced(
    requests: AsyncIterator[bytes], pace: Pace, idle_s: float, count: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Chunks no faster than `pace`, each within `idle_s` of the one before was asked for; ends only by an error."""
    while True:
        chunk = await _next(requests, idle_s)
        await pace.spend(len(chunk))
        count(len(chunk))
        yield chunk


async def _refuse(
    context: grpc.aio.ServicerContext, error: AimassError | OSError, stream_log: Log, meters: TransferMeters
) -> None:
    """Say why. What this machine failed at is no fault of the caller's, and is as good when it is tried again."""
    if isinstance(error, OSError):
        stream_log.error("a transfer failed on this machine", exc_info=error)
        error = Unavailable(
            "the other side's disk or system failed",
            code="transfer.system",
            value=error.strerror or type(error).__name__,
            cure="It is tried again; the other side's log says more.",
        )
    else:
        stream_log.warning("a transfer was refused: %s", error)
    meters.refused.add(error.code)
    await abort(context, error)


async def _hang_up(context: grpc.aio.ServicerContext, error: AimassError) -> None:
    """Say why to a reader that reads, then end the stream: a status waits behind the bytes that nobody takes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORD_S):
            await abort(context, error)
    raise asyncio.CancelledError


async def _in_time(work: Awaitable[T], idle_s: float) -> T:
    # Not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the byte.
    try:
        async with asyncio.timeout(idle_s):
            return await work
    except TimeoutError:
        raise DeadlinePassed("no byte moved", code=_IDLE, limit=f"{idle_s:g} s") from None


async def _next(requests: AsyncIterator[bytes], idle_s: float) -> bytes:
    try:
        return await _in_time(anext(requests), idle_s)
    except StopAsyncIteration:
        raise Unavailable(
            "the upload ended before its last byte",
            code="transfer.cut",
            cure="Send it again; it goes on where it stopped.",
        ) from None


async def _moving(work: Awaitable[T], idle_s: float) -> T:
    """`work`, which moves bytes: a link that is half dead takes and gives none, and says nothing."""
    try:
        return await _in_time(work, idle_s)
    except DeadlinePassed as error:
        raise _idle(error) from None


def _idle(error: DeadlinePassed) -> Unavailable:
    return Unavailable(
        "no byte moved over the connection",
        code=error.code,
        limit=error.limit,
        cure="It is tried again from where it stopped; see whether the link carries data both ways.",
    )


def _failed(error: grpc.aio.AioRpcError, held: int = 0) -> AimassError:
    """Why a transfer ended that had gone on from `held` bytes: what may go well when it is tried again says so."""
    named = error_of(error)
    if isinstance(named, DeadlinePassed) and named.code == _IDLE:
        return _idle(named)
    return _from_the_start(named) if held and named.code in _CHANGED else named


async def fetch(
    channel: grpc.aio.Channel,
    request: FetchRequest,
    spool: Spool,
    max_bytes: int,
    progress: Callable[[int, int], None] | None = None,
    pace: Pace | None = None,
    *,
    idle_s: float = IDLE_S,
) -> Path:
    """Fetch a blob into `spool` under its digest, from where an earlier try stopped; verified before it is returned.

    `progress` hears of bytes that are here and of all; `pace` is how fast they may come. Raises the server's named
    error, `LimitExceeded` for a blob above `max_bytes`, `IntegrityError` for other bytes than the digest's, and
    `Unavailable` for a broken link or one over which nothing comes for `idle_s`: call again to go on.
    """
    if spool.has(request.digest):
        return spool.path(request.digest)
    writer = await _opened(partial(spool.begin, request.digest, None, request.digest))
    held, call = writer.offset, None
    try:
        call = channel.unary_stream(_FETCH)(canonical_json(msgspec.structs.replace(request, offset=held)))
        metadata = await _moving(call.initial_metadata(), idle_s)
        if not metadata:
            # A call that failed before it began gives empty metadata; reading it raises what really happened.
            await _moving(call.read(), idle_s)
            # One that had nothing left to send may have ended before they were read; its last ones say the same.
            metadata = await call.trailing_metadata()
        size = _stated_size(metadata)
        if size > max_bytes:
            raise LimitExceeded(
                "the blob is larger than the limit here", code="transfer.size", value=size, limit=max_bytes
            )
        writer.expect(size)
        told = None if progress is None else partial(_told, progress, size)
        async with contextlib.aclosing(_coming(call, pace, idle_s)) as chunks:
            await pour(chunks, writer, size, Room(_OWN), told)
        if writer.offset != size:
            raise Unavailable("the transfer broke off", code="transfer.cut", value=writer.offset, limit=size)
        return await whole(writer.finish)
    except grpc.aio.AioRpcError as raised:
        error = _failed(raised, held)
        if error.code == _TORN:
            spool.discard(request.digest)
        raise error from raised
    except IntegrityError as error:
        if held and error.code in _CHANGED:
            raise _from_the_start(error) from error
        raise
    finally:
        if call is not None:
            call.cancel()
        writer.close()


def _from_the_start(error: AimassError) -> Unavailable:
    """What was held of a transfer that broke off is not what was sent then: a crash tore it, or the disk changed it."""
    return Unavailable(
        "what was held of a broken transfer had changed",
        code=_TORN,
        value=error.value,
        limit=error.limit,
        cure="It is sent again from the start.",
    )


def _told(progress: Callable[[int, int], None], size: int, here: int) -> None:
    progress(here, size)


async def _coming(call: grpc.aio.UnaryStreamCall, pace: Pace | None, idle_s: float) -> AsyncGenerator[bytes, None]:
    while (chunk := await _moving(call.read(), idle_s)) is not grpc.aio.EOF:
        if pace is not None:
            await pace.spend(len(chunk))
        yield chunk


def _stated_size(metadata: object) -> int:
    for key, value in metadata or ():  # type: ignore[attr-defined]
        if key == _SIZE_KEY and str(value).isdigit():
            return int(value)
    raise IntegrityError("the server did not state the blob's size", code="transfer.no_size")


async def submit(
    channel: grpc.aio.Channel,
    header: SubmitHeader,
    data: memoryview,
    progress: Callable[[int, int], None] | None = None,
    pace: Pace | None = None,
    *,
    idle_s: float = IDLE_S,
) -> None:
    """Send `data` as `header` states; returns when the receiver has stored and recorded it.

    `progress` hears of bytes that are sent and of all, first of the offset that the receiver holds, at which this goes
    on; `pace` is how fast they may go. Raises the receiver's named refusal, or `Unavailable` for a broken link or one
    that takes nothing for `idle_s`: call again to go on. For the last word, while the receiver checks and records, it
    waits as long as the connection stands.
    """
    call, offset = channel.stream_stream(_SUBMIT)(), 0
    try:
        await _moving(call.write(canonical_json(header)), idle_s)
        reply = await _moving(call.read(), idle_s)
        if reply is grpc.aio.EOF:
            raise _failed(await _failure(call), offset)
        offset = decode_json(_Offset, reply, "the server's answer").offset
        if offset > len(data):
            raise IntegrityError(
                "the receiver holds more than there is", code="transfer.offset", value=offset, limit=len(data)
            )
        if progress is not None:
            progress(offset, len(data))  # the receiver was reached, also where the link breaks in the first chunk
        for start in range(offset, len(data), CHUNK_BYTES):
            chunk = bytes(data[start : start + CHUNK_BYTES])
            if pace is not None:
                await pace.spend(len(chunk))
            await _moving(call.write(chunk), idle_s)
            if progress is not None:
                progress(min(start + CHUNK_BYTES, len(data)), len(data))
        await call.done_writing()
        if await call.read() != _STORED:
            raise _failed(await _failure(call), offset)
        await call.code()
    except asyncio.InvalidStateError as error:  # the call had ended while it was written to
        raise _failed(await _failure(call), offset) from error
    except grpc.aio.AioRpcError as error:
        raise _failed(error, offset) from error
    finally:
        call.cancel()


async def _failure(call: grpc.aio.StreamStreamCall) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
