"""What finished runs have made is published beside the engine: once, and late where the registry is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest

from aimass.proto.errors import AimassError, BadInput, Refused, Unavailable
from aimass.proto.outcomes import Outcome
from aimass.proto.plan import Promote, decode_plan, encode_plan
from aimass.proto.views import RunState
from aimass.server.registry.promoter import Outcomes, Promoter, wait_s
from tests.support.clock import ManualClock
from tests.support.engines import Bench

AWAY = Unavailable("the store is away", code="storage.unavailable")


ASKED = Promote(model="heart", auto=True)


class House:
    """A bench with a promoter, whose waits are on a clock of its own; `start` again is a restart.

    The registry publishes, or raises the troubles that it is given, in turn.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.pace = folder, ManualClock(), ManualClock()
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None
        self._changed = asyncio.Event()
        self._outcomes = Outcomes(folder / "promotions")

    async def start(self, *troubles: Exception) -> None:
        self.troubles, self.asked = list(troubles), []
        self.bench = await Bench.start(self.folder, self.clock)
        self.bench.submission.promotes = True
        self.promoter = Promoter(self.bench.engine, self, self._publish, self)
        self.bench.engine.programs = self.promoter
        self.promoter.start()

    async def _publish(self, run_id: str, wanted: Promote) -> Outcome:
        self.asked.append(run_id)
        self._changed.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        return Outcome(state="promoted", at=1.0, said="better", version="heart@1")

    def get(self, run_id: str) -> Outcome | None:
        return self._outcomes.get(run_id)

    def put(self, run_id: str, outcome: Outcome) -> None:
        self._outcomes.put(run_id, outcome)
        self._loop.call_soon_threadsafe(self._changed.set)

    def now(self) -> float:
        return self.pace.now()

    async def sleep(self, seconds: float) -> None:
        self._changed.set()
        await self.pace.sleep(seconds)

    async def until(self, holds: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def told(self, run_id: str, *states: str) -> Outcome:
        """Once there is an outcome of one of these states."""
        await self.until(lambda: getattr(self.get(run_id), "state", None) in (states or ("promoted",)))
        outcome = self.get(run_id)
        assert outcome is not None
        return outcome

    async def waits(self, times: int) -> None:
        """Once the registry was asked so often, and the promoter waits."""
        await self.until(lambda: len(self.asked) == times and self.pace.sleepers == 1)

    async def finished(self, promote: Promote | None = ASKED) -> str:
        self._loop = asyncio.get_running_loop()
        plan = msgspec.structs.replace(decode_plan(self.bench.plan()), promote=promote)
        run_id = await self.bench.submit(encode_plan(plan))
        await self.bench.join(run_id)
        for partner in self.bench.partners:
            await self.bench.send(run_id, partner)
        assert (await self.bench.finished(run_id)).state is RunState.FINISHED
        return run_id


def scene(test: Callable[[House], Coroutine[object, object, None]], folder: Path) -> None:
    async def whole() -> None:
        house = House(folder)
        try:
            await test(house)
        finally:
            await house.bench.stop()

    asyncio.run(asyncio.wait_for(whole(), 30))


def test_a_finished_run_whose_plan_asks_for_it_is_published_once(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.start()
        await house.finished(None)
        first = await house.finished()
        assert (await house.told(first)).version == "heart@1"
        assert house.asked == [first]
        await house.bench.stop()
        await house.start()
        second = await house.finished()
        await house.told(second)
        assert house.asked == [second]

    scene(test, tmp_path)


def test_a_registry_that_is_away_is_asked_again_less_and_less_often(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.start(AWAY, AWAY)
        run_id = await house.finished()
        for times, seconds in ((1, 5.0), (2, 10.0)):
            await house.waits(times)
            house.pace.advance(seconds - 0.1)
            await asyncio.sleep(0)
            assert (len(house.asked), house.pace.sleepers) == (times, 1)
            house.pace.advance(0.2)
        await house.told(run_id)
        assert house.asked == [run_id] * 3
        assert house.bench.engine.meters.models_published.read() == {("waiting",): 2, ("promoted",): 1}

    scene(test, tmp_path)


def test_a_run_whose_registry_is_away_holds_up_no_other_run(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.start(AWAY)
        first = await house.finished()
        await house.waits(1)
        second = await house.finished()
        await house.told(second)
        assert house.asked == [first, second]
        waiting = house.get(first)
        assert waiting is not None
        assert (waiting.state, waiting.said) == ("waiting", str(AWAY))

    scene(test, tmp_path)


def test_models_are_published_one_after_the_other(tmp_path: Path) -> None:
    """Each is a child process that loads a task, and a whole model in memory."""

    async def test(house: House) -> None:
        await house.start()
        house.gate = asyncio.Event()
        first, second = await house.finished(), await house.finished()
        await house.until(lambda: house.asked == [first])
        await house.bench.engine.on_disk(int)  # the second has been looked up by now, and waits for its turn
        await asyncio.sleep(0)
        assert house.asked == [first]
        house.gate.set()
        await house.told(second)
        assert house.asked == [first, second]

    scene(test, tmp_path)


def test_a_restart_goes_on_with_what_was_not_published(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.start(AWAY)
        run_id = await house.finished()
        await house.waits(1)
        await house.bench.stop()
        await house.start()
        await house.told(run_id)

    scene(test, tmp_path)


@pytest.mark.parametrize(
    "trouble",
    [BadInput("the task fails", code="registry.task_failed"), ValueError("a fault of ours")],
    ids=["a named error", "a fault"],
)
def test_what_cannot_be_published_is_told_and_tried_at_the_next_start(tmp_path: Path, trouble: Exception) -> None:
    async def test(house: House) -> None:
        await house.start(trouble)
        run_id = await house.finished()
        outcome = await house.told(run_id, "failed")
        assert outcome.said.startswith(getattr(trouble, "code", "ValueError"))
        assert "a fault of ours" not in outcome.said
        await house.bench.stop()
        await house.start()
        await house.told(run_id)

    scene(test, tmp_path)


def test_a_trust_file_that_does_not_name_the_server_is_waited_for(tmp_path: Path) -> None:
    stranger: AimassError = Refused("hub may not publish", code="registry.signer_may_not")

    async def test(house: House) -> None:
        await house.start(stranger)
        run_id = await house.finished()
        await house.waits(1)
        house.pace.advance(5.0)
        await house.told(run_id)

    scene(test, tmp_path)


def test_a_server_without_a_registry_refuses_a_plan_that_asks_for_one(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        await house.start()
        house.bench.submission.promotes = False
        with pytest.raises(Refused, match="this server has no registry"):
            await house.finished()

    scene(test, tmp_path)


def test_an_outcome_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    outcomes = Outcomes(tmp_path)
    outcomes.put("a", Outcome(state="published", at=1.0, said="kept", version="heart@1"))
    assert outcomes.get("a") == Outcome(state="published", at=1.0, said="kept", version="heart@1")
    (tmp_path / "a.json").write_text('{"state": "publ')
    assert outcomes.get("a") is None


def test_waits_double_up_to_ten_minutes() -> None:
    assert [wait_s(tries) for tries in (0, 1, 2, 6, 7, 10_000)] == [5.0, 10.0, 20.0, 320.0, 600.0, 600.0]
