"""A run is followed once for all who look, and what ends its stream is raised at the next look."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from aimass.explain.app.live import Feed, Watching
from aimass.proto.errors import AimassError, Unavailable
from aimass.proto.views import RunState, RunView
from tests.explain.runs.made import run as made_run
from tests.explain.runs.made import step


class Stream:
    """A run whose changes a test sends."""

    def __init__(self) -> None:
        self.sent: queue.Queue[RunView | AimassError | None] = queue.Queue()
        self.taken: queue.Queue[RunView | None] = queue.Queue()

    def leave(self) -> None:
        self.sent.put(None)

    def watch(self) -> Iterator[RunView]:
        while (item := self.sent.get()) is not None:
            if isinstance(item, AimassError):
                raise item
            yield item
            self.taken.put(item)
        self.taken.put(None)


def at_round(view: RunView, round_: int, state: RunState = RunState.RUNNING) -> RunView:
    return msgspec.structs.replace(view, summary=msgspec.structs.replace(view.summary, round=round_, state=state))


@pytest.fixture
def view() -> RunView:
    return at_round(made_run([step(0, 1)]), 1)


def feed_of(view: RunView, stream: Stream, opened: list[str]) -> Feed:
    def open_run(run_id: str) -> tuple[RunView, Watching]:
        opened.append(run_id)
        return view, stream

    return Feed(open_run)


def test_all_who_look_see_the_newest_of_one_stream(view: RunView) -> None:
    stream = Stream()
    opened: list[str] = []
    feed = feed_of(view, stream, opened)
    assert feed.latest("r").summary.round == 1
    stream.sent.put(at_round(view, 2))
    stream.taken.get()
    assert [feed.latest("r").summary.round for _ in range(5)] == [2] * 5
    assert opened == ["r"]
    stream.sent.put(None)


def test_a_run_that_has_ended_is_not_followed(view: RunView) -> None:
    opened: list[str] = []
    feed = feed_of(at_round(view, 3, RunState.FINISHED), Stream(), opened)
    assert feed.latest("r").summary.state is RunState.FINISHED
    assert feed.latest("r").summary.round == 3
    assert opened == ["r"]


def test_what_ended_the_stream_is_raised_once_and_then_it_is_opened_anew(view: RunView) -> None:
    class Breaking(Stream):
        def watch(self) -> Iterator[RunView]:
            yield view
            self.taken.put(None)
            raise Unavailable("the server is away")

    opened: list[Any] = []
    breaking = Breaking()
    feed = feed_of(view, breaking, opened)
    feed.latest("r")
    breaking.taken.get()
    raised = 0
    while not raised:  # (the thread says it a moment later)
        try:
            feed.latest("r")
        except Unavailable:
            raised += 1
    assert feed.latest("r").summary.round == 1
    assert len(opened) == 2


def test_a_run_at_which_nobody_looks_is_left_though_nothing_is_heard_of_it(view: RunView) -> None:
    at, stream, opened = [0.0], Stream(), list[str]()

    def open_run(run_id: str) -> tuple[RunView, Watching]:
        opened.append(run_id)
        return view, stream

    feed = Feed(open_run, now=lambda: at[0])
    feed.latest("r")
    at[0] = 60.0
    feed.latest("another")
    assert stream.taken.get(timeout=60) is None
    feed.latest("r")
    assert opened == ["r", "another", "r"]


class Slow(Stream):
    """A stream that ends a moment after it was left."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def leave(self) -> None:
        super().leave()
        threading.Timer(0.2, self.go.set).start()

    def watch(self) -> Iterator[RunView]:
        yield from super().watch()
        self.go.wait()


def test_a_feed_that_is_closed_has_left_its_runs_and_follows_none_again(view: RunView) -> None:
    opened, before = list[str](), set(threading.enumerate())
    feed = feed_of(view, Slow(), opened)
    feed.latest("r")
    feed.close()
    assert not any(thread.name == "aimass-feed" for thread in set(threading.enumerate()) - before)
    assert feed.latest("r").summary.round == 1
    assert not any(thread.name == "aimass-feed" for thread in set(threading.enumerate()) - before)
    feed.close()
