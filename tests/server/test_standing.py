"""Partners that fail again and again are asked no more, are told why, and have a way back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.proto.bases import Base
from aimass.proto.errors import BadInput, WrongState
from aimass.proto.plan import decode_plan, encode_plan, plan_digest
from aimass.proto.plan_settings import DistributedNoise, SecureSettings
from aimass.proto.studies import Study
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import ParticipantState
from aimass.server import runs, steps
from tests.support.clock import ManualClock
from tests.support.engines import Bench

PARTNERS = ("east", "north", "west")


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def _started(folder: Path, rounds: int = 9, **rules: Any) -> tuple[Bench, str]:
    folder.mkdir(exist_ok=True)
    bench = await Bench.start(folder, ManualClock(), PARTNERS)
    plan = decode_plan(bench.plan(rounds=rounds, quorum=2))
    cohort = msgspec.structs.replace(plan.cohort, **({"exclude_after": 2} | rules))
    run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=cohort)))
    await bench.join(run_id)
    return bench, run_id


async def _step(bench: Bench, run_id: str, index: int, absent: tuple[str, ...] = ()) -> runs.Run:
    """A step to which all that are asked bring something, but for `absent`."""
    run = await bench.until(run_id, lambda run: str(index) in run.open)
    for name in run.open[str(index)].step.participants:
        if name in absent:
            failed = steps.Failed(partner=name, reason="child.died: out of memory")
            await bench.engine.apply(run_id, runs.InStep(index=index, event=failed))
        else:
            await bench.send(run_id, name, index)
    return await bench.until(run_id, lambda run: str(index) not in run.open)


def _standings(bench: Bench, partner: str) -> list[pb.Standing]:
    return [message.standing for name, message in bench.outbox.said
            if name == partner and message.WhichOneof("body") == "standing"]  # fmt: skip


def test_a_partner_that_fails_twice_in_a_row_is_asked_no_more_and_hears_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path)
        await _step(bench, run_id, 0, absent=("west",))
        await _step(bench, run_id, 1)
        await _step(bench, run_id, 2, absent=("west",))
        run = await _step(bench, run_id, 3, absent=("west",))
        member = run.participants["west"]
        assert member.state is ParticipantState.EXCLUDED
        assert member.reason == "run.excluded: nothing in 2 steps in a row; the last: child.died: out of memory"
        assert run.open["4"].step.participants == ("east", "north")
        assert run.open["4"].excluded == {"west": member.reason}
        (told,) = _standings(bench, "west")
        assert (told.fault.code, told.fault.cure != "") == ("run.excluded", True)
        view = await bench.readings.run_view(run_id)
        assert {p.partner: p.reason for p in view.participants}["west"] == member.reason
        await bench.stop()

    _run(scenario())


def test_who_is_excluded_stays_out_when_it_joins_again_and_is_told_at_each_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path)
        await _step(bench, run_id, 0, absent=("west",))
        await _step(bench, run_id, 1, absent=("west",))
        await bench.join(run_id, "west")
        assert bench.engine.live(run_id).row.run.participants["west"].state is ParticipantState.EXCLUDED
        bench.outbox.said.clear()
        await bench.desk.connected("west", [])
        assert [told.fault.code for told in _standings(bench, "west")] == ["run.excluded"]
        await bench.stop()

    _run(scenario())


def test_a_person_readmits_it_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path)
        with pytest.raises(WrongState, match="not excluded"):
            await bench.engine.readmit(run_id, "west", "anna")
        await _step(bench, run_id, 0, absent=("west",))
        await _step(bench, run_id, 1, absent=("west",))
        await bench.engine.readmit(run_id, "west", "anna")
        run = await _step(bench, run_id, 2)
        assert run.open["3"].step.participants == PARTNERS
        assert run.participants["west"].failures == 0
        assert [told.HasField("fault") for told in _standings(bench, "west")] == [True, False]
        await bench.stop()

    _run(scenario())


def test_after_the_plans_time_it_comes_back_and_one_more_failure_excludes_it_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path, readmit_after=2)
        await _step(bench, run_id, 0, absent=("west",))
        await _step(bench, run_id, 1, absent=("west",))
        asked = []
        for index in (2, 3, 4, 5):
            run = await bench.until(run_id, lambda run, index=index: str(index) in run.open)  # type: ignore[misc]
            asked.append("west" in run.open[str(index)].step.participants)
            await _step(bench, run_id, index, absent=("west",))
        assert asked == [False, False, True, False]
        await bench.stop()

    _run(scenario())


def test_as_many_partners_as_the_quorum_needs_always_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path, exclude_after=1, quorum=1)
        run = await _step(bench, run_id, 0, absent=("north", "west"))
        assert sorted(run.excluded) == ["north", "west"]
        run = await _step(bench, run_id, 1)
        await bench.stop()
        bench, run_id = await _started(tmp_path / "other", exclude_after=1, quorum=2)
        await _step(bench, run_id, 0, absent=("west",))
        run = await _step(bench, run_id, 1)
        assert sorted(run.excluded) == ["west"]
        assert run.open["2"].step.participants == ("east", "north")
        await bench.stop()

    _run(scenario())


def test_who_was_merely_slower_than_enough_others_has_not_failed(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path, exclude_after=1, sample=2, spare=1)
        for index in range(3):
            run = await bench.until(run_id, lambda run, index=index: str(index) in run.open)  # type: ignore[misc]
            for name in run.open[str(index)].step.participants[:2]:
                await bench.send(run_id, name, index)
            run = await bench.until(run_id, lambda run, index=index: str(index) not in run.open)  # type: ignore[misc]
        assert run.excluded == {}
        await bench.stop()

    _run(scenario())


def test_who_comes_back_under_another_key_while_it_is_excluded_is_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path)
        await _step(bench, run_id, 0, absent=("west",))
        await _step(bench, run_id, 1, absent=("west",))
        digest = plan_digest(bench.engine.live(run_id).row.plan)
        with pytest.raises(BadInput, match="participant key"):
            await bench.desk.joined("west", pb.Joined(run_id=run_id, plan_digest=digest, participant="east"))
        assert bench.engine.live(run_id).row.run.participants["west"].state is ParticipantState.REMOVED
        await bench.stop()

    _run(scenario())


def test_a_weight_for_somebody_who_is_not_invited_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(BadInput, match="weights"):
            await _started(tmp_path, sample=2, weights={"wets": 3.0})

    _run(scenario())


def test_who_is_out_of_a_run_reads_its_models_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench, run_id = await _started(tmp_path)
        model = bench.engine.live(run_id).row.run.model
        assert bench.contributions.may_fetch("west", run_id, model)
        await bench.engine.apply(run_id, runs.Removed(partner="west", reason="partner.withdrew: x"))
        assert not bench.contributions.may_fetch("west", run_id, model)
        assert bench.contributions.may_fetch("east", run_id, model)
        await bench.stop()

    _run(scenario())


def test_whoever_is_invited_reads_the_model_that_prices_a_study_with_noise_in_its_sums_and_no_other(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), ("east", "north", "south"))
        plain = decode_plan(bench.plan())
        study = Study(id="5" * 32, trials=4)
        secure = SecureSettings(min_cohort=3, noise=DistributedNoise(multiplier=2.0, clip=1.0, delta=1e-5, members=3))
        cohort = msgspec.structs.replace(plain.cohort, quorum=3)
        train = msgspec.structs.replace(plain.train, weight="one")
        noised = msgspec.structs.replace(plain, study=study, secure=secure, cohort=cohort, train=train)
        for plan, reads in ((noised, True), (msgspec.structs.replace(plain, study=study), False)):
            run_id = await bench.submit(encode_plan(plan))
            assert bench.contributions.may_fetch("north", run_id, plan.model) is reads
            assert not bench.contributions.may_fetch("stranger", run_id, plan.model)
        await bench.stop()

    _run(scenario())


def test_whoever_is_invited_reads_the_base_before_joining_and_nobody_after_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock())
        base = Base(name="encoder", digest="f" * 64, bytes=8)
        run_id = await bench.submit(encode_plan(msgspec.structs.replace(decode_plan(bench.plan()), base=base)))
        assert bench.contributions.may_fetch("north", run_id, base.digest)
        assert not bench.contributions.may_fetch("north", run_id, "e" * 64)
        assert not bench.contributions.may_fetch("stranger", run_id, base.digest)
        await bench.engine.apply(run_id, runs.Removed(partner="north", reason="partner.withdrew: x"))
        assert not bench.contributions.may_fetch("north", run_id, base.digest)
        assert bench.contributions.may_fetch("south", run_id, base.digest)
        await bench.engine.apply(run_id, runs.Change(change="stop", reason=""))
        assert not bench.contributions.may_fetch("south", run_id, base.digest)
        await bench.stop()

    _run(scenario())
