"""A model of the server is fetched by one at a time, and whoever waits or fetches can be stopped."""

from __future__ import annotations

import dataclasses
import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aimass.explain.opening.fetched import fetched_model, models_folder
from aimass.explain.work import Work
from aimass.proto.errors import DeadlinePassed, Stopped
from aimass.proto.hashing import digest_of
from aimass.proto.resuming import Progress
from aimass.proto.storage import Spool

DATA = bytes(range(256)) * 64
DIGEST = digest_of((DATA,))
PART = len(DATA) // 4


@pytest.fixture(autouse=True)
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path))


class Server:
    """It sends a model in four parts into a spool beside its place, as `Federation.export` does; from the first part
    on it waits to be let go on."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.from_: list[int] = []

    def export(self, digest: str, path: Path, progress: Progress) -> None:
        writer = Spool(path.with_name(f".{path.name}.fetch")).begin(digest, len(DATA), digest)
        self.from_.append(writer.offset)
        try:
            while writer.offset < len(DATA):
                writer.append(DATA[writer.offset : writer.offset + PART])
                self.began.set()
                assert self.go.wait(60)
                progress(writer.offset, len(DATA))
            writer.finish().replace(path)
        finally:
            writer.close()


class Wish:
    """A wish to stop; it is known when somebody looks for it again and again, as they wait."""

    def __init__(self) -> None:
        self.waited, self.stop, self.looks = threading.Event(), False, 0

    def __call__(self) -> bool:
        self.looks += 1
        if self.looks > 1:
            self.waited.set()
        return self.stop


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.go.set()


@pytest.fixture
def fetching() -> Iterator[Callable[..., Any]]:
    with ThreadPoolExecutor(2) as pool:
        yield lambda server, work: pool.submit(fetched_model, server, DIGEST, work)


def test_who_wants_a_model_that_is_fetched_waits_for_it(server: Server, fetching: Callable[..., Any]) -> None:
    wish = Wish()
    first = fetching(server, Work())
    assert server.began.wait(60)
    second = fetching(server, Work(stopped=wish))
    assert wish.waited.wait(60)
    server.go.set()
    assert first.result(60) == second.result(60)
    assert first.result().read_bytes() == DATA
    assert server.from_ == [0]


def test_who_waits_for_another_who_fetches_can_be_stopped(server: Server, fetching: Callable[..., Any]) -> None:
    wish = Wish()
    first = fetching(server, Work())
    assert server.began.wait(60)
    second = fetching(server, Work(stopped=wish))
    assert wish.waited.wait(60)
    wish.stop = True
    with pytest.raises(Stopped):
        second.result(60)
    server.go.set()
    assert first.result(60).read_bytes() == DATA


def test_who_fetches_can_be_stopped_and_the_next_goes_on_from_there(
    server: Server, fetching: Callable[..., Any]
) -> None:
    wish = Wish()
    first = fetching(server, Work(stopped=wish))
    assert server.began.wait(60)
    wish.stop = True
    server.go.set()
    with pytest.raises(Stopped):
        first.result(60)
    assert fetched_model(server, DIGEST).read_bytes() == DATA  # type: ignore[arg-type]
    assert server.from_ == [0, PART]


def test_a_fetch_keeps_to_the_time_of_its_work_and_tells_how_far_it_is(server: Server) -> None:
    told: list[float] = []
    work = Work(tell=lambda share, what: told.append(share), until=1.5, now=lambda: float(len(told)))
    server.go.set()
    with pytest.raises(DeadlinePassed):
        fetched_model(server, DIGEST, work)  # type: ignore[arg-type]
    assert told == [0.25, 0.5]
    fetched_model(server, DIGEST, dataclasses.replace(work, until=10.0))  # type: ignore[arg-type]
    assert told[2:] == [1.0]


def test_a_process_beside_this_one_is_waited_for_too(server: Server, fetching: Callable[..., Any]) -> None:
    wish = Wish()
    lock = models_folder() / f".{DIGEST}.safetensors.lock"
    with lock.open("w") as held:  # as another process has it open
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = fetching(server, Work(stopped=wish))
        assert wish.waited.wait(60)
        assert not server.began.is_set()
    server.go.set()
    assert waiting.result(60).read_bytes() == DATA
