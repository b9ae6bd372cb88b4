"""The way from a stream to a file: bounded, in order, and over when it is said to be."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import LimitExceeded, WrongState
from aimass.proto.intake import pour, whole
from aimass.proto.room import Room
from aimass.proto.storage import Spool, SpoolWriter


class _Gated(SpoolWriter):
    """Writes nothing before it is let go, and says when it has begun."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(
            folder / "part", folder / "whole", size, "0" * 64, Spool(folder / "spool")._durability, synced=False
        )
        self.begun, self.go = threading.Event(), threading.Event()
        self.written: list[bytes] = []

    def append(self, chunk: bytes | memoryview) -> None:
        self.begun.set()
        assert self.go.wait(30)
        super().append(chunk)
        self.written.append(bytes(chunk))


class _Stream:
    """Chunks, and how many were asked for."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks, self.asked = chunks, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.asked += 1
            yield chunk


async def _turns() -> None:
    """Let everything on the loop go as far as it can."""
    for _ in range(100):
        await asyncio.sleep(0)


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 4))
def test_what_is_poured_in_any_chunks_is_what_was_sent(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], places: int
) -> None:
    data = b"".join(chunks)
    digest = hashlib.sha256(data).hexdigest()
    heard: list[int] = []

    async def run() -> bytes:
        writer, room = (
            Spool(tmp_path_factory.mktemp("pour"), synced=False).begin("key", len(data), digest),
            Room(places),
        )
        await pour(aiter(_Stream(chunks)), writer, len(data), room, heard.append)
        assert room.free == places
        return writer.finish().read_bytes()

    assert asyncio.run(run()) == data
    assert heard == sorted(heard)
    assert (heard or [0])[-1] == len(data)


def test_one_chunk_is_read_while_a_disk_that_is_slow_has_another(tmp_path: Path) -> None:
    async def run() -> None:
        stream, writer = _Stream([b"x" * 10] * 50), _Gated(tmp_path, 500)
        pouring = asyncio.create_task(pour(aiter(stream), writer, 500, Room(4)))
        await asyncio.to_thread(writer.begun.wait, 30)
        await _turns()
        assert stream.asked == 2
        writer.go.set()
        await pouring
        assert stream.asked == 50
        writer.close()

    asyncio.run(run())


def test_many_streams_read_no_more_chunks_than_there_is_room_for(tmp_path: Path) -> None:
    async def run() -> None:
        room = Room(3, patience_s=3_600)
        streams = [_Stream([b"x" * 10] * 5) for _ in range(6)]
        writers = [_Gated(tmp_path / str(index), 50) for index, _ in enumerate(streams)]
        pouring = [
            asyncio.create_task(pour(aiter(stream), writer, 50, room))
            for stream, writer in zip(streams, writers, strict=True)
        ]
        await _turns()
        assert sum(stream.asked for stream in streams) == 3
        for writer in writers:
            writer.go.set()
        await asyncio.gather(*pouring)
        assert [stream.asked for stream in streams] == [5] * 6
        assert room.free == 3
        for writer in writers:
            writer.close()

    asyncio.run(run())


class _Cut(Exception):
    """The stream broke."""


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["whole", "cut", "too long", "cancelled", "disk"])),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 3),
)
def test_however_streams_end_their_places_are_given_back(
    tmp_path_factory: pytest.TempPathFactory, ends: list[tuple[int, str]], places: int
) -> None:
    async def chunks(count: int, end: str) -> AsyncIterator[bytes]:
        for _ in range(count):
            await asyncio.sleep(0)
            yield b"x" * 4
        match end:
            case "cut":
                raise _Cut
            case "too long":
                yield b"x" * 100
            case "cancelled":
                await asyncio.Event().wait()
            case _:
                yield b"x" * 4

    async def run() -> None:
        room, folder = Room(places, patience_s=0.001), tmp_path_factory.mktemp("pour")

        async def stream(index: int, count: int, end: str) -> None:
            spool = Spool(folder, synced=False)
            writer = spool.begin(f"key{index}", 4 * count + 4, "0" * 64)
            if end == "disk":
                spool.discard(f"key{index}")
            try:
                await pour(chunks(count, end), writer, 4 * count + 4, room)
            finally:
                writer.close()

        tasks = [asyncio.create_task(stream(index, *end)) for index, end in enumerate(ends)]
        others = [task for task, (_, end) in zip(tasks, ends, strict=True) if end != "cancelled"]
        if others:
            await asyncio.wait_for(asyncio.wait(others), 30)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        wanted = {"cut": _Cut, "too long": LimitExceeded, "cancelled": asyncio.CancelledError, "disk": WrongState}
        assert [type(result) for result in results] == [wanted.get(end, type(None)) for _, end in ends]
        assert room.free == places

    asyncio.run(run())


def test_nobody_writes_after_a_stream_that_was_cut_has_ended_however_often_it_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        stream, writer = _Stream([b"x" * 10] * 3), _Gated(tmp_path, 500)

        async def endless() -> AsyncIterator[bytes]:
            async for chunk in stream:
                yield chunk
            await asyncio.Event().wait()

        pouring = asyncio.create_task(pour(aiter(endless()), writer, 500, Room(4)))
        await asyncio.to_thread(writer.begun.wait, 30)
        for _ in range(3):
            pouring.cancel()
            await _turns()
            assert not pouring.done()
        writer.go.set()
        with pytest.raises(asyncio.CancelledError):
            await pouring
        held = list(writer.written)
        await _turns()
        assert writer.written == held == [b"x" * 10]
        writer.close()

    asyncio.run(run())


def test_what_the_writer_raises_ends_the_stream(tmp_path: Path) -> None:
    async def run() -> None:
        writer = Spool(tmp_path).begin("key", 10, "0" * 64)
        with pytest.raises(LimitExceeded):
            await pour(aiter(_Stream([b"x" * 6] * 9)), writer, 10, Room(2))
        assert writer.offset == 6
        writer.close()

    asyncio.run(run())


def test_what_runs_in_a_thread_is_waited_for_by_who_is_cancelled() -> None:
    async def run() -> None:
        begun, go, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert go.wait(30)
            ended.set()

        task = asyncio.create_task(whole(work))
        await asyncio.to_thread(begun.wait, 30)
        for _ in range(2):
            task.cancel()
            await _turns()
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


def test_a_writer_that_fails_is_heard_at_once_and_not_with_the_next_chunk(tmp_path: Path) -> None:
    async def run() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"1"
            yield b"2"
            await asyncio.Event().wait()

        spool = Spool(tmp_path)
        writer = spool.begin("key", 10, "0" * 64)
        spool.discard("key")
        with pytest.raises(WrongState):
            await asyncio.wait_for(pour(chunks(), writer, 10, Room(4)), 10)
        writer.close()

    asyncio.run(run())
