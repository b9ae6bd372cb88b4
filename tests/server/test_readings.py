"""What people read of runs: a watcher gets what changed, and pays for no more."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from aimass.proto.errors import BadInput, Conflict, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.run_cli import slot_reasons
from aimass.proto.run_pages import changes, whole
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunView, SlotState, StepView
from aimass.proto.wire import MAX_DOCUMENT_BYTES, error_of
from aimass.server.live import Live
from aimass.server.readings import Readings
from tests.support.clock import ManualClock
from tests.support.edge_federation import Members, run, serving
from tests.support.edge_runs import submit_run
from tests.support.engines import Bench


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_watcher_sees_every_step_as_it_ends_and_reads_only_what_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=12))
        await bench.join(run_id)
        read: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "FROM steps" in statement:
                read.append(statement)

        sa.event.listen(bench.store.engine, "before_cursor_execute", note)
        steps: dict[int, StepView] = {}
        most, last = 0, None
        watching = bench.readings.watch(run_id)
        async for view in watching:
            most, last = max(most, len(view.steps)), view
            steps |= {step.index: step for step in view.steps}
            for index, state in bench.engine.live(run_id).row.run.open.items():
                for partner, slot in state.slots.items():
                    if slot.state is SlotState.ASKED:
                        await bench.send(run_id, partner, int(index))
        assert most <= 4
        whole_readings = [index for index, statement in enumerate(read) if " IN " not in statement]
        assert len(whole_readings) == 2, "the first view, and the manifest that is written with the end"
        assert whole_readings[0] == 0
        whole = await bench.readings.run_view(run_id)
        assert tuple(steps[index] for index in sorted(steps)) == whole.steps
        assert last is not None
        assert last.disk_bytes == whole.disk_bytes > 0
        await bench.stop()

    _run(scenario())


class _CountedBlobs(FileBlobs):
    """Counts how often it is asked whether a blob is here."""

    asked = 0

    def has(self, digest: str) -> bool:
        self.asked += 1
        return super().has(digest)


@pytest.mark.parametrize("keep", [0, 2])
def test_a_watcher_looks_for_models_that_are_new_and_for_the_others_when_some_were_deleted(
    tmp_path: Path, keep: int
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=keep)
        run_id = await bench.submit(bench.plan(rounds=20))
        await bench.join(run_id)
        blobs = _CountedBlobs(tmp_path / "blobs")
        readings = Readings(bench.engine, bench.store, blobs, bench.outbox, lambda: bench.housekeeping.deletions)
        most, last = 0, 0
        async for view in readings.watch(run_id):
            most, blobs.asked = max(most, blobs.asked), 0
            last = view.disk_bytes
            for index, state in bench.engine.live(run_id).row.run.open.items():
                for partner, slot in state.slots.items():
                    if slot.state is SlotState.ASKED:
                        await bench.send(run_id, partner, int(index), value=1.0 + int(index))
        model = (await bench.readings.models(run_id=run_id))[0].bytes
        assert most <= 6
        # The last commit's models are deleted after its change was told.
        assert last in ({20 * model} if keep == 0 else {2 * model, 3 * model})
        await bench.stop()

    _run(scenario())


def test_steps_since_a_change_are_those_and_no_others() -> None:
    live = Live(None, None)  # type: ignore[arg-type]
    for touched in ([0], [0, 1], [1], [2]):
        live.touch(touched)
    assert [live.since(change) for change in range(5)] == [[0, 1, 2], [0, 1, 2], [1, 2], [2], []]


def test_one_key_with_another_plan_is_a_conflict_and_with_the_same_plan_the_same_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        await bench.submit()
        plan, other = bench.plan(), bench.plan(rounds=2)
        first = await bench.submission.submit(plan, "key", "anna")
        assert await bench.submission.submit(plan, "key", "anna") == first
        with pytest.raises(Conflict) as caught:
            await bench.submission.submit(other, "key", "anna")
        assert caught.value.code == "run.key_reused"
        await bench.stop()

    _run(scenario())


def test_a_state_that_is_none_and_a_model_that_one_may_not_see_are_told_with_a_way_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            control = rpc.ControlStub(edge.channel("anna"))
            assert (await control.ListRuns(pb.ListRequest(state="finished"))).json == b'{"runs":[]}'
            found = []
            for call in (
                control.ListRuns(pb.ListRequest(state="foo")),
                control.ShowModel(pb.ModelRequest(digest="0" * 64)),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                found.append(error_of(caught.value))
            assert isinstance(found[0], BadInput)
            assert isinstance(found[1], Refused)
            assert found[0].limit == "waiting, running, paused, finished, stopped, failed"
            assert "aimass model list" in found[1].cure

    run(scenario())


def test_reasons_of_slots_are_shown_step_by_step() -> None:
    step = StepView(
        index=3, kind=StepKind.TRAIN, round=1, purpose="", state="committed", opened_at=0.0, deadline_at=1.0,
        slots={"north": SlotState.COUNTED, "south": SlotState.LATE}, reasons={"south": "step.late: too late"},
    )  # fmt: skip
    assert slot_reasons([step]) == [{"step": 3, "partner": "south", "slot": "late", "reason": "step.late: too late"}]


def _filled(data: Path, run_id: str, count: int, reason: str = "") -> list[int]:
    """As if the run had so many steps."""
    step = StepView(
        index=0, kind=StepKind.TRAIN, round=1, purpose="", state="committed", opened_at=0.0, deadline_at=1.0,
        slots={"north": SlotState.COUNTED}, reasons={"north": reason} if reason else {},
    )  # fmt: skip
    rows = [(run_id, index, canonical_json(msgspec.structs.replace(step, index=index))) for index in range(count)]
    with contextlib.closing(sqlite3.connect(data / "runs.sqlite")) as connection, connection:
        connection.executemany("INSERT INTO steps (run_id, step, view) VALUES (?, ?, ?)", rows)
    return list(range(count))


@pytest.mark.parametrize("count", [0, 9, 10, 25])
def test_a_run_of_many_steps_is_read_and_watched_in_pages_to_its_end(tmp_path: Path, count: int) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            run_id = await submit_run(edge)
            wanted = await asyncio.to_thread(_filled, tmp_path / "hub" / "data", run_id, count)
            control = rpc.ControlStub(edge.channel("anna"))
            first = await control.ShowRun(pb.RunRequest(run_id=run_id, most_steps=10))
            assert [step["index"] for step in msgspec.json.decode(first.json)["steps"]] == wanted[:10]
            assert [step.index for step in (await whole(control, run_id, page=10)).steps] == wanted
            seen = []
            async for view in changes(control, run_id, page=10):
                seen.append([step.index for step in view.steps])
                if not view.summary.state.final:
                    await control.ChangeRun(pb.ChangeRunRequest(run_id=run_id, change="stop", most_steps=1))
            assert len(seen) >= 2
            assert all(steps == wanted for steps in seen)

    run(scenario())


def test_who_asks_for_no_number_of_steps_gets_a_page_that_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            run_id = await submit_run(edge)
            wanted = await asyncio.to_thread(_filled, tmp_path / "hub" / "data", run_id, 1_001)
            control = rpc.ControlStub(edge.channel("anna", receive_bytes=MAX_DOCUMENT_BYTES))
            page = decode_json(RunView, (await control.ShowRun(pb.RunRequest(run_id=run_id))).json, "a run")
            assert ([step.index for step in page.steps], page.more) == (wanted[:1_000], True)
            request = pb.RunRequest(run_id=run_id, first_step=1_000)
            rest = decode_json(RunView, (await control.ShowRun(request)).json, "a run")
            assert ([step.index for step in rest.steps], rest.more) == (wanted[1_000:], False)

    run(scenario())


def test_a_page_of_large_steps_has_fewer_of_them(tmp_path: Path) -> None:
    """A page of a thousand steps of a megabyte each would be no document, and fill the server's memory."""

    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            run_id = await submit_run(edge)
            wanted = await asyncio.to_thread(_filled, tmp_path / "hub" / "data", run_id, 20, "x" * (1 << 20))
            control = rpc.ControlStub(edge.channel("anna", receive_bytes=MAX_DOCUMENT_BYTES))
            page = await control.ShowRun(pb.RunRequest(run_id=run_id, most_steps=1_000))
            assert len(page.json) < 9 << 20
            view = await whole(control, run_id)
            assert ([step.index for step in view.steps], view.more) == (wanted, False)
            async for view in changes(control, run_id):
                assert ([step.index for step in view.steps], view.more) == (wanted, False)
                if not view.summary.state.final:
                    await control.ChangeRun(pb.ChangeRunRequest(run_id=run_id, change="stop", most_steps=1))

    run(scenario())
