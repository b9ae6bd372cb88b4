"""Whatever happens to workers and versions in whatever order, each request gets one answer, and it is right."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, InternalError
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.dispatch.settings import DispatchSettings
from tests.support.serving import FakeWorker, House, away, source, turns

BROKEN = InternalError("it broke", code="serving.model_failed")
EVENTS = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 3)),
    st.tuples(st.just("ask one"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["answer", "nan", "fault", "kill"]), st.integers(0, 5)),
    st.tuples(st.just("pass"), st.sampled_from([1, 10, 31])),
    st.tuples(st.sampled_from(["load", "unload", "share", "digest", "grow"]), st.integers(1, 3)),
    st.tuples(st.just("start"), st.booleans()),
    st.tuples(st.just("turn"), st.integers(1, 4)),
)


class Story:
    """A house in which anything may happen; the value that a request asks for is its number."""

    def __init__(self) -> None:
        self.house = House(
            DispatchSettings(workers=2, most_queued=8, most_rows=4, drain_s=0.001, resident_bytes=2 << 20)
        )
        self.asked = 0
        self.going: set[asyncio.Task[object]] = set()

    async def happen(self, event: str, what: int) -> None:
        house, dispatcher = self.house, self.house.dispatcher
        match event:
            case "ask" | "ask one":
                self.asked += 1
                deadline = house.clock.now() + 40.0 * what
                house.ask(
                    float(self.asked),
                    id_=str(self.asked),
                    version=what if event == "ask one" else None,
                    deadline=deadline,
                )
            case "answer" | "nan" | "fault" | "kill":
                self._do(event, what)
            case "pass":
                house.clock.advance(what)
                dispatcher._tick()
            case "load":
                self._try(dispatcher.load(source(what)))
            case "unload":
                self._try(dispatcher.unload("sums", what))
            case "digest":
                self._try(dispatcher.digest("sums", what))
            case "grow":
                house.started[what % len(house.started)].resident_bytes = 3 << 20
            case "share":
                loaded = [version.version for state in dispatcher.models() for version in state.versions]
                if what in loaded:
                    dispatcher.share("sums", {what: 1.0}, fallback=loaded[0])
            case "start":
                house.refuses = None if what else away()
            case "turn":
                await turns(what)

    def _do(self, event: str, what: int) -> None:
        working = [worker for worker in self.house.started if worker.alive and (not worker.idle or event == "kill")]
        if not working:
            return
        worker = working[what % len(working)]
        match event:
            case "kill":
                worker.kill()
            case "answer":
                worker.answer()
            case "nan":
                worker.answer({"y": np.full(_rows(worker), np.nan)})
            case "fault":
                worker.answer(BROKEN)

    def _try(self, work: Coroutine[None, None, object]) -> None:
        self.going.add(asyncio.create_task(work))

    async def end(self, *, patient: bool) -> None:
        """Stop at once; or let time go on, and workers answer, until nothing waits."""
        self.house.refuses = None
        for _ in range(60 if patient else 0):
            await turns()
            for worker in self.house.started:
                if worker.alive and not worker.idle:
                    worker.answer()
            await turns()
            self.house.clock.advance(5.0)
            self.house.dispatcher._tick()
        await self.house.dispatcher.close(0.0)
        for outcome in await asyncio.gather(*self.going, return_exceptions=True):
            assert outcome is None or not isinstance(outcome, BaseException) or isinstance(outcome, AimassError), (
                outcome
            )


def _rows(worker: FakeWorker) -> int:
    return sum(map(len, worker.batches[-1])) if worker.batches else 1


@settings(max_examples=250, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_each_request_is_settled_once_by_the_version_that_it_names(
    events: list[tuple[str, int]], patient: bool
) -> None:
    async def run() -> None:
        story = Story()
        await story.happen("load", 1)
        await turns()
        await story.happen("share", 1)
        for event, what in events:
            await story.happen(event, what)
        await story.end(patient=patient)
        outcomes = story.house.outcomes
        assert Counter(id_ for id_, _ in outcomes) == Counter(map(str, range(1, story.asked + 1)))
        for id_, outcome in outcomes:
            if isinstance(outcome, Answer):
                assert outcome.tensors["y"].tolist() == [float(id_) + 100.0 * (outcome.version - 1)]
        assert all(worker.ended or not worker.alive for worker in story.house.started), "a worker is left"

    asyncio.run(run())


@pytest.mark.parametrize("event", ["answer", "nan", "fault", "kill"])
def test_the_story_knows_all_that_may_happen(event: str) -> None:
    async def run() -> None:
        story = Story()
        await story.happen("load", 1)
        await turns()
        await story.happen("share", 1)
        await story.happen("ask", 1)
        await turns()
        await story.happen(event, 0)
        await story.end(patient=True)
        assert len(story.house.outcomes) == 1

    asyncio.run(run())
