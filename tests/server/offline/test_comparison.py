"""Two runs beside each other: equal to the last bit, or parted at one step, by a tensor and an element that are named."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import pytest

from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.server.offline.comparison import Course, StepTold, compare

PLAN = Plan(
    name="p", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1, model="0" * 64,
    stages=(Stage(driver="averaging", options={"rounds": 2}),),
    train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1), evaluate=EvaluateSettings(every=1),
    cohort=Cohort(quorum=1),
)  # fmt: skip


def _models(*tensors: Mapping[str, Array]) -> tuple[list[str], dict[str, Blob]]:
    blobs = [Blob(encode_numpy(dict(one))) for one in tensors]
    return [blob.digest for blob in blobs], {blob.digest: blob for blob in blobs}


def _course(models: list[str], losses: list[float], plan: Plan = PLAN, data: str = "heart@1") -> Course:
    steps = []
    for round_, (model, loss) in enumerate(zip(models, losses, strict=True), start=1):
        steps.append(StepTold(kind=StepKind.TRAIN, round=round_, purpose="", model=model, metrics={}))
        steps.append(StepTold(kind=StepKind.EVALUATE, round=round_, purpose="", model="", metrics={"loss": loss}))
    return Course(where="here", plan=plan, data={"set": data}, steps=tuple(steps), software={"torch": "2.0"})


def test_runs_of_the_same_bits_are_equal_and_say_what_they_were_begun_with_all_the_same() -> None:
    digests, models = _models({"w": np.zeros(2, np.float32)}, {"w": np.ones(2, np.float32)})
    first = _course(digests, [0.5, 0.25])
    other = _course(digests, [0.5, 0.25], msgspec.structs.replace(PLAN, name="q"), "heart@2")
    assert compare(first, first, models.get, models.get).begun == ()
    found = compare(first, other, models.get, models.get)
    assert found.equal
    assert found.steps == 4
    assert [one.what for one in found.begun] == ["plan.name", "data.set"]
    (schedule,) = compare(first, msgspec.structs.replace(first, schedule="synchronous"), models.get, models.get).begun
    assert (schedule.what, schedule.first, schedule.second) == ("schedule", "averaging", "synchronous")


@pytest.mark.parametrize(("value", "largest"), [(1.5, 0.5), (np.nan, 0.0), (np.nextafter(np.float32(1), 2), 1.2e-7)])
def test_a_run_that_parted_names_step_tensor_and_the_first_element(value: float, largest: float) -> None:
    held, same = np.ones((3, 4), np.float32), np.zeros(2, np.float32)
    moved = held.copy()
    moved[1, 2] = value
    digests, models = _models({"a": same, "w": held}, {"a": same, "w": moved})
    found = compare(_course(digests[:1], [0.5]), _course(digests[1:], [0.5]), models.get, models.get)
    parting = found.parting
    assert parting is not None
    assert (found.equal, parting.place, parting.why, parting.round) == (False, 0, "model", 1)
    assert parting.tensors is not None
    (tensor,) = parting.tensors
    assert (tensor.name, tensor.elements, tensor.differing, tensor.at, tensor.first) == ("w", 12, 1, 6, 1.0)
    assert tensor.largest == pytest.approx(largest, abs=1e-8)


def test_zeros_of_either_sign_are_not_the_same_bits() -> None:
    digests, models = _models({"w": np.array([0.0], np.float32)}, {"w": np.array([-0.0], np.float32)})
    parting = compare(_course(digests[:1], [0.5]), _course(digests[1:], [0.5]), models.get, models.get).parting
    assert parting is not None
    assert parting.tensors is not None
    assert parting.tensors[0].differing == 1


def test_models_that_are_not_kept_are_told_apart_by_their_digests_alone() -> None:
    digests, models = _models({"w": np.zeros(1, np.float32)}, {"w": np.ones(1, np.float32)})
    parting = compare(_course(digests[:1], [0.5]), _course(digests[1:], [0.5]), models.get, lambda _: None).parting
    assert parting is not None
    assert parting.tensors is None


def test_of_runs_whose_models_at_the_parting_are_gone_the_last_ones_are_looked_at() -> None:
    digests, models = _models(*({"w": np.full(1, value, np.float32)} for value in range(4)))
    gone = {digest: blob for digest, blob in models.items() if digest not in digests[:2]}
    first, second = _course([digests[0], digests[2]], [0.5, 0.4]), _course([digests[1], digests[3]], [0.5, 0.4])
    parting = compare(first, second, gone.get, gone.get).parting
    assert parting is not None
    assert (parting.place, parting.looked_at) == (0, 2)
    assert parting.tensors is not None
    assert (parting.tensors[0].first, parting.tensors[0].second) == (2.0, 3.0)


def test_tensors_of_other_shapes_or_of_one_run_alone_differ_as_wholes() -> None:
    digests, models = _models({"a": np.zeros(2, np.float32)}, {"a": np.zeros(3, np.float32), "b": np.zeros(4)})
    parting = compare(_course(digests[:1], [0.5]), _course(digests[1:], [0.5]), models.get, models.get).parting
    assert parting is not None
    assert parting.tensors is not None
    assert [(one.name, one.differing, one.largest) for one in parting.tensors] == [("a", 2, None), ("b", 4, None)]


def test_equal_models_with_other_metrics_part_there_and_a_run_that_stopped_parts_at_its_end() -> None:
    digests, models = _models({"w": np.zeros(1, np.float32)}, {"w": np.ones(1, np.float32)})
    whole = _course(digests, [0.5, 0.25])
    metrics = compare(whole, _course(digests, [0.5, 0.3]), models.get, models.get).parting
    assert metrics is not None
    assert (metrics.why, metrics.place) == ("metrics", 3)
    assert [(one.what, one.first, one.second) for one in metrics.metrics] == [("metrics.loss", "0.25", "0.3")]
    end = compare(whole, _course(digests[:1], [0.5]), models.get, models.get).parting
    assert end is not None
    assert (end.why, end.place, end.round) == ("end", 2, 2)
    other = msgspec.structs.replace(whole, steps=whole.steps[1:])
    step = compare(whole, other, models.get, models.get).parting
    assert step is not None
    assert (step.why, step.place) == ("step", 0)
