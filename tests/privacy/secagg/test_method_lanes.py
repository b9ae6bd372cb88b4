"""What SCAFFOLD and FedNova send, through the lanes of a secure sum: weights and steps exact, the rest to a step's width."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.secagg.lanes import decode, encode
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.contribution import Contribution, Group
from aimass.proto.methods import training_groups
from aimass.proto.plan import Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy

MODEL = Blob(encode_numpy({"w": np.zeros((2, 3), np.float32), "b": np.zeros(2)})).layout
NAMES = ("a", "b", "c")


def planned(driver: str) -> Plan:
    return Plan(
        name="p", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model="0" * 64,
        stages=(Stage(driver=driver, options={"rounds": 1}),), cohort=Cohort(quorum=3),
        train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1, weight="rows" if driver == "fednova" else "one"),
        secure=SecureSettings(max_weight=512, clip=0.5, bits=20, metrics=()),
    )  # fmt: skip


@pytest.mark.parametrize("driver", ["scaffold", "fednova"])
@given(
    st.lists(st.tuples(st.integers(1, 512), st.integers(1, 10_000)), min_size=3, max_size=3),
    st.integers(0, 2**32),
)
@settings(max_examples=20, deadline=None)
def test_a_secure_sum_is_the_plain_one(driver: str, partners: list[tuple[int, int]], seed: int) -> None:
    plan, rng = planned(driver), np.random.default_rng(seed)
    step = Step(index=0, kind=StepKind.TRAIN, round=1, participants=NAMES, inputs=("0" * 64,), quorum=3, deadline_s=9.0)
    groups = training_groups(plan.method, MODEL)
    lanes, total, made = lanes_of(plan, step, groups), None, []
    for rows, steps in partners:
        weight = float(rows) if driver == "fednova" else 1.0
        tensors = {
            group: {
                name: np.array(float(steps)) if group == "steps" else rng.uniform(-0.5, 0.5, shape).astype(
                    np.float64 if dtype == "F64" else np.float32)
                for name, (dtype, shape) in members.items()
            }
            for group, members in groups.items()
        }  # fmt: skip
        made.append(Contribution({name: Group(weight, held) for name, held in tensors.items()}, {}, {}))
        encoded = encode(lanes, made[-1], lambda: secrets.token_bytes(16))
        total = encoded if total is None else total + encoded
    assert total is not None
    mask = np.array((1 << lanes.bits) - 1, total.dtype)
    sums = decode(lanes, total & mask, 3)
    width = 3 * (512 if driver == "fednova" else 1) * 0.5 / lanes.largest
    for group, members in groups.items():
        assert sums.weight(group) == sum(one.groups[group].weight for one in made)
        for name in members:
            exact = sum(one.groups[group].weight * one.groups[group].tensors[name].astype(np.float64) for one in made)
            np.testing.assert_allclose(sums.total(group, name), exact, rtol=0, atol=0 if group == "steps" else width)
