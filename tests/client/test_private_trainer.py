"""DP-SGD on a shard: plain SGD where nothing is added, the stated noise where nothing is learnt, and broken kinds of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from aimass.client.private_sampling import poisson_sample
from aimass.client.private_trainer import Noise, PrivateTrainer, fresh_noise
from aimass.client.shards import Shard, make_shard
from aimass.client.tasks.heart import Heart
from aimass.client.tasks.heart import task as heart
from aimass.privacy.dp.gaussian import GridNoise
from aimass.privacy.dp.private_terms import ROUNDING, grid_noise, trained_elements
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import PrivacySettings, TrainSettings
from aimass.proto.rows import read_table, require
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.dp_looks import alike, strange

Vector = npt.NDArray[np.float64]
HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease"
_NEVER = 1e-300
"""A sampling rate below 2^-64: every batch is empty."""


class Plain(Heart):
    """Without dropout, so that gradients can be computed beside it."""

    def build(self) -> torch.nn.Module:
        model = super().build()
        next(m for m in model.modules() if isinstance(m, torch.nn.Dropout)).p = 0.0
        return model


plain = Plain()


def shard(rows: int = 60) -> Shard:
    """Patients of chance."""
    chance = np.random.default_rng(1)
    lines = [
        f"{chance.integers(30, 80)},Male,asymptomatic,{chance.integers(90, 180)},{chance.integers(150, 350)},"
        f"false,normal,{chance.integers(90, 180)},true,{chance.random():.2f},flat,0,normal,{chance.choice(['no', 'yes'])}"
        for _ in range(rows)
    ]
    table = require(read_table(heart.schema, [io.BytesIO("\n".join([HEADER, *lines, ""]).encode())], "csv"))
    return make_shard(
        table,
        ShardManifest(
            name="rows", data_schema="heart/1", uris=("x",), format="csv", participant="a", salt="00" * 32, held_out=0.0
        ),
    )


SHARD = shard()
START = Blob(first_model(plain, 1))
ELEMENTS = trained_elements(START.layout)
TRAIN = TrainSettings(batch_size=16, learning_rate=0.5, steps=4, weight="one")
PRIVACY = PrivacySettings(noise_multiplier=1.5, clip=0.2, sampling_rate=0.3, delta=1e-5, divisor=18.0)
OPEN = msgspec.structs.replace(PRIVACY, clip=1e9)


class Token:
    """The same secret bytes every time."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = np.random.default_rng(seed)

    def __call__(self, count: int) -> bytes:
        return self._chance.bytes(count)


def silent(_: GridNoise) -> Noise:
    return lambda values: values


def update(
    train: TrainSettings = TRAIN,
    privacy: PrivacySettings = PRIVACY,
    noise: Callable[[GridNoise], Noise] = silent,
    task: Task = plain,
    seed: int = 1,
    rows: Shard = SHARD,
) -> dict[str, npt.NDArray[Any]]:
    trainer = PrivateTrainer(task, token=Token(seed), noise=noise)
    return dict(trainer.train(rows, START, b"", train, privacy).contribution.groups["update"].tensors)


def flat(tensors: dict[str, npt.NDArray[Any]]) -> Vector:
    return np.concatenate([value.reshape(-1) for value in tensors.values()]).astype(np.float64)


def sgd(train: TrainSettings, privacy: PrivacySettings) -> dict[str, npt.NDArray[Any]]:
    """Plain training over the same samples: each sum of losses divided by the same number."""
    token = Token()
    token(8)  # what torch is seeded with
    model = plain.build().train()
    model.load_state_dict({name: START.torch(name) for name in START.layout.by_name})
    anchors = [p.detach().clone() for p in model.parameters()]
    kind = torch.optim.Adam if train.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay)
    numbers, categories = plain.inputs(SHARD.train)
    labels = torch.from_numpy(SHARD.train.labels)
    for _ in range(train.steps or 0):
        drawn = torch.from_numpy(poisson_sample(len(labels), privacy.sampling_rate, token=token))
        optimizer.zero_grad()
        outputs = model(numbers[drawn], categories[drawn])
        loss = torch.nn.functional.cross_entropy(outputs, labels[drawn], reduction="sum") / privacy.divisor
        loss = loss + train.proximal_mu / 2 * sum(
            ((p - a) ** 2).sum() for p, a in zip(model.parameters(), anchors, strict=True)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: (p.detach() - START.torch(name)).numpy() for name, p in model.named_parameters()}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_noise_and_clipping_it_is_plain_training_over_the_same_samples(
    optimizer: Literal["adam", "sgd"],
) -> None:
    train = TrainSettings(
        batch_size=7,
        learning_rate=0.05,
        steps=30,
        weight="one",
        optimizer=optimizer,
        weight_decay=0.01,
        proximal_mu=0.3,
    )
    expected = sgd(train, OPEN)
    for name, value in update(train, OPEN).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5)


@pytest.mark.parametrize("size", [1, 5, 1_000])
def test_how_many_rows_are_held_at_once_changes_nothing(size: int) -> None:
    whole = update(msgspec.structs.replace(TRAIN, batch_size=60))
    for name, value in update(msgspec.structs.replace(TRAIN, batch_size=size)).items():
        np.testing.assert_allclose(value, whole[name], atol=1e-6)


def test_no_more_rows_are_held_at_once_than_the_plan_says() -> None:
    held: list[int] = []

    class Counted(Plain):
        def build(self) -> torch.nn.Module:
            model = super().build()
            model.register_forward_pre_hook(lambda _, inputs: held.append(len(inputs[0])))
            return model

    update(privacy=msgspec.structs.replace(PRIVACY, sampling_rate=1.0), task=Counted())
    assert held[-4:] == [16, 16, 16, 12]
    assert max(held) == 16


def noise_of(steps: int = 1, noise: Callable[[GridNoise], Noise] = fresh_noise) -> Vector:
    """What training adds where no row is ever drawn, in the unit of a clipped sum."""
    train = TrainSettings(batch_size=8, learning_rate=1.0, steps=steps, weight="one")
    privacy = msgspec.structs.replace(PRIVACY, sampling_rate=_NEVER)
    return flat(update(train, privacy, noise)) * privacy.divisor


def test_an_empty_sample_is_a_step_of_the_stated_noise() -> None:
    assert not strange(noise_of(), 1.5 * 0.2)
    assert not strange(noise_of(steps=9), 3 * 1.5 * 0.2)


def test_half_the_noise_is_noticed() -> None:
    def half(noise: GridNoise) -> Noise:
        return fresh_noise(GridNoise(noise.multiplier / 2, noise.clip, noise.count))

    assert strange(noise_of(noise=half), 1.5 * 0.2)


def test_no_step_and_no_training_draws_a_noise_again() -> None:
    drawn: list[Vector] = []

    def heard(noise: GridNoise) -> Noise:
        inner = fresh_noise(noise)

        def add(values: Vector) -> Vector:
            drawn.append(inner(values) - values)
            return drawn[-1] + values

        return add

    for _ in "ab":
        update(noise=heard)
    assert len(drawn) == 2 * 4
    assert not any(alike(first, second) for place, first in enumerate(drawn) for second in drawn[:place])


def test_a_noise_of_a_fixed_seed_is_noticed() -> None:
    def fixed(noise: GridNoise) -> Noise:
        return lambda values: values + np.random.default_rng(1).normal(0, noise.deviation, len(values))

    assert alike(noise_of(noise=fixed), noise_of(noise=fixed))
    assert strange(noise_of(steps=9, noise=fixed), 3 * 1.5 * 0.2)
    assert not alike(noise_of(), noise_of())


def sums_of(privacy: PrivacySettings, rows: Shard = SHARD, steps: int = 1) -> list[Vector]:
    """What reaches the noise, with the same samples and the same dropout every time."""
    seen: list[Vector] = []

    def heard(_: GridNoise) -> Noise:
        def add(values: Vector) -> Vector:
            seen.append(values.copy())
            return values

        return add

    update(msgspec.structs.replace(TRAIN, steps=steps), privacy, heard, rows=rows)
    return seen


def exceeds(privacy: PrivacySettings, clip: float) -> bool:
    """Whether one row more moves a sum by more than the clip that the noise is made for."""
    every = msgspec.structs.replace(privacy, sampling_rate=1.0)
    less = Shard("a", shard(59).train, SHARD.held_out)
    whole, without = sums_of(every), sums_of(every, less)
    return float(np.linalg.norm(whole[0] - without[0])) > clip * (1 + 1e-5)


def test_one_row_moves_a_sum_by_no_more_than_the_clip_and_unclipped_sums_are_noticed() -> None:
    assert not exceeds(PRIVACY, PRIVACY.clip)
    assert exceeds(OPEN, PRIVACY.clip)


def test_the_noise_is_made_for_the_plans_clip_and_what_is_accounted_is_a_little_less() -> None:
    made: list[GridNoise] = []

    def heard(noise: GridNoise) -> Noise:
        made.append(noise)
        return fresh_noise(noise)

    update(noise=heard)
    assert made == [grid_noise(PRIVACY, ELEMENTS)]
    assert made[0].deviation == pytest.approx(1.5 * 0.2)
    assert 1.5 * (1 - 1.1 * ROUNDING) < made[0].accounted < 1.5


def test_the_number_of_rows_stands_in_no_scale() -> None:
    one, two = (sums_of(msgspec.structs.replace(PRIVACY, sampling_rate=_NEVER), shard(rows)) for rows in (20, 40))
    assert np.array_equal(one[0], two[0])
    updates = [
        update(
            privacy=msgspec.structs.replace(PRIVACY, sampling_rate=_NEVER),
            rows=shard(rows),
            noise=lambda _: lambda v: v + 1,
        )
        for rows in (20, 40)
    ]
    assert np.array_equal(flat(updates[0]), flat(updates[1]))


def test_a_cap_of_five_deviations_cuts_nothing() -> None:
    capped = msgspec.structs.replace(OPEN, sampling_rate=0.5, cap_deviations=5.0)
    assert capped.cap(60) == 50
    np.testing.assert_allclose(
        sums_of(capped)[0], sums_of(msgspec.structs.replace(capped, cap_deviations=None))[0], atol=1e-6
    )


def test_dropout_comes_from_secret_randomness_and_never_from_a_seed_that_repeats() -> None:
    every = msgspec.structs.replace(OPEN, sampling_rate=1.0)
    first, same, other = (flat(update(privacy=every, task=heart, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    made = [
        PrivateTrainer(heart, noise=silent).train(SHARD, START, b"", TRAIN, every).contribution.encode() for _ in "ab"
    ]
    assert made[0] != made[1]


def test_samples_come_from_the_operating_system_and_not_from_the_plan() -> None:
    made = [
        PrivateTrainer(plain, noise=silent).train(SHARD, START, b"", TRAIN, OPEN).contribution.encode() for _ in "ab"
    ]
    assert made[0] != made[1]


def test_a_kept_optimiser_goes_on_and_counts_as_no_step() -> None:
    every = msgspec.structs.replace(PRIVACY, sampling_rate=1.0)
    once = msgspec.structs.replace(TRAIN, optimizer="adam", learning_rate=0.01, steps=2)
    half = msgspec.structs.replace(once, steps=1, keep_optimizer=True)
    whole = update(once, every)
    trainer = PrivateTrainer(plain, token=Token(), noise=silent)
    first = trainer.train(SHARD, START, b"", half, every)
    tensors = first.contribution.groups["update"].tensors
    moved = {name: START.numpy(name) + tensors.get(name, np.float32(0)) for name in START.layout.by_name}
    second = trainer.train(SHARD, Blob(encode_numpy(moved)), first.state, half, every)
    assert first.steps == second.steps == 1
    for name, value in whole.items():
        together = tensors[name] + second.contribution.groups["update"].tensors[name]
        np.testing.assert_allclose(together, value, atol=1e-5)


def test_a_buffer_that_saw_rows_never_leaves() -> None:
    class Sly(Plain):
        """Keeps what it saw where there are more rows than a trial has."""

        def build(self) -> torch.nn.Module:
            model = super().build()
            model.register_buffer("seen", torch.zeros(()))

            def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                if len(inputs[0]) > 10:
                    module.seen += inputs[0].nansum()  # type: ignore[operator]

            model.register_forward_pre_hook(keep)
            return model

    sly = Sly()
    with pytest.raises(Refused) as caught:
        PrivateTrainer(sly, noise=silent).train(
            SHARD, Blob(first_model(sly, 1)), b"", TRAIN, msgspec.structs.replace(PRIVACY, sampling_rate=1.0)
        )
    assert caught.value.code == "private.buffers"


def test_settings_that_count_passes_and_training_that_diverges_are_named() -> None:
    with pytest.raises(BadInput) as caught:
        update(TrainSettings(batch_size=8, learning_rate=0.1, epochs=1))
    assert caught.value.code == "private.steps"
    with pytest.raises(BadInput) as caught:
        update(TrainSettings(batch_size=8, learning_rate=1e3, steps=60, weight_decay=1e3, weight="one"))
    assert caught.value.code == "trainer.diverged"


def test_a_contribution_counts_as_one_and_holds_every_name_of_the_model() -> None:
    made = PrivateTrainer(plain).train(SHARD, START, b"", TRAIN, PRIVACY)
    assert made.contribution.groups["update"].weight == 1.0
    assert not made.contribution.metrics
    assert not made.contribution.figures
    assert set(made.contribution.groups["update"].tensors) == {name for name, _ in plain.build().named_parameters()}
    assert made.steps == 4
