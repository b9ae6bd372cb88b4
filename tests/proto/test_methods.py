"""What partners do and send by a plan's method, and the plans that a method does not go with."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.proto.methods import method_of, training_groups
from aimass.proto.plan import (
    Cohort,
    DistributedNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.tensors import Blob, encode_numpy

PRIVACY = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-5, divisor=40.0)
NOISED = SecureSettings(
    min_cohort=90, bits=13, noise=DistributedNoise(multiplier=6.0, clip=1.0, members=100, delta=1e-5)
)

ROBUST = SecureSettings(groups=3, rule="median", tolerated=1)
TRAIN = TrainSettings(batch_size=8, learning_rate=0.1, steps=4, weight="one")


def planned(*drivers: str, **changes: Any) -> Plan:
    fields = {name: changes.pop(name) for name in ("secure", "privacy", "cohort") if name in changes}
    return Plan(
        name="p", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model="0" * 64,
        stages=tuple(Stage(driver=driver, options={"rounds": 1}) for driver in drivers),
        train=msgspec.structs.replace(TRAIN, **changes),
        **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("drivers", "changes", "said"),
    [
        (("scaffold", "averaging"), {}, "trains a plan alone"),
        (("averaging", "fednova"), {}, "trains a plan alone"),
        (("scaffold", "fednova"), {}, "trains a plan alone"),
        (("scaffold", "scaffold"), {}, "one stage"),
        (("scaffold",), {"weight": "rows"}, "train.weight"),
        (("scaffold",), {"momentum": 0.9}, "momentum"),
        (("scaffold",), {"proximal_mu": 0.1}, "proximal_mu"),
        (("scaffold",), {"optimizer": "adam"}, "sgd"),
        (("scaffold",), {"keep_optimizer": True}, "not kept"),
        (("scaffold",), {"privacy": PRIVACY}, "DP-SGD"),
        (("scaffold",), {"fewer_steps": True}, "fednova"),
        (("averaging",), {"fewer_steps": True}, "fednova"),
        (("fednova",), {"optimizer": "adam"}, "sgd"),
        (("fednova",), {"momentum": 0.9, "proximal_mu": 0.1}, "no formula"),
        (("fednova",), {"proximal_mu": 10.0}, "below 1"),
        (("fednova",), {"proximal_mu": 0.1, "gradient_clip": 1.0}, "gradient_clip"),
        (("fednova",), {"privacy": PRIVACY}, "DP-SGD"),
        (("fednova",), {"secure": ROBUST, "cohort": Cohort(quorum=9)}, "secure.rule"),
    ],
)
def test_a_plan_that_a_method_does_not_go_with_is_refused_with_the_reason(
    drivers: tuple[str, ...], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        planned(*drivers, **changes)


@pytest.mark.parametrize("driver", ["scaffold", "fednova"])
def test_noise_inside_the_sum_is_for_an_update_alone(driver: str) -> None:
    planned("averaging", secure=NOISED, cohort=Cohort(quorum=90))
    with pytest.raises(ValueError, match="accounted for an update alone"):
        planned(driver, secure=NOISED, cohort=Cohort(quorum=90))


def test_the_method_is_that_of_the_driver_beside_stages_that_train_nothing() -> None:
    assert planned("statistics", "scaffold").method == "scaffold"
    assert planned("statistics", "fednova", "fednova", fewer_steps=True).method == "fednova"
    assert [method_of(drivers) for drivers in ((), ("averaging",), ("somebodys-own",))] == ["plain"] * 3


def test_groups_hold_what_the_method_sends_and_nothing_that_is_not_trained() -> None:
    model: dict[str, Any] = {
        "w": np.zeros((2, 3), np.float16), "d": np.zeros(4), "n": np.array(3), "preprocess.mean": np.zeros(2),
        "flag": np.array([True]),
    }  # fmt: skip
    layout = Blob(encode_numpy(model)).layout
    update = {"w": ("F16", (2, 3)), "d": ("F64", (4,)), "n": ("I64", ())}
    assert training_groups("plain", layout) == {"update": update}
    control = {"w": ("F32", (2, 3)), "d": ("F64", (4,))}
    assert training_groups("scaffold", layout) == {"update": update, "control": control}
    assert training_groups("fednova", layout) == {"update": update, "steps": {"norm": ("F64", ())}}
