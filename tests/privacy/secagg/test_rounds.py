"""A step's noise follows from the plan alone: the same constants and rotation in all attempts, whoever takes part."""

from __future__ import annotations

import dataclasses
import hashlib

import msgspec
import pytest

from aimass.privacy.dp.adaptive import update_multiplier
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, Setting, plan_noise
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.lanes import Groups, LanePlan
from aimass.privacy.secagg.rounds import context_of, lanes_of, rotation_of
from aimass.proto.plan import (
    AdaptiveClip,
    Cohort,
    DistributedNoise,
    Plan,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.step import Step, StepKind

RUN = "ab" * 16
NAMES = tuple(f"p{number:02}" for number in range(10))
NOISE = DistributedNoise(multiplier=2.0, clip=1.5, delta=1e-3, members=10)
PLAN = Plan(
    name="noised",
    task=TaskRef(name="heart", digest="0" * 64),
    data_schema="heart/1",
    seed=1,
    model="0" * 64,
    stages=(Stage(driver="averaging", options={"rounds": 3}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1, weight="one"),
    cohort=Cohort(quorum=9),
    secure=SecureSettings(min_cohort=9, colluders=0.1, bits=16, noise=NOISE),
)
GROUPS: Groups = {"update": {"b": ("F32", (7,)), "w": ("F32", (30, 20))}}


def step(
    index: int = 0,
    kind: StepKind = StepKind.TRAIN,
    participants: int = 10,
    model: str = "1" * 64,
    clip: float = 0.0,
) -> Step:
    names = NAMES[:participants] if participants <= 10 else (*NAMES, "p10")
    return Step(
        index=index, kind=kind, round=index, participants=names, inputs=(model,), quorum=participants, deadline_s=9.0,
        clip=clip,
    )  # fmt: skip


def changed(**fields: object) -> Plan:
    assert PLAN.secure is not None
    noise = {name: value for name, value in fields.items() if name in DistributedNoise.__struct_fields__}
    if noise:
        fields = {name: value for name, value in fields.items() if name not in noise}
        fields["noise"] = msgspec.structs.replace(NOISE, **noise)
    return msgspec.structs.replace(PLAN, secure=msgspec.structs.replace(PLAN.secure, **fields))


def planned(plan: Plan = PLAN, of: Step | None = None) -> LanePlan:
    return lanes_of(plan, of or step(), GROUPS)


def test_a_training_step_has_the_noise_that_the_plan_says_and_no_other_step_has() -> None:
    lanes = planned()
    setting = Setting(Circle(10, 1, 9), 607, 16 + 4, 1.5, NoiseKind.DISCRETE_GAUSSIAN)
    assert lanes.noise == plan_noise(setting, 2.0)
    assert (lanes.bits, lanes.quantisation.max_weight) == (20, 1)
    assert planned(of=step(kind=StepKind.EVALUATE)).noise is None
    skellam = planned(changed(kind="skellam", bits=14))
    assert skellam.noise is not None
    assert skellam.noise.setting.kind is NoiseKind.SKELLAM
    assert skellam.noise_digest != lanes.noise_digest


def test_who_is_asked_changes_no_constant() -> None:
    assert planned(of=step(participants=9)) == planned()
    with pytest.raises(FaultError) as refused:
        planned(of=step(participants=11))
    assert refused.value.fault.code is Code.PLAN


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bits": 3}, Code.POLICY),  # a share's deviation is below 4
        ({"min_cohort": 5}, Code.POLICY),  # less than a majority with the colluders
        ({"members": 40}, Code.POLICY),
        ({"bits": 32}, Code.PLAN),
        ({"bits": 24, "kind": "skellam"}, Code.PLAN),  # a table for such a share has millions of entries
    ],
)
def test_noise_that_would_not_be_what_is_accounted_is_refused_by_name(fields: dict[str, object], code: Code) -> None:
    with pytest.raises(FaultError) as refused:
        planned(changed(**fields))
    assert refused.value.fault.code is code


def test_counters_of_a_model_are_refused() -> None:
    with pytest.raises(FaultError, match="floating"):
        lanes_of(PLAN, step(), {"update": {**GROUPS["update"], "n": ("I64", ())}})


def test_a_rotation_is_of_run_round_and_model_and_of_no_attempt() -> None:
    key = rotation_of(PLAN, RUN, step())
    assert key == rotation_of(PLAN, RUN, step(participants=9))
    others = (("cd" * 16, step()), (RUN, step(index=1)), (RUN, step(model="2" * 64)))
    assert len({key, *(rotation_of(PLAN, run, other) for run, other in others)}) == 4


@pytest.mark.parametrize("changes", [{"min_cohort": 8}, {"gamma_ppm": 200_000}])
def test_a_round_with_less_honest_noise_than_was_counted_on_is_refused(changes: dict[str, int]) -> None:
    lanes = planned()
    digest = hashlib.sha256(b"plan").hexdigest()
    context = context_of(PLAN, digest, RUN, step(), 0, range(1, 11), "0" * 64, bytes(32), lanes)
    lanes.check_context(context)
    with pytest.raises(FaultError) as refused:
        lanes.check_noise(dataclasses.replace(context, **changes))  # type: ignore[arg-type]
    assert refused.value.fault.code is Code.POLICY


ADAPTING = changed(multiplier=0.5, adaptive=AdaptiveClip())


def test_a_clip_that_follows_the_norms_is_the_steps_and_changes_nothing_that_is_accounted() -> None:
    first, later = planned(ADAPTING), planned(ADAPTING, step(clip=0.75))
    assert first.noise is not None
    assert later.noise is not None
    assert first.adaptive == later.adaptive
    assert first.adaptive is not None
    assert (first.clip, later.clip) == (1.5, 0.75)
    assert first.noise.multiplier == update_multiplier(first.adaptive, 0.5) > 0.5
    assert (first.noise.rho, first.noise.deviation) == (later.noise.rho, later.noise.deviation)
    assert first.noise_digest != later.noise_digest
    assert "vote" in first.by_name


@pytest.mark.parametrize(
    ("plan", "clip", "what"),
    [
        (PLAN, 1.5, "does not leave open"),
        (ADAPTING, 1.5e-6 * 0.99, "does not leave open"),
        (ADAPTING, 1.5e6 * 1.01, "does not leave open"),
        (changed(multiplier=1.0, adaptive=AdaptiveClip()), 0.0, "so few partners"),
    ],
)
def test_clips_beyond_the_plan_and_votes_of_few_are_refused(plan: Plan, clip: float, what: str) -> None:
    with pytest.raises(FaultError, match=what) as refused:
        planned(plan, step(clip=clip))
    assert refused.value.fault.code is Code.PLAN
