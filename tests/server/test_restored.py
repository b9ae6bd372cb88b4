"""A server that went back in time: its runs go on where nobody holds a newer history, and end by name where one does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.transcript import Chain, sign_head
from aimass.proto.tensors import Blob
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import RunState, SlotState
from aimass.server import steps
from aimass.server.restore import to_be_heard
from aimass.server.store import Commit, Store
from tests.support.clock import ManualClock
from tests.support.engines import SIGNER, Bench

NEWER = Chain(7, "ab" * 32)


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def _restored(folder: Path, clock: ManualClock, *sent: str) -> tuple[Bench, str]:
    """A run in its first step, to which some have sent, on a server that was restored."""
    bench = await Bench.start(folder, clock)
    run_id = await bench.submit(bench.plan(rounds=2))
    await bench.join(run_id)
    for partner in sent:
        await bench.send(run_id, partner)
    await bench.stop()
    store = Store.open(folder / "runs.sqlite")
    for row in store.runs():
        store.save(to_be_heard(row.run), Commit())
    store.close()
    return await Bench.start(folder, clock), run_id


def _mark(run_id: str, seen: Chain, key: Ed25519PrivateKey = SIGNER) -> pb.RunMark:
    return pb.RunMark(run_id=run_id, entries=seen.entries, head=seen.head, signature=sign_head(key, run_id, seen))


def test_a_restored_run_writes_no_history_until_all_its_partners_were_heard(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock())
        live = bench.engine.live(run_id)
        held = live.chain
        for partner in bench.partners:
            await bench.send(run_id, partner, value=2.0)
        assert live.row.run.open["0"].counted == bench.partners  # it has closed, and waits
        await bench.desk.connected("north", [_mark(run_id, held)])
        assert live.chain == held
        assert live.row.run.unheard == ("south",)
        await bench.desk.connected("south", [_mark(run_id, held)])
        await bench.until(run_id, lambda run: "1" in run.open)
        assert live.chain.entries == held.entries + 1
        for partner in bench.partners:
            await bench.send(run_id, partner, 1, value=2.0)
        run = await bench.finished(run_id)
        np.testing.assert_array_equal(Blob(bench.blobs.open(run.model)).numpy("w"), np.full(4, 4.0, np.float32))
        await bench.stop()

    _run(scenario())


@pytest.mark.parametrize("seen", [NEWER, Chain(1, "cd" * 32)], ids=["more entries", "another entry"])
@pytest.mark.parametrize("told_by", ["hello", "declined"])
def test_a_history_that_the_server_signed_and_lost_ends_the_run_and_is_not_written_over(
    tmp_path: Path, seen: Chain, told_by: str
) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock(), "north")
        held = bench.engine.live(run_id).chain
        mark = _mark(run_id, seen)
        bench.outbox.said.clear()
        if told_by == "hello":
            await bench.desk.connected("south", [mark])
        else:
            ended = pb.Fault(kind="wrong_state", code="session.ended", what="the run has ended here")
            await bench.desk.declined("south", pb.Declined(run_id=run_id, fault=ended, mark=mark))
        live = bench.engine.live(run_id)
        assert live.row.run.state is RunState.FAILED
        assert live.row.run.reason.startswith("run.restored_behind: this server was restored, and south holds")
        assert live.chain == held
        assert await bench.engine.on_disk(bench.store.chain, run_id) == held
        for partner in bench.partners:
            assert "end_run" in bench.outbox.heard(partner)
            assert "history" not in bench.outbox.heard(partner)
        assert list((tmp_path / "spool").iterdir()) == []
        again = await bench.submit()
        await bench.join(again)
        assert bench.engine.live(again).row.run.state is RunState.RUNNING
        await bench.stop()

    _run(scenario())


def test_a_claim_without_the_servers_signature_ends_no_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock())
        forged = _mark(run_id, NEWER, Ed25519PrivateKey.generate())
        for mark in (forged, pb.RunMark(run_id=run_id, entries=7, head="junk"), pb.RunMark(run_id=run_id, entries=7)):
            await bench.desk.connected("south", [mark])
            run = bench.engine.live(run_id).row.run
            assert (run.state, "south" in run.unheard) == (RunState.RUNNING, True)
        await bench.stop()

    _run(scenario())


def test_a_partner_that_stays_away_after_a_restore_ends_the_run_after_the_steps_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench, run_id = await _restored(tmp_path, clock)
        live = bench.engine.live(run_id)
        held = live.chain
        await bench.desk.connected("north", [_mark(run_id, held)])
        for partner in bench.partners:
            await bench.send(run_id, partner)
        finished = asyncio.create_task(bench.finished(run_id))
        while not finished.done():
            clock.advance(50.0)
            await asyncio.sleep(0)
        assert (await finished).reason.startswith("run.restored_unheard: ")
        assert (await finished).reason.endswith(": south")
        assert live.chain == held
        await bench.stop()

    _run(scenario())


def test_who_is_out_of_the_federation_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock())
        live = bench.engine.live(run_id)
        await bench.desk.connected("north", [_mark(run_id, live.chain)])
        await bench.desk.outside(frozenset({"north"}), "trust.revoked: removed from the roster")
        assert live.row.run.unheard == ()
        await bench.stop()

    _run(scenario())


def test_a_stop_before_all_were_heard_leaves_the_history_as_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock())
        live = bench.engine.live(run_id)
        held = live.chain
        await bench.engine.change(run_id, "stop", "olga")
        assert (live.row.run.state, live.chain) == (RunState.STOPPED, held)
        await bench.stop()

    _run(scenario())


def test_a_run_that_is_not_known_here_is_over_for_the_partner_that_still_holds_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        await bench.desk.connected("north", [pb.RunMark(run_id="ef" * 16, entries=3)])
        end = bench.outbox.said[-1][1].end_run
        assert (end.run_id, end.state, end.fault.code) == ("ef" * 16, "failed", "run.restored_behind")
        await bench.stop()

    _run(scenario())


def test_a_step_that_was_closing_when_its_contributions_went_asks_for_them_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _restored(tmp_path, ManualClock())
        held = bench.engine.live(run_id).chain
        for partner in bench.partners:
            await bench.send(run_id, partner, value=3.0)
        await bench.stop()
        bench.spool.path(f"{run_id}-0-south").unlink()
        again = await Bench.start(tmp_path, ManualClock())
        slots = again.engine.live(run_id).row.run.open["0"].slots
        assert {name: slot.state for name, slot in slots.items()} == {
            "north": SlotState.STORED,
            "south": SlotState.ASKED,
        }
        for partner in again.partners:
            await again.desk.connected(partner, [_mark(run_id, held)])
        await again.send(run_id, "south", value=3.0)
        run = await again.until(run_id, lambda run: "1" in run.open)
        np.testing.assert_array_equal(Blob(again.blobs.open(run.model)).numpy("w"), np.full(4, 3.0, np.float32))
        await again.stop()

    _run(scenario())


def test_what_was_never_sent_is_not_lost() -> None:
    state = steps.StepState(step=None, opened_at=0, deadline_at=1, slots={"north": steps.Slot()})  # type: ignore[arg-type]
    assert steps.apply(state, steps.Lost(partner="north")) == (state, ())
    assert steps.apply(state, steps.Lost(partner="nobody")) == (state, ())
