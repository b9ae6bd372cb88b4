"""Noise inside secure sums at the server: read with the round's rotation, divided by who is in the sum, never assumed."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.privacy.dp.adaptive import next_clip
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.lanes import LanePlan, decode
from aimass.privacy.secagg.rounds import adaptive_of, lanes_of, rotation_of
from aimass.proto.errors import BadInput
from aimass.proto.plan import AdaptiveClip, DistributedNoise, Plan, SecureSettings, decode_plan, encode_plan
from aimass.proto.tensors import encode_numpy
from aimass.proto.values import decode_json
from aimass.proto.views import RunState
from aimass.server.audit_steps import StepTold, step_faults
from tests.server.test_secure import NAMES, VALUES, final, model, run, stopped
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.secure_members import GROUPS, SecurePartner, settled

NOISE = DistributedNoise(multiplier=0.5, clip=1.0, delta=1e-3, members=4)


def noised(bench: Bench, rounds: int = 1, **secure: Any) -> Plan:
    plan = decode_plan(bench.plan(rounds=rounds, quorum=3))
    noise = {name: secure.pop(name) for name in DistributedNoise.__struct_fields__ if name in secure}
    settings = SecureSettings(colluders=0.0, noise=msgspec.structs.replace(NOISE, **noise))
    return msgspec.structs.replace(
        plan,
        train=msgspec.structs.replace(plan.train, weight="one"),
        secure=msgspec.structs.replace(settings, **secure),
        cohort=msgspec.structs.replace(plan.cohort, quorum=max(3, secure.get("min_cohort", 3))),
    )


async def begun(bench: Bench, plan: Plan) -> tuple[str, dict[str, SecurePartner]]:
    run_id = await bench.submit(encode_plan(plan))
    partners = {name: SecurePartner(bench, run_id, name, *VALUES[name]) for name in NAMES}
    await bench.join(run_id)
    return run_id, partners


def read(plan: Plan, run_id: str, partners: dict[str, SecurePartner], index: int, names: tuple[str, ...]) -> np.ndarray:
    """The mean that the partners' own lanes come to."""
    step = partners[names[0]].steps[index]
    lanes: LanePlan = lanes_of(plan, step, GROUPS)
    total = np.zeros_like(partners[names[0]].lanes[index])
    for name in names:
        total += partners[name].lanes[index]
    total &= np.array((1 << lanes.bits) - 1, total.dtype)
    sums = decode(lanes, total, len(names), rotation_of(plan, run_id, step))
    return np.asarray(sums.total("update", "w") / len(names))


def clipped(*names: str) -> float:
    """The mean of each element of the clipped updates: all four elements of one are equal."""
    values = [VALUES[name][0] for name in names]
    return sum(value * min(1.0, 1.0 / (2 * abs(value))) for value in values) / len(values)


@pytest.mark.parametrize("kind", ["discrete-gaussian", "skellam"])
def test_a_run_of_two_rounds_ends_in_the_noised_means_and_its_audit_holds(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        plan = noised(bench, rounds=2, kind=kind, bits=16)
        run_id, partners = await begun(bench, plan)
        await settled(partners, lambda: final(bench, run_id))
        ended = bench.engine.live(run_id).row.run
        assert ended.state is RunState.FINISHED, ended.reason
        means = [read(plan, run_id, partners, index, NAMES) for index in (0, 1)]
        np.testing.assert_allclose(model(bench, run_id), means[0] + means[1], rtol=1e-6, atol=1e-6)
        noise = np.concatenate(means) - clipped(*NAMES)
        deviation = 0.5 * math.sqrt(4 / 3) / 4  # z C sqrt(n / n_eff) / n
        assert 0.2 * deviation < noise.std() < 3 * deviation
        await stopped(bench, run_id)

    run(scenario())


def test_who_vanishes_takes_its_noise_along_and_the_others_is_enough(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        bench = await Bench.start(tmp_path, clock, NAMES)
        plan = noised(bench)
        run_id, partners = await begun(bench, plan)
        partners["west"].silent_on = frozenset({Kind.INPUT})
        await settled(partners, lambda: [p.sent.count(Kind.INPUT) for p in partners.values()] == [1, 1, 1, 0])
        clock.advance(61)
        await settled(partners, lambda: final(bench, run_id))
        others = ("east", "north", "south")
        np.testing.assert_allclose(model(bench, run_id), read(plan, run_id, partners, 0, others), rtol=1e-6, atol=1e-6)
        await stopped(bench, run_id)

    run(scenario())


def test_a_second_attempt_sums_what_was_encoded_for_the_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        plan = noised(bench, min_cohort=4)
        run_id, partners = await begun(bench, plan)
        west = partners["west"]
        west.silent_on = frozenset({Kind.SHARES})
        await settled(partners, lambda: all(Kind.SHARES in p.sent for n, p in partners.items() if n != "west"))
        kept = {name: partner.lanes[0].copy() for name, partner in partners.items()}
        west.restart()
        west.silent_on = frozenset()
        bench.desk.arrives("west")
        await bench.desk.connected("west", [])
        await settled(partners, lambda: final(bench, run_id))
        assert bench.store.steps(run_id)[0].attempts == 2
        for name, partner in partners.items():
            np.testing.assert_array_equal(partner.lanes[0], kept[name])
        np.testing.assert_allclose(model(bench, run_id), read(plan, run_id, partners, 0, NAMES), rtol=1e-6, atol=1e-6)
        await stopped(bench, run_id)

    run(scenario())


@pytest.mark.parametrize(
    ("secure", "what", "cure"),
    [
        ({"bits": 3}, "share of the noise is so narrow", "bits higher"),  # SECAGG row 46
        ({"bits": 24, "kind": "skellam"}, "Skellam noise is for narrow lanes", "bits lower"),
        ({"members": 40}, "least cohort", "min_cohort"),
        ({"members": 3}, "more partners than its noise is made for", "members to 4"),
        ({"members": 1000, "min_cohort": 4}, "least cohort", "501"),
        ({"bits": 32}, "out of range", "bits lower"),
        ({"multiplier": 0.4, "adaptive": AdaptiveClip()}, "so few partners", "adaptive out"),
    ],
)
def test_noise_that_cannot_be_made_is_refused_when_it_is_submitted_with_its_cure(
    tmp_path: Path, secure: dict[str, Any], what: str, cure: str
) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        with pytest.raises(BadInput, match=what) as refused:
            await bench.submit(encode_plan(noised(bench, **secure)))
        assert refused.value.code == "plan.secure"
        assert cure in refused.value.cure
        await bench.stop()

    run(scenario())


def test_a_model_with_counters_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        counted = encode_numpy({"w": np.zeros(4, np.float32), "n": np.zeros(1, np.int64)})
        digest = await asyncio.to_thread(bench.blobs.put, [counted])
        with pytest.raises(BadInput, match="floating") as refused:
            await bench.submit(encode_plan(msgspec.structs.replace(noised(bench), model=digest)))
        assert "batch norm" in refused.value.cure
        await bench.stop()

    run(scenario())


def test_an_auditor_finds_a_step_of_more_partners_than_the_noise_is_made_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        plan = noised(bench)
        run_id, partners = await begun(bench, plan)
        await settled(partners, lambda: final(bench, run_id))
        told = decode_json(StepTold, bench.store.transcript(run_id)[1].body, "the step")
        few = msgspec.structs.replace(
            plan,
            secure=msgspec.structs.replace(plan.secure, noise=msgspec.structs.replace(NOISE, members=3)),  # type: ignore[type-var]
        )
        assert list(step_faults(plan, [(2, told)], frozenset(NAMES))) == []
        (fault,) = step_faults(few, [(2, told)], frozenset(NAMES))
        assert "more partners than the plan's noise" in fault
        await stopped(bench, run_id)

    run(scenario())


def test_the_clip_of_a_round_follows_the_votes_of_the_one_before_and_an_auditor_repeats_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), NAMES)
        plan = noised(bench, rounds=3, multiplier=0.3, adaptive=AdaptiveClip(rate=1.0))
        run_id, partners = await begun(bench, plan)
        await settled(partners, lambda: final(bench, run_id))
        assert bench.engine.live(run_id).row.run.state is RunState.FINISHED
        bodies = [entry.body for entry in bench.store.transcript(run_id)]
        told = [decode_json(StepTold, body, "a step") for body in bodies if b'"event":"step"' in body]
        assert plan.secure is not None
        rule = adaptive_of(plan.secure)
        assert rule is not None
        clip = 0.0
        for body in told:
            assert body.step.clip == clip
            (one,) = body.secure
            assert one.within is not None
            clip = next_clip(rule, clip or 1.0, one.within)
        numbered = [(2 + index, body) for index, body in enumerate(told)]
        assert list(step_faults(plan, numbered, frozenset(NAMES))) == []
        for index, other_clip in ((0, 2.0), (1, 0.0), (1, 1.01 * told[1].step.clip), (2, 1.01 * told[2].step.clip)):
            other = msgspec.structs.replace(
                told[index], step=msgspec.structs.replace(told[index].step, clip=other_clip)
            )
            steps = [(number, other if body is told[index] else body) for number, body in numbered]
            assert any("its clip is" in fault for fault in step_faults(plan, steps, frozenset(NAMES)))
        await stopped(bench, run_id)

    run(scenario())
