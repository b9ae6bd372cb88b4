"""The aggregation server under attack: each test is an order of events, a fault or a sender that once did harm."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import math
import sqlite3
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from aimass.privacy.pki import Peer, Role
from aimass.privacy.transcript import Chain, check_history
from aimass.proto import storage
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.errors import BadInput, Conflict, NotFound, OutOfSpace, Refused, WrongState
from aimass.proto.grpc_env import grpc
from aimass.proto.plan import Cohort, Stage, decode_plan, encode_plan
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs, Spool
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.views import LayerSummary, RunState, StepSummary, StepView
from aimass.proto.wire import MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES, connect
from aimass.server import runs, steps
from aimass.server.commits import next_entry
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Models, StepResult
from aimass.server.retention import Housekeeping
from aimass.server.store import Commit, Store
from aimass.server.transfers import Transfers
from tests.server.test_run_machine import NAMES, World, joined, new_run, stored
from tests.support.clock import ManualClock
from tests.support.edge_federation import Members, serving
from tests.support.edge_runs import submit_run
from tests.support.engines import Bench, update


def _run(scenario: Coroutine[object, object, None], seconds: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(scenario, seconds))


async def _running(folder: Path, clock: ManualClock | None = None, **options: object) -> tuple[Bench, str]:
    """A bench with a run whose first step is open at everybody."""
    bench = await Bench.start(folder, clock or ManualClock(), **options)  # type: ignore[arg-type]
    run_id = await bench.submit()
    await bench.join(run_id)
    return bench, run_id


class _NoGate:
    """Admits the one partner, and ends the older stream only once its contribution is recorded."""

    async def admit(self, context: object, name: str) -> Peer:
        return Peer(Role.PARTNER, "north", 1, b"", math.inf)

    def end(self, task: object, reason: object) -> None:
        return None


def test_a_second_stream_cannot_overwrite_the_contribution_that_the_first_had_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        good, evil = update(1.0), update(float("nan"))
        gate: Any = _NoGate()
        room: Any = lambda: None  # noqa: E731
        transfers = Transfers(
            bench.contributions, bench.readings, bench.blobs, bench.spool, gate, 1 << 20, room, bench.differences
        )
        context: Any = None

        def header(data: bytes) -> SubmitHeader:
            return SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id)

        admitted, go = asyncio.Event(), asyncio.Event()

        async def stream(data: bytes, wait: bool) -> None:
            incoming = await transfers.authorise_submit(context, header(data))
            if wait:
                admitted.set()
                await go.wait()
            writer = incoming.open()
            writer.append(data[writer.offset :])
            await incoming.accept(writer.finish())

        first = asyncio.create_task(stream(good, True))
        await admitted.wait()
        second = asyncio.create_task(stream(evil, False))  # admitted while nothing is stored, waits for the first
        await asyncio.sleep(0)
        go.set()
        await first  # acknowledged
        with pytest.raises(Conflict):
            await second
        await bench.send(run_id, "south", value=1.0)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED, run.reason
        np.testing.assert_array_equal(Blob(bench.blobs.open(run.model)).numpy("w"), np.ones(4, np.float32))
        await bench.stop()

    _run(scenario())


class _Scientist(_NoGate):
    """Admits a scientist, and cuts an older stream at once, whatever it waits for."""

    async def admit(self, context: object, name: str) -> Peer:
        return Peer(Role.SCIENTIST, "anna", 1, b"", math.inf)

    def end(self, task: asyncio.Task[object], reason: object) -> None:  # type: ignore[override]
        task.cancel()


def test_a_first_model_that_is_being_stored_as_its_stream_is_cut_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread stores it to the end: who comes back meanwhile would find its file gone, or send gigabytes twice."""

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        gate: Any = _Scientist()
        transfers = Transfers(
            bench.contributions,
            bench.readings,
            bench.blobs,
            bench.spool,
            gate,
            1 << 20,
            lambda: None,
            bench.differences,
        )
        data = encode_numpy({"w": np.arange(4, dtype=np.float32)})
        header = SubmitHeader(kind="model", size=len(data), digest=Blob(data).digest)
        adopting, go, adopt = threading.Event(), threading.Event(), bench.blobs.adopt

        def slow(path: Path, digest: str) -> None:
            adopting.set()
            go.wait(10)
            adopt(path, digest)

        monkeypatch.setattr(bench.blobs, "adopt", slow)
        context: Any = None

        async def stream() -> int:
            incoming = await transfers.authorise_submit(context, header)
            if incoming.done:
                return 0
            writer = incoming.open()
            writer.append(data[writer.offset :])
            await incoming.accept(writer.finish())
            return len(data)

        first = asyncio.create_task(stream())
        assert await asyncio.to_thread(adopting.wait, 10)
        second = asyncio.create_task(stream())
        await asyncio.wait({first})
        asyncio.get_running_loop().call_later(0.2, go.set)
        assert first.cancelled()
        assert await second == 0
        assert bench.blobs.has(header.digest)
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_contribution_that_changed_or_went_in_the_spool_is_never_summed(tmp_path: Path, damage: str) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        await bench.send(run_id, "north", value=1.0)
        await bench.stop()
        path = bench.spool.path(f"{run_id}-0-north")
        if damage == "changed":
            path.write_bytes(update(777.0))
        again = await Bench.start(tmp_path, ManualClock())
        if damage == "missing":  # under the running server: one that starts asks for it again
            path.unlink()
        await again.send(run_id, "south", value=1.0)
        run = await again.finished(run_id)
        assert run.state is RunState.FAILED
        assert run.reason.startswith(f"contribution.{damage}")
        assert "north" in run.reason
        await again.stop()

    _run(scenario())


def test_a_contribution_that_is_gone_when_the_server_starts_is_asked_again_and_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        await bench.send(run_id, "north", value=1.0)
        await bench.stop()
        bench.spool.path(f"{run_id}-0-north").unlink()
        again = await Bench.start(tmp_path, ManualClock())
        await again.send(run_id, "south", value=1.0)
        await again.desk.connected("north", [])
        assert "open_step" in again.outbox.heard("north")
        await again.send(run_id, "north", value=1.0)
        run = await again.finished(run_id)
        assert run.state is RunState.FINISHED
        np.testing.assert_array_equal(Blob(again.blobs.open(run.model)).numpy("w"), np.full(4, 1.0, np.float32))
        await again.stop()

    _run(scenario())


def test_a_metric_whose_mean_overflows_is_refused_and_spoils_no_view(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        tiny = Contribution({"update": Group(1.0, {"w": np.zeros(4, np.float32)})}, {"loss": Metric(1.0, 1e-320)}, {})
        with contextlib.suppress(BadInput):
            await _send_bytes(bench, run_id, "north", tiny.encode())
        with contextlib.suppress(BadInput):
            await _send_bytes(bench, run_id, "south", tiny.encode())
        await bench.finished(run_id)
        await bench.readings.run_view(run_id)
        await bench.readings.models()
        await bench.stop()

    _run(scenario())


async def _send_bytes(bench: Bench, run_id: str, partner: str, data: bytes, step: int = 0) -> None:
    header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id, step=step)
    writer = bench.spool.begin(bench.contributions.key(partner, header), len(data), header.digest)
    writer.append(data)
    await bench.contributions.accept(partner, header, writer.finish())


def test_a_model_that_overflows_its_element_type_ends_the_run_with_a_reason_and_spoils_no_view(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        half = encode_numpy({"w": np.full(4, 60_000, np.float16)})
        bench.blobs.put([half])
        plan = msgspec.structs.replace(decode_plan(bench.plan()), model=Blob(half).digest)
        run_id = await bench.submit(encode_plan(plan))
        await bench.join(run_id)
        group = Group(1.0, {"w": np.full(4, 60_000, np.float16)})
        for name in bench.partners:
            await _send_bytes(bench, run_id, name, Contribution({"update": group}, {}, {}).encode())
        run = await bench.finished(run_id)
        assert run.state is RunState.FAILED
        assert run.reason.startswith("model.not_finite")
        await bench.readings.run_view(run_id)
        assert await bench.readings.models() == ()
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("table", ["runs", "transcript", "enrolments"])
def test_a_migration_that_a_crash_cuts_leaves_nothing_behind(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Operations.create_table

    def dies(self: Operations, name: str, *columns: Any, **options: Any) -> Any:
        made = create(self, name, *columns, **options)
        if name == table:
            raise KeyboardInterrupt("the machine dies here")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "create_table", dies)
        with pytest.raises(KeyboardInterrupt):
            Store.open(tmp_path / "runs.sqlite")
    store = Store.open(tmp_path / "runs.sqlite")
    assert store.runs() == []
    store.close()


def test_a_read_that_fails_after_the_commit_leaves_no_run_standing(tmp_path: Path) -> None:
    class Flaky(Store):
        broken = False

        def entries(self, run_id: str, first: int) -> list[bytes]:
            if self.broken:
                raise sa.exc.OperationalError("select", {}, sqlite3.OperationalError("disk I/O error"))
            return super().entries(run_id, first)

        def unbreak(self) -> None:
            self.broken = False

    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        bench.store.__class__ = Flaky
        run_id = await bench.submit(bench.plan(rounds=2))
        await bench.join(run_id)
        bench.store.broken = True  # type: ignore[attr-defined]
        await bench.send(run_id, "north", 0)
        await bench.send(run_id, "south", 0)  # commits step 0, opens step 1
        await bench.until(run_id, lambda run: "1" in run.open)
        await bench.send(run_id, "north", 1)
        bench.clock.advance(1_000)  # the second step's deadline: nobody else answers
        await asyncio.wait_for(bench.finished(run_id), 3)
        assert bench.outbox.heard("north").count("open_step") == 2
        await bench.stop()

    _run(scenario())


def test_a_run_never_goes_on_under_the_quorum_of_its_plan(tmp_path: Path) -> None:
    world = World(new_run(quorum=2))
    for name in NAMES:
        world.feed(joined(name))
    for name in NAMES:
        world.feed(stored(name, 0))
    for name in ("east", "north"):
        world.feed(runs.Removed(partner=name, reason="revoked"))
        world.feed(runs.InStep(index=1, event=steps.TimeUp()))
    for action in world.actions:
        if isinstance(action, runs.Open):
            assert action.step.quorum >= 2
    paused = World(new_run(quorum=2))
    for name in NAMES:
        paused.feed(joined(name))
    for name in NAMES[:-1]:
        paused.feed(stored(name, 0))
    paused.feed(runs.Change(change="pause", reason="lunch"))
    paused.feed(stored(NAMES[-1], 0))
    for name in ("east", "north"):
        paused.feed(runs.Removed(partner=name, reason="revoked"))
    paused.feed(runs.Change(change="resume", reason=""))
    assert paused.run.state is RunState.FAILED
    assert "1 of 2" in paused.run.reason


class _FullBlobs:
    """The disk is full for models alone until a test makes room."""

    def __init__(self) -> None:
        self.full, self.tried = False, threading.Event()

    def reached(self, point: str) -> None:
        if point == "blobs.write" and self.full:
            self.tried.set()
            raise OutOfSpace("no space left", code="disk.full")


def test_a_run_that_waits_for_room_can_be_stopped_and_holds_up_no_partner(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _FullBlobs()
        bench, run_id = await _running(tmp_path, durability=disk)
        disk.full = True
        for name in bench.partners:
            await bench.send(run_id, name)
        assert await asyncio.to_thread(disk.tried.wait, 10)
        other = await bench.submission.submit(bench.plan(), "another key", "anna")
        before = len(bench.outbox.said)
        await asyncio.wait_for(bench.desk.connected("north", []), 3)
        assert other in [m.invite.run_id for _, m in bench.outbox.said[before:] if m.WhichOneof("body") == "invite"]
        await asyncio.wait_for(bench.desk.outside(frozenset({"north"}), "revoked"), 3)
        await asyncio.wait_for(bench.engine.change(run_id, "stop", "olga"), 3)
        bench.clock.advance(60)
        assert bench.engine.live(run_id).row.run.state is RunState.STOPPED
        await bench.stop()

    _run(scenario())


def test_a_long_run_of_a_deep_model_can_be_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        async with serving(members) as edge:
            run_id = await submit_run(edge)
            store = Store.open(tmp_path / "hub/data/runs.sqlite")
            row = store.runs()[0]
            layer = LayerSummary(norm=math.pi, drift=math.e, similarity=math.pi, quantiles=(math.pi,) * 7)
            summary = StepSummary(
                norm=1.0, drift=1.0, similarity=None, layers={f"layer.{i}.weight": layer for i in range(128)},
                sketch=(math.pi,) * 128,
            )  # fmt: skip
            views = [
                StepView(index=i, kind=StepKind.TRAIN, round=i, purpose="", state="committed", opened_at=0.0,
                         deadline_at=0.0, slots={}, summary=summary)
                for i in range(300)
            ]  # fmt: skip
            store.save(row.run, Commit(steps=tuple(views)))
            store.close()
            channel = connect(edge.address, members.identity("olga"), MAX_DOCUMENT_BYTES)
            edge.channels.append(channel)
            shown = await rpc.ControlStub(channel).ShowRun(pb.RunRequest(run_id=run_id))
            assert len(shown.json) > 4 << 20
            call = rpc.ControlStub(channel).WatchRun(pb.RunRequest(run_id=run_id))
            assert await call.read() is not grpc.aio.EOF

    _run(scenario(), 60)


def test_a_long_history_reaches_a_partner_in_messages_that_the_wire_takes(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        live = bench.engine.live(run_id)
        chain, made = live.chain, []
        for index in range(50_000):
            made.append(next_entry(run_id, chain, b"%d" % index))
            chain = made[-1].chain
        await bench.engine.on_disk(bench.store.save, live.row.run, Commit(entries=tuple(made)))
        live.chain = chain
        bench.outbox.said.clear()
        await bench.desk.connected("north", [])
        told = [m.history for _, m in bench.outbox.said if m.WhichOneof("body") == "history"]
        assert max(message.ByteSize() for message in told) < MAX_MESSAGE_BYTES
        held = Chain()
        for message in told:
            key = bench.engine._signer.public_key().public_bytes_raw()
            held = check_history(run_id, held, message.first, message.entries, message.signature, key)
        assert held == chain
        await bench.stop()

    _run(scenario(), 60)


class _HeldCommit:
    """Holds the write of a commit until a test lets it go."""

    def __init__(self) -> None:
        self.hold, self.reached_it, self.go = False, threading.Event(), threading.Event()

    def reached(self, point: str) -> None:
        if self.hold and point == "store.commit.write":
            self.reached_it.set()
            self.go.wait(10)


def test_a_partner_that_connects_during_a_commit_hears_the_history_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = _HeldCommit()
        bench = await Bench.start(tmp_path, ManualClock(), durability=disk)
        run_id = await bench.submit(bench.plan(rounds=3))
        await bench.join(run_id)
        for name in bench.partners:
            await bench.send(run_id, name, 0)
        await bench.until(run_id, lambda run: "1" in run.open)  # a commit that north does not hear of: it is away
        disk.hold = True
        for name in bench.partners:
            await bench.send(run_id, name, 1)
        assert await asyncio.to_thread(disk.reached_it.wait, 10)
        bench.outbox.said.clear()
        here = asyncio.create_task(bench.desk.connected("north", [pb.RunMark(run_id=run_id, entries=1)]))
        await asyncio.sleep(0.05)
        disk.go.set()
        await here
        await bench.until(run_id, lambda run: "2" in run.open)
        said = [m for partner, m in bench.outbox.said if partner == "north"]
        entries = await bench.engine.on_disk(bench.store.entries, run_id, 0)
        chain, key = Chain().extended(entries[0]), bench.engine._signer.public_key().public_bytes_raw()
        for told in (m.history for m in said if m.WhichOneof("body") == "history"):
            chain = check_history(run_id, chain, told.first, told.entries, told.signature, key)
        assert chain == bench.engine.live(run_id).chain
        assert [m.open_step.deadline_ms > 0 for m in said if m.WhichOneof("body") == "open_step"] == [True]
        await bench.stop()

    _run(scenario())


def _no_space(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_wherever_blobs_and_spool_meet_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, spool = FileBlobs(tmp_path / "blobs"), Spool(tmp_path / "spool")
    digest = hashlib.sha256(b"x").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "make_folder", _no_space)  # a new folder for the first two digits
        with pytest.raises(OutOfSpace):
            blobs.put([b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _no_space)
        with pytest.raises(OutOfSpace):
            blobs.put([b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", _no_space)  # no inode left for a new file
        with pytest.raises(OutOfSpace):
            spool.begin("key", 1, digest)


def test_an_upload_whose_step_closes_before_its_last_byte_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        await bench.send(run_id, "north")
        data = update(1.0)
        header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id)
        writer = bench.spool.begin(bench.contributions.key("south", header), len(data), header.digest)
        writer.append(data[:100])
        await bench.engine.change(run_id, "stop", "olga")  # what was sent so far is discarded
        with pytest.raises(WrongState):
            writer.append(data[100:])
            await bench.contributions.accept("south", header, writer.finish())
        writer.close()
        assert list((tmp_path / "spool").iterdir()) == []
        await bench.stop()

    _run(scenario())


def test_a_clock_that_was_set_back_while_the_server_was_away_prolongs_no_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        await bench.stop()
        back = ManualClock(bench.clock.now() - 30 * 86_400)
        again = await Bench.start(tmp_path, back)
        await asyncio.sleep(0)
        back.advance(200)  # twice the step's deadline
        run = await asyncio.wait_for(again.finished(run_id), 3)
        assert run.state is RunState.FAILED
        await again.stop()

    _run(scenario())


def test_a_member_who_does_not_take_part_has_no_word_on_a_runs_history(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), partners=("north", "south", "west"))
        plan = msgspec.structs.replace(decode_plan(bench.plan()), cohort=Cohort(partners=("north", "south"), quorum=2))
        run_id = await bench.submit(encode_plan(plan))
        with pytest.raises(Refused):
            await bench.desk.head_seen("west", pb.HeadSeen(run_id=run_id, entries=1, head="f" * 64, signature=b"s"))
        await bench.stop()

    _run(scenario())


def test_statistics_of_a_partner_with_many_rows_are_not_taken_for_an_attack(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        zero, one = np.zeros(10), np.ones(10)
        parts = {"preprocess.shift": zero, "preprocess.span": one, "preprocess.mean": zero, "preprocess.scale": one}
        blob = encode_numpy(parts)
        bench.blobs.put([blob])
        plan = msgspec.structs.replace(
            decode_plan(bench.plan()), model=Blob(blob).digest, stages=(Stage(driver="statistics"),)
        )
        run_id = await bench.submit(encode_plan(plan))
        await bench.join(run_id)
        rows = np.full(10, 2_000_000.0)  # z lies in [-1, 1]: two million rows give at most that
        data = Contribution(
            {"statistics": Group(1.0, {"count": rows, "sum": rows / 2, "sum_of_squares": rows / 2})}, {}, {}
        ).encode()
        for name in bench.partners:
            await _send_bytes(bench, run_id, name, data)
        assert (await bench.finished(run_id)).state is RunState.FINISHED
        await bench.stop()

    _run(scenario())


def test_a_run_that_has_ended_needs_its_driver_no_more(tmp_path: Path) -> None:
    class Gone(dict[str, Any]):
        def __missing__(self, name: str) -> NoReturn:
            raise NotFound("no such driver", code="driver.unknown", value=name)

    async def scenario() -> None:
        bench, run_id = await _running(tmp_path)
        await bench.engine.change(run_id, "stop", "olga")
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock(), drivers=Gone({"other": object()}))
        assert (await again.readings.run_view(run_id)).summary.state is RunState.STOPPED
        assert again.readings.summaries("", 10)
        await again.stop()

    _run(scenario())


def test_a_model_that_a_crash_cut_is_gone_after_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        members = Members.create(tmp_path)
        folder = tmp_path / "hub" / "data" / "blobs"
        folder.mkdir(parents=True)
        (folder / ".0011223344556677.part").write_bytes(b"half of a model")
        async with serving(members):
            assert [path for path in folder.iterdir() if path.is_file()] == []

    _run(scenario(), 60)


def test_the_deadline_of_a_step_that_is_over_is_waited_for_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=12, deadline_s=1e6))
        await bench.join(run_id)
        for step in range(12):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            for name in bench.partners:
                await bench.send(run_id, name, step)
        await bench.finished(run_id)
        await asyncio.sleep(0.05)
        assert len(bench.engine._tasks) <= 2  # the time to join, at most
        await bench.stop()

    _run(scenario())


class _HoldsItsResult(Averaging):
    """A second run has made its model, and is yet to commit it."""

    def __init__(self) -> None:
        self.hold, self.made, self.go = False, threading.Event(), threading.Event()

    def receive(self, state: AveragingState, result: StepResult, models: Models, context: Context) -> AveragingState:
        after = super().receive(state, result, models, context)
        if self.hold:
            self.made.set()
            self.go.wait(10)
        return after


def test_a_model_that_an_equal_run_has_just_made_is_not_deleted_under_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        driver = _HoldsItsResult()
        bench = await Bench.start(tmp_path, ManualClock(), drivers={"averaging": driver}, keep=1)
        first, second = [await bench.submit(bench.plan(rounds=4)) for _ in range(2)]
        for run_id in (first, second):
            await bench.join(run_id)
        for step in range(3):
            for name in bench.partners:
                await bench.send(first, name, step)
            await bench.until(first, lambda run, step=step: str(step + 1) in run.open)  # type: ignore[misc]
        driver.hold = True
        for name in bench.partners:
            await bench.send(second, name, 0)  # makes the first run's first model again
        assert await asyncio.to_thread(driver.made.wait, 10)
        # As after a restart: one that has just read what lies on the disk, and what the first run once made.
        await Housekeeping(bench.engine, bench.store, bench.blobs, 1).after_commit(first)
        driver.go.set()
        run = await bench.until(second, lambda run: run.state.final or "1" in run.open)
        assert run.state is RunState.RUNNING, run.reason
        assert bench.blobs.has(run.model)
        await bench.stop()

    _run(scenario())
