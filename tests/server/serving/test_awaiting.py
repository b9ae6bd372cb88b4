"""A worker stays awake while requests follow one another, and ever less where none come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from aimass.server.serving.workers.awaiting import AWAKE_S, Awaiting


class Clock:
    """Goes on by a third of the time awake each time that it is read, and counts that."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.reads * AWAKE_S / 3


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Slept:
    """A link on which a request comes once somebody sleeps for it."""

    def __init__(self) -> None:
        self.sleeps = 0

    def recv(self, size: int, flags: int) -> bytes:
        if flags == socket.MSG_WAITALL:
            self.sleeps += 1
            return b"late"[:size]
        raise BlockingIOError


def test_what_is_there_is_taken_whole_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    awaited = Awaiting(ours, 4, Clock())
    theirs.sendall(b"oneatwob")
    assert [awaited(), awaited()] == [b"onea", b"twob"]


def test_what_comes_late_is_slept_for_and_looked_for_ever_less_often() -> None:
    clock, link = Clock(), Slept()
    awaited = Awaiting(link, 4, clock)
    looked = []
    for _ in range(8):
        before = clock.reads
        assert awaited() == b"late"
        looked.append(clock.reads > before)
    assert looked == [True, False, False, True, False, False, False, False]
    assert link.sleeps == 8


def test_one_that_comes_in_time_is_looked_for_again(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    clock = Clock()
    awaited = Awaiting(ours, 4, clock)
    theirs.sendall(b"soon" * 3)
    for _ in range(3):
        before = clock.reads
        assert awaited() == b"soon"
        assert clock.reads > before


def test_who_sleeps_is_woken(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    awaited = Awaiting(ours, 4, Clock())
    found: list[bytes] = []
    sleeper = threading.Thread(target=lambda: found.append(awaited()))
    sleeper.start()
    theirs.sendall(b"wake")
    sleeper.join(10)
    assert found == [b"wake"]


def test_a_closed_link_gives_less_than_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"ha")
    theirs.close()
    assert Awaiting(ours, 4, Clock())() == b"ha"
