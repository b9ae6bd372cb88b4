"""Secure cohorts that overlap: each sum is of its own version and exact, also where the server dies between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.privacy.secagg.client_state import Kind
from aimass.proto.plan import EvaluateSettings, Plan, SecureSettings, decode_plan, encode_plan
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.audit import audit_run, gather
from aimass.server.runs import Run
from aimass.server.secure_log import SecureLog
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.secure_members import SecurePartner, settled

NAMES = ("p0", "p1", "p2", "p3", "p4", "p5")
VALUES = {name: (0.25 * place - 0.5, 10.0 + 5 * place) for place, name in enumerate(NAMES)}


def _plan(bench: Bench, rounds: int, staleness: int = 5) -> bytes:
    plan: Plan = decode_plan(bench.plan(quorum=3))
    options = {"rounds": rounds, "buffer": 3, "max_staleness": staleness}
    stage = msgspec.structs.replace(plan.stages[0], driver="fedbuff", options=options)
    secure = SecureSettings(clip=4.0, max_weight=64, colluders=0.0)
    plan = msgspec.structs.replace(plan, stages=(stage,), secure=secure, evaluate=EvaluateSettings(every=0))
    return encode_plan(plan)


def _mean(names: tuple[str, ...]) -> float:
    return sum(VALUES[name][0] * VALUES[name][1] for name in names) / sum(VALUES[name][1] for name in names)


def _run_of(bench: Bench, run_id: str) -> Run:
    return bench.engine.live(run_id).row.run


def _round(bench: Bench, run_id: str) -> int:
    return int(msgspec.json.decode(_run_of(bench, run_id).driver)["round"])


async def _begun(folder: Path, plan: tuple[int, int]) -> tuple[Bench, str, dict[str, SecurePartner]]:
    bench = await Bench.start(folder, ManualClock(), NAMES)
    run_id = await bench.submit(_plan(bench, *plan))
    partners = {name: SecurePartner(bench, run_id, name, *VALUES[name]) for name in NAMES}
    await bench.join(run_id)
    return bench, run_id, partners


@pytest.mark.parametrize("killed", [False, True])
def test_a_cohort_that_is_two_versions_behind_counts_exactly_by_its_discount(tmp_path: Path, killed: bool) -> None:
    async def scenario() -> None:
        bench, run_id, partners = await _begun(tmp_path, (3, 5))
        first, second = (state.step.participants for state in _run_of(bench, run_id).open.values())
        assert sorted(first + second) == sorted(NAMES)
        for name in second:  # it begins its attempt, and is in the middle of it from then on
            partners[name].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: _round(bench, run_id) == 2)
        assert [state.step.round for state in _run_of(bench, run_id).open.values()] == [1, 3]
        for name in first:
            partners[name].deaf = True
        if killed:
            await bench.stop()
            bench = await Bench.start(tmp_path, ManualClock(), NAMES, keys=bench.keys)
            for partner in partners.values():
                partner.bench, partner.read = bench, 0
        for name in second:
            partners[name].silent_on = frozenset()
            await bench.desk.connected(name, [])
        await settled(partners, lambda: _run_of(bench, run_id).state.final)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED, run.reason
        expected = 2 * _mean(first) + _mean(second) / np.sqrt(3.0)
        np.testing.assert_allclose(Blob(bench.blobs.open(run.model)).numpy("w"), np.full(4, expected), atol=1e-4)
        await _sound(bench, run_id)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_cohort_whose_version_is_too_old_is_given_up_in_the_middle_of_its_attempt(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id, partners = await _begun(tmp_path, (4, 0))
        _, second = (state.step.participants for state in _run_of(bench, run_id).open.values())
        for name in second:
            partners[name].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: _round(bench, run_id) == 1)
        for name in second:
            partners[name].silent_on = frozenset()
        await settled(partners, lambda: _run_of(bench, run_id).state.final)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED, run.reason
        views = bench.store.steps(run_id)
        assert {views[1].state} == {"cancelled"}
        assert all(reason.startswith("step.stale") for reason in views[1].reasons.values())
        assert {name for view in views[2:4] for name in view.slots} == set(NAMES), "all are asked for the newest"
        await _sound(bench, run_id)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_member_that_leaves_takes_nothing_from_the_other_cohort(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id, partners = await _begun(tmp_path, (1, 5))
        first, second = (state.step.participants for state in _run_of(bench, run_id).open.values())
        await bench.engine.apply(run_id, runs.Removed(partner=second[0], reason="revoked"))
        del partners[second[0]]
        await settled(partners, lambda: _run_of(bench, run_id).state.final)
        run = await bench.finished(run_id)
        assert run.state is RunState.FINISHED, run.reason
        expected = np.full(4, _mean(first))
        np.testing.assert_allclose(Blob(bench.blobs.open(run.model)).numpy("w"), expected, atol=1e-4)
        await _sound(bench, run_id)

    asyncio.run(asyncio.wait_for(scenario(), 60))


async def _sound(bench: Bench, run_id: str) -> None:
    """Nothing of what was kept for sums is left, and the history is what the rules say."""
    for _ in range(200):
        if not SecureLog(bench.store).held():
            break
        await asyncio.sleep(0.01)
    assert SecureLog(bench.store).held() == []
    await bench.stop()
    evidence = gather(bench.store, bench.engine.live(run_id).row, bench.roster)
    assert audit_run(msgspec.structs.replace(evidence, server=bench.engine.identity)).faults == ()
