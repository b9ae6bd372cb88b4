from __future__ import annotations

import mmap
import os
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from aimass.proto.errors import BadInput, IntegrityError, LimitExceeded
from aimass.proto.servable import DTYPES
from aimass.server.serving.workers.memory import Written, copied, read, shared_memory, write

SIZE = 1 << 16
NUMBERS = [dtype for dtype in DTYPES.values() if not dtype.hasobject]


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Some tensors, each in parts that differ in their rows alone."""
    found: dict[str, list[Any]] = {}
    for name in draw(st.lists(st.text(min_size=1, max_size=8), max_size=4, unique=True)):
        rows = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
        rest = draw(st.lists(st.integers(0, 3), max_size=2))
        if draw(st.booleans()):
            dtype = draw(st.sampled_from(NUMBERS))
            found[name] = [draw(some.arrays(dtype, (count, *rest))) for count in rows]
        else:
            found[name] = [draw(some.arrays(object, (count, *rest), elements=st.binary(max_size=9))) for count in rows]
    return found


@settings(max_examples=60, deadline=None)
@given(tensors())
def test_what_is_written_is_read_as_one(parts: dict[str, list[Any]]) -> None:
    memory = memoryview(bytearray(SIZE))
    found = read(memory, write(memory, parts))
    assert list(found) == list(parts)
    for name, each in parts.items():
        whole = np.concatenate(each)
        assert found[name].dtype == whole.dtype
        assert found[name].shape == whole.shape
        assert found[name].tolist() == whole.tolist() or whole.dtype.kind == "f"
        if not whole.dtype.hasobject:
            assert found[name].tobytes() == whole.tobytes()


def test_rows_of_a_view_are_written_as_they_are_seen() -> None:
    memory = memoryview(bytearray(SIZE))
    table = np.arange(12.0).reshape(3, 4)
    found = read(memory, write(memory, {"x": [table[:, 1:3], table.T[:3, :2]]}))
    assert found["x"].tolist() == [*table[:, 1:3].tolist(), *table.T[:3, :2].tolist()]


def test_what_does_not_fit_is_refused() -> None:
    memory = memoryview(bytearray(256))
    for odd in (np.zeros(64), np.array([b"x" * 300], object), np.zeros(31)):
        with pytest.raises(LimitExceeded):
            write(memory, {"x": [odd]})


@pytest.mark.parametrize("odd", [np.zeros(1, np.complex128), np.array(["text"]), np.zeros(1, ">f8")])
def test_elements_that_do_not_travel_are_refused_where_they_are_written(odd: Any) -> None:
    with pytest.raises(BadInput):
        write(memoryview(bytearray(SIZE)), {"x": [odd]})


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_lie_of_a_worker_does_more_than_fail(data: st.DataObject) -> None:
    memory = memoryview(bytearray(512))
    written = write(memory, {"x": [np.arange(4.0)], "y": [np.array([b"ab", b"c"], object)]})
    for _ in range(data.draw(st.integers(1, 4))):
        memory[data.draw(st.integers(0, written.end - 1))] = data.draw(st.integers(0, 255))
    claimed = Written(
        data.draw(st.one_of(st.just(written.header), st.integers(0, 1 << 40))),
        data.draw(st.one_of(st.just(written.header_bytes), st.integers(0, 1 << 31))),
    )
    try:
        found = read(copied(memory, claimed), claimed)
    except IntegrityError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.mark.parametrize(
    "place",
    [
        ("x", "<f8", (1 << 40,), 0, 1 << 43),
        ("x", "<f8", (-1,), 0, -8),
        ("x", "<f8", (4,), -64, 32),
        ("x", "<f8", (4,), 4096, 32),
        ("x", "|O", (1 << 50,), 0, 8),
        ("x", "|O", (1,), -8, 8),
        ("x", "V8", (1,), 0, 8),
        ("x", "no dtype", (1,), 0, 8),
        ("x", "<c16", (1,), 0, 16),
        ("x", "|O", (1 << 58,), 0, 1 << 60),
        ("x", "|O", (1 << 32,), 0, 1 << 34),
        ("x", "<f8", (0,), 1 << 63, 0),
        ("x", "<f8", (1,), (1 << 64) - 1, 8),
        ("x", "<f8", (0, 1 << 62), 0, 0),
        ("x", "<f8", (0, 1 << 63), 0, 0),
        ("x", "<f8", (1,) * 65, 0, 8),
        ("x", "<f8", (1,), 0, (1 << 64) - 1),
    ],
)
def test_places_that_no_writer_makes_are_refused(place: tuple[Any, ...]) -> None:
    memory, written = claiming([place])
    with pytest.raises(IntegrityError):
        read(memory, written)


def test_tensors_that_share_bytes_are_refused() -> None:
    """Or a header of a few megabytes could have the same elements copied without end."""
    first, second = ("x", "<f8", (4,), 0, 32), ("y", "<f8", (4,), 24, 32)
    for places in ([first, second], [second, first]):
        memory, written = claiming(places)
        with pytest.raises(IntegrityError):
            read(memory, written)


def claiming(places: list[tuple[Any, ...]]) -> tuple[memoryview, Written]:
    """Memory of zeros with a header that says that these are in it."""
    memory = memoryview(bytearray(512))
    header = msgspec.msgpack.encode(places)
    memory[256 : 256 + len(header)] = header
    return memory, Written(256, len(header))


def test_neither_side_can_make_the_memory_smaller() -> None:
    descriptor, _ = shared_memory(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    other = memoryview(mmap.mmap(descriptor, 4096))
    assert len(other) == 4096
    os.close(descriptor)
