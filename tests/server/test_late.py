"""Late work: told so, carried into the next training step or refused, by the plan's rule, and counted once."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.privacy.transcript import Receipt
from aimass.proto.errors import Conflict, WrongState
from aimass.proto.plan import EvaluateSettings, decode_plan, encode_plan
from aimass.proto.step import Step
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import RunState, SlotState
from aimass.server import runs, steps
from aimass.server.transfers import Upload
from tests.support.clock import ManualClock
from tests.support.engines import Bench, update

PARTNERS = ("east", "north", "west")


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def _plan(bench: Bench, rounds: int, evaluate: int = 0, **cohort: Any) -> bytes:
    plan = decode_plan(bench.plan(rounds=rounds, quorum=2))
    rules = msgspec.structs.replace(plan.cohort, **({"late": "next"} | cohort))
    return encode_plan(msgspec.structs.replace(plan, cohort=rules, evaluate=EvaluateSettings(every=evaluate)))


async def _close(bench: Bench, run_id: str, index: int) -> None:
    """The deadline of a step passes; wait for its commit."""
    await bench.engine.apply(run_id, runs.InStep(index=index, event=steps.TimeUp()))
    await bench.until(run_id, lambda run: str(index) not in run.open)


def _model(bench: Bench, run: runs.Run) -> float:
    return float(Blob(bench.blobs.open(run.model)).numpy("w")[0])


def _said(bench: Bench, partner: str, kind: str) -> list[Any]:
    return [getattr(message, kind) for name, message in bench.outbox.said
            if name == partner and message.WhichOneof("body") == kind]  # fmt: skip


def test_late_work_counts_once_in_the_next_training_step(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0, value=1.0)
        await bench.send(run_id, "north", 0, value=1.0)
        await _close(bench, run_id, 0)
        assert [close.fault.code for close in _said(bench, "west", "close_step")] == ["step.carried"]
        run = bench.engine.live(run_id).row.run
        assert run.open["1"].step.participants == ("east", "north")
        assert run.open["1"].step.carried == {"west": 0}
        await bench.send(run_id, "west", 0, value=7.0)
        await bench.send(run_id, "east", 1, value=1.0)
        await bench.send(run_id, "north", 1, value=1.0)
        run = await bench.finished(run_id)
        assert _model(bench, run) == 1.0 + (1.0 + 1.0 + 7.0) / 3
        view = await bench.readings.run_view(run_id)
        assert view.steps[0].slots["west"] is SlotState.LATE
        assert view.steps[1].slots == dict.fromkeys(PARTNERS, SlotState.COUNTED)
        assert view.steps[1].carried == {"west": 0}
        (receipt,) = _said(bench, "west", "receipt")
        body = msgspec.json.decode(receipt.body, type=Receipt)
        assert (body.step, body.outcome, body.entries) == (0, "counted", 3)
        await bench.stop()
        assert list((tmp_path / "spool").iterdir()) == []

    _run(scenario())


def test_no_step_waits_for_late_work_and_too_late_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=3))
        await bench.join(run_id)
        for index in (0, 1):
            await bench.send(run_id, "east", index)
            await bench.send(run_id, "north", index)
            if index == 0:
                await _close(bench, run_id, 0)
            await bench.until(run_id, lambda run, index=index: str(index + 1) in run.open)  # type: ignore[misc]
        assert [c.fault.code for c in _said(bench, "west", "close_step")] == ["step.carried", "step.late"]
        with pytest.raises(WrongState):
            await bench.send(run_id, "west", 0)
        assert bench.engine.live(run_id).row.run.open["2"].step.participants == PARTNERS
        await bench.stop()

    _run(scenario())


def test_work_may_be_as_many_rounds_late_as_the_plan_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=3, late_rounds=2))
        await bench.join(run_id)
        for index in (0, 1, 2):
            if index == 2:
                await bench.send(run_id, "west", 0, value=5.0)
            await bench.send(run_id, "east", index, value=2.0)
            await bench.send(run_id, "north", index, value=2.0)
            if index == 0:
                await _close(bench, run_id, 0)
            await bench.until(run_id, lambda run, index=index: str(index) not in run.open)  # type: ignore[misc]
        run = await bench.finished(run_id)
        assert _model(bench, run) == 2.0 + 2.0 + 3.0
        assert [c.fault.code for c in _said(bench, "west", "close_step")] == ["step.carried"]
        await bench.stop()

    _run(scenario())


def test_without_the_rule_late_work_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2, late="refuse"))
        await bench.join(run_id)
        await bench.send(run_id, "east")
        await bench.send(run_id, "north")
        await _close(bench, run_id, 0)
        assert [c.fault.code for c in _said(bench, "west", "close_step")] == ["step.late"]
        with pytest.raises(WrongState):
            await bench.send(run_id, "west", 0)
        assert bench.engine.live(run_id).row.run.open["1"].step.participants == PARTNERS
        await bench.stop()

    _run(scenario())


def test_who_is_late_is_not_asked_to_evaluate_and_may_send_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2, evaluate=1))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.send(run_id, "north", 0)
        await _close(bench, run_id, 0)
        run = bench.engine.live(run_id).row.run
        assert (run.open["1"].step.kind, run.open["1"].step.participants) == ("evaluate", ("east", "north"))
        assert set(run.carried) == {"west"}
        await bench.send(run_id, "west", 0)
        run = bench.engine.live(run_id).row.run
        assert run.carried["west"].slot.state is SlotState.STORED
        await bench.engine.apply(run_id, runs.InStep(index=1, event=steps.Failed(partner="east", reason="x: y")))
        await bench.engine.apply(run_id, runs.InStep(index=1, event=steps.Failed(partner="north", reason="x: y")))
        assert bench.engine.live(run_id).row.run.state is RunState.FAILED
        await bench.stop()
        assert list((tmp_path / "spool").iterdir()) == []

    _run(scenario())


def test_a_late_partner_that_comes_back_is_asked_for_its_old_step_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.send(run_id, "north", 0)
        first = _said(bench, "west", "open_step")[0].step
        await _close(bench, run_id, 0)
        await bench.stop()
        again = await Bench.start(tmp_path, clock, PARTNERS)
        await again.desk.connected("west", [pb.RunMark(run_id=run_id, entries=2)])
        (asked,) = _said(again, "west", "open_step")
        assert asked.step == first, "the daemon leaves a run whose step has changed"
        step = msgspec.json.decode(asked.step, type=Step)
        assert again.contributions.may_fetch("west", run_id, step.inputs[0])
        await again.send(run_id, "west", 0)
        await again.send(run_id, "east", 1)
        await again.send(run_id, "north", 1)
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


def test_too_few_beside_the_late_ones_ask_everybody_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.send(run_id, "north", 0)
        await bench.engine.change(run_id, "pause", "anna")
        await _close(bench, run_id, 0)
        await bench.engine.apply(run_id, runs.Removed(partner="north", reason="partner.withdrew: x"))
        await bench.engine.change(run_id, "resume", "anna")
        run = await bench.until(run_id, lambda run: "1" in run.open)
        assert run.open["1"].step.participants == ("east", "west")
        assert run.open["1"].step.carried == {}
        assert [c.fault.code for c in _said(bench, "west", "close_step")] == ["step.carried", "step.late"]
        await bench.stop()

    _run(scenario())


def test_the_same_counted_set_gives_the_same_bits_in_any_order_with_any_crash(tmp_path: Path) -> None:
    """Every order of arrival, the late one before, between or after the others, a restart after any of them."""

    async def outcome(folder: Path, order: tuple[str, ...], restart: int) -> str:
        folder.mkdir()
        clock = ManualClock()
        bench = await Bench.start(folder, clock, PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2))
        await bench.join(run_id)
        values = {"east": 0.1, "north": 4e5 + 0.7, "west": -3.3}
        for name in ("north", "east"):
            await bench.send(run_id, name, 0, value=values[name], weight=3.7)
        await _close(bench, run_id, 0)
        for count, name in enumerate(order):
            if count == restart:
                await bench.stop()
                bench = await Bench.start(folder, clock, PARTNERS)
            await bench.send(run_id, name, 0 if name == "west" else 1, value=values[name], weight=0.3)
        run = await bench.finished(run_id)
        await bench.stop()
        return run.model

    async def scenario() -> None:
        orders = [order for order in itertools.permutations(PARTNERS) if order[-1] != "west"]
        found = set()
        for index, (order, restart) in enumerate(itertools.product(orders, range(3))):
            found.add(await outcome(tmp_path / str(index), order, restart))
        assert len(found) == 1

    _run(scenario())


def test_a_step_without_its_quorum_waits_for_its_grace_and_closes_with_who_makes_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=1, grace_s=30.0))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
        state = bench.engine.live(run_id).row.run.open["0"]
        assert state.graced
        assert state.deadline_at == state.opened_at + 130.0
        await bench.send(run_id, "north", 0)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


def test_grace_ends_the_run_by_name_when_the_quorum_does_not_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=1, grace_s=30.0))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        finished = asyncio.create_task(bench.finished(run_id))
        while not finished.done():
            clock.advance(10.0)
            await asyncio.to_thread(int)
        assert (await finished).reason.startswith("step 0 has 1 of 2 contributions needed")
        await bench.stop()

    _run(scenario())


def test_what_a_partner_that_leaves_has_sent_is_deleted_and_not_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=1))
        await bench.join(run_id)
        await bench.send(run_id, "west", 0, value=100.0)
        assert len(list((tmp_path / "spool").iterdir())) == 1
        fault = pb.Fault(kind="wrong_state", code="partner.withdrew", what="the partner withdrew from the run")
        await bench.desk.declined("west", pb.Declined(run_id=run_id, fault=fault))
        assert list((tmp_path / "spool").iterdir()) == []
        await bench.send(run_id, "east", 0)
        await bench.send(run_id, "north", 0)
        run = await bench.finished(run_id)
        assert _model(bench, run) == 1.0
        view = await bench.readings.run_view(run_id)
        assert view.steps[0].slots["west"] is SlotState.FAILED
        assert view.steps[0].reasons["west"].startswith("partner.withdrew")
        await bench.stop()

    _run(scenario())


def test_late_work_does_not_take_the_place_of_those_that_a_step_asks(tmp_path: Path) -> None:
    """Or a step would close with stale work alone, make its own asked late, and so each one after it."""

    async def scenario() -> None:
        names = ("a", "b", "c", "d", "e", "f")
        bench = await Bench.start(tmp_path, ManualClock(), names)
        run_id = await bench.submit(_plan(bench, rounds=3, sample=2, spare=2))
        await bench.join(run_id)
        first = bench.engine.live(run_id).row.run.open["0"].step.participants
        for name in first[:2]:
            await bench.send(run_id, name, 0)
        run = await bench.until(run_id, lambda run: "1" in run.open)
        assert set(run.open["1"].step.carried) == set(first[2:])
        for name in first[2:]:
            await bench.send(run_id, name, 0)
        run = bench.engine.live(run_id).row.run
        assert run.open["1"].counted is None
        for name in run.open["1"].step.participants[:2]:
            await bench.send(run_id, name, 1)
        await bench.until(run_id, lambda run: "1" not in run.open)
        view = await bench.readings.run_view(run_id)
        assert sum(slot is SlotState.COUNTED for slot in view.steps[1].slots.values()) == 4
        await bench.stop()

    _run(scenario())


def test_a_restart_during_grace_does_not_cut_it_short(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, PARTNERS)
        plan = decode_plan(_plan(bench, rounds=1, grace_s=3_000.0))
        short = msgspec.structs.replace(plan.cohort, step_deadline_s=2.0)
        run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=short)))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
        await bench.stop()
        again = await Bench.start(tmp_path, clock, PARTNERS)
        for _ in range(10):
            clock.advance(200.0)
            await asyncio.to_thread(int)
        run = again.engine.live(run_id).row.run
        assert run.state is RunState.RUNNING, run.reason
        await again.send(run_id, "north", 0)
        assert (await again.finished(run_id)).state is RunState.FINISHED
        await again.stop()

    _run(scenario())


@pytest.mark.parametrize("kind", [steps.Failed, steps.Refused])
def test_late_work_that_fails_between_two_training_steps_stands_in_the_next_one_as_failed(
    tmp_path: Path, kind: type[steps.Failed] | type[steps.Refused]
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=3, exclude_after=1))
        await bench.join(run_id)
        await bench.send(run_id, "east", 0)
        await bench.send(run_id, "north", 0)
        await bench.engine.change(run_id, "pause", "anna")
        await _close(bench, run_id, 0)
        await bench.engine.apply(run_id, runs.InStep(index=0, event=kind(partner="west", reason="child.died: x")))
        with pytest.raises(WrongState, match="this step's contribution is"):
            await bench.send(run_id, "west", 0)
        await bench.engine.change(run_id, "resume", "anna")
        await bench.send(run_id, "east", 1)
        await bench.send(run_id, "north", 1)
        run = await bench.until(run_id, lambda run: "2" in run.open)
        view = await bench.readings.run_view(run_id)
        assert view.steps[1].slots["west"] is (SlotState.FAILED if kind is steps.Failed else SlotState.REFUSED)
        assert run.excluded["west"].endswith("the last: child.died: x"), "nobody escapes the rule by being late first"
        await bench.stop()

    _run(scenario())


def test_an_upload_that_begins_as_its_partner_leaves_does_not_stay_on_the_disk(tmp_path: Path) -> None:
    """Between the leave to send and the file's opening the partner withdraws; later bytes find no place either."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=1))
        await bench.join(run_id)
        data = update(1.0)
        header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id, step=0)
        upload = Upload("west", header, bench.contributions, bench.spool)
        await bench.engine.apply(run_id, runs.Removed(partner="west", reason="partner.withdrew: x"))
        with pytest.raises(WrongState):
            upload.open()
        assert list((tmp_path / "spool").iterdir()) == []
        await bench.stop()

    _run(scenario())


def test_bytes_that_come_while_others_are_being_recorded_do_not_take_their_place(tmp_path: Path) -> None:
    """A partner cuts its stream while what it sent is recorded, and sends something that was never checked."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=1))
        await bench.join(run_id)
        good, bad = update(1.0), update(float("nan"))

        def upload(data: bytes) -> tuple[Upload, SubmitHeader]:
            header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id, step=0)
            return Upload("west", header, bench.contributions, bench.spool), header

        first, _ = upload(good)
        writer = first.open()
        writer.append(good)
        recording = asyncio.create_task(first.accept(writer.finish()))
        live = bench.engine.live(run_id)
        async with live.lock:
            await asyncio.sleep(0)
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)
            second, _ = upload(bad)
            settled = asyncio.create_task(bench.contributions.settled(second.key))
            await asyncio.sleep(0)
            assert not settled.done()
        await settled
        with pytest.raises(Conflict):
            upload(bad)
        assert live.row.run.open["0"].slots["west"].digest == Blob(good).digest
        await bench.stop()

    _run(scenario())


class _Dead(Exception):
    """The process is gone: nothing reaches the disk any more."""


class _DiesAt:
    """The server dies at its Nth durable point, before or after the effect, and stays dead."""

    def __init__(self, last: int) -> None:
        self._left, self._lock = last, threading.Lock()
        self._loop, self.died = asyncio.get_running_loop(), asyncio.Event()

    def reached(self, point: str) -> None:
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self._loop.call_soon_threadsafe(self.died.set)
                raise _Dead(point)


async def _drive(bench: Bench, run_id: str, died: asyncio.Event) -> runs.Run | None:
    """Bring whatever is asked for until the run has ended, or the server died: west is late with its first step."""
    live, changed = bench.engine.live(run_id), asyncio.Event()
    live.watchers.add(changed)
    while not (run := live.row.run).state.final:
        changed.clear()
        asked = [(name, step.index) for name, step, slot, _ in run.places() if slot.state is SlotState.ASKED]
        first = run.open.get("0")
        try:
            if ("west", 0) in asked and first is None:
                await bench.send(run_id, "west", 0, value=-3.3, weight=0.3)
            elif present := [item for item in asked if item[0] != "west"]:
                await bench.send(run_id, *present[0], value=0.1 * (2 + present[0][1]), weight=0.7)
            elif first is not None and first.counted is None:
                await bench.engine.apply(run_id, runs.InStep(index=0, event=steps.TimeUp()))
            else:
                news = [asyncio.ensure_future(event.wait()) for event in (changed, died)]
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
                for waiting in news:
                    waiting.cancel()
        except _Dead:
            return None
        if died.is_set():
            return None
    return run


def test_a_server_that_dies_at_any_instant_of_late_work_ends_in_the_same_bits(tmp_path: Path) -> None:
    async def outcome(folder: Path, last: int) -> tuple[str, bool]:
        folder.mkdir()
        clock = ManualClock()
        bench = await Bench.start(folder, clock, PARTNERS)
        run_id = await bench.submit(_plan(bench, rounds=2))
        await bench.join(run_id)
        await bench.stop()
        dying = _DiesAt(last)
        bench = await Bench.start(folder, clock, PARTNERS, dying)
        run = await _drive(bench, run_id, dying.died)
        await bench.stop()
        died = dying.died.is_set()
        if run is None or died:
            bench = await Bench.start(folder, clock, PARTNERS)
            run = await _drive(bench, run_id, asyncio.Event())
            await bench.stop()
        assert run is not None
        assert run.state is RunState.FINISHED, run.reason
        assert list((folder / "spool").iterdir()) == []
        return run.model, died

    async def scenario() -> None:
        found, last, died = set[str](), 0, True
        while died:
            last += 1
            model, died = await outcome(tmp_path / str(last), last)
            found.add(model)
        assert last > 20
        assert len(found) == 1

    _run(scenario())
