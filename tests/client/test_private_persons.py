"""DP-SGD for persons: against a loop over persons, what one person can move, and kinds of it that are broken."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from aimass.client.private_gradients import ClippedSums, row_losses, trained
from aimass.client.private_sampling import PersonSampler
from aimass.client.private_trainer import Noise, PrivateTrainer
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task as mnist
from aimass.privacy.dp.events import PoissonGaussian, TruncatedPoissonGaussian, Unit
from aimass.privacy.dp.gaussian import GridNoise
from aimass.privacy.dp.private_terms import training_event
from aimass.proto.errors import Refused
from aimass.proto.plan import PrivacySettings, TrainSettings
from tests.client.test_private_gradients import MODELS, ROWS
from tests.client.test_private_trainer import ELEMENTS, START, Token, plain, silent
from tests.support.patients import shard_of

Vector = npt.NDArray[np.float64]
OWNERS = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3])
COUNTS = (3, 9, 1, 4, 30, 2, 6, 1, 5, 12)
SHARD = shard_of(COUNTS)
TRAIN = TrainSettings(batch_size=32, learning_rate=0.5, steps=3, weight="one")
PRIVACY = PrivacySettings(
    noise_multiplier=1.5, clip=0.05, sampling_rate=0.5, delta=1e-5, divisor=5.0, unit="person", rows_per_person=6
)
EVERY = msgspec.structs.replace(PRIVACY, sampling_rate=1.0)


def by_loop(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, clip: float) -> tuple[torch.Tensor, Vector]:
    """One person at a time, by plain autograd of the mean of its rows' losses: the clipped sum and the norms."""
    total, norms = torch.zeros(sum(p.numel() for p in trained(model).values()), dtype=torch.float64), []
    for person in range(int(OWNERS.max()) + 1):
        own = person == OWNERS
        loss = nn.functional.cross_entropy(model(inputs[own]), labels[own])
        parts = torch.autograd.grad(loss, list(trained(model).values()), allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        norms.append(float(gradient.norm()))
        total += gradient * min(1.0, clip / norms[-1])
    return total, np.array(norms)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.5, 1e9])
def test_a_clipped_sum_is_that_of_a_loop_over_the_persons(name: str, share: float) -> None:
    torch.manual_seed(5)
    build, rows = MODELS[name]
    model, inputs, labels = build().train(), rows(), torch.randint(0, 4, (ROWS,))
    clip = share * float(np.median(by_loop(model, inputs, labels, 1.0)[1]))
    expected, norms = by_loop(model, inputs, labels, clip)
    sums = ClippedSums(model, clip)
    total = sums.zeros()
    found = sums.add(total, row_losses(mnist, model(inputs), labels), OWNERS)
    sums.close()
    np.testing.assert_allclose(found.numpy(), norms, rtol=1e-4)
    assert float((total - expected).norm() / expected.norm()) < 1e-5


def test_a_person_with_a_row_that_is_not_finite_counts_as_none() -> None:
    torch.manual_seed(5)
    model, inputs, labels = nn.Linear(5, 4), torch.randn(ROWS, 5), torch.randint(0, 4, (ROWS,))
    inputs[4] = torch.inf
    sums = ClippedSums(model, 0.1)
    total, expected = sums.zeros(), sums.zeros()
    sums.add(total, row_losses(mnist, model(inputs), labels), OWNERS)
    kept = OWNERS != 2
    sums.add(expected, row_losses(mnist, model(inputs[kept]), labels[kept]), torch.tensor([0, 1, 1, 2, 2, 2]))
    torch.testing.assert_close(total, expected)


def test_rows_of_a_person_that_cancel_are_not_clipped_too_little() -> None:
    """What float32 may round otherwise is a part of the rows, not of their mean; so the mean is scaled down with them."""

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x)
            return out

    torch.manual_seed(5)
    model, near, labels = Steep(), 1e4 * torch.randn(1, 5), torch.zeros(2, dtype=torch.long)
    sums = ClippedSums(model, 1e-2)
    total = sums.zeros()
    losses = (model(torch.cat([near, near])) * torch.tensor([[1.0], [-1.0 + 1e-6]])).sum(1)
    norms = sums.add(total, losses, labels)
    assert 0 < float(norms[0]) < 1e-5 * float(near.norm())
    assert float(total.norm()) < 0.1 * 1e-2


def sums_of(privacy: PrivacySettings, shard: Shard = SHARD, seed: int = 1) -> list[Vector]:
    """What reaches the noise, with the same secret bytes every time."""
    seen: list[Vector] = []

    def heard(_: GridNoise) -> Noise:
        def add(values: Vector) -> Vector:
            seen.append(values.copy())
            return values

        return add

    once = msgspec.structs.replace(TRAIN, steps=1)
    PrivateTrainer(plain, token=Token(seed), noise=heard).train(shard, START, b"", once, privacy)
    return seen


def furthest(most: int) -> float:
    """How far a sum moves at most where one person is not there; the last one, so that others give the same rows."""
    privacy = msgspec.structs.replace(EVERY, rows_per_person=most)
    moved = []
    for person in (1, 4, 9):
        whole, less = (shard_of(COUNTS[:end]) for end in (person + 1, person))
        moved.append(float(np.linalg.norm(sums_of(privacy, whole)[0] - sums_of(privacy, less)[0])))
    return max(moved)


@pytest.mark.parametrize("most", [1, 6, 30])
def test_one_person_moves_a_sum_by_no_more_than_the_clip_whatever_the_number_of_its_rows(most: int) -> None:
    assert 0.9 * PRIVACY.clip < furthest(most) <= PRIVACY.clip * (1 + 1e-5)


def test_a_clip_of_each_row_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clipped = ClippedSums.add
    monkeypatch.setattr(ClippedSums, "add", lambda sums, total, losses, _=None: clipped(sums, total, losses))
    assert furthest(6) > 1.5 * PRIVACY.clip


def test_without_noise_and_clipping_it_is_plain_training_on_each_persons_mean_loss() -> None:
    privacy = msgspec.structs.replace(PRIVACY, clip=1e9)
    made = PrivateTrainer(plain, token=Token(), noise=silent).train(SHARD, START, b"", TRAIN, privacy)
    token = Token()
    token(8)  # what torch is seeded with
    model = plain.build().train()
    model.load_state_dict({name: START.torch(name) for name in START.layout.by_name})
    optimizer = torch.optim.SGD(model.parameters(), lr=TRAIN.learning_rate)
    inputs, labels = plain.inputs(SHARD.train), torch.from_numpy(SHARD.train.labels)
    assert SHARD.persons is not None
    sampler = PersonSampler(SHARD.persons, PRIVACY.sampling_rate, None, 6, TRAIN.batch_size, token)
    for _ in range(TRAIN.steps or 0):
        optimizer.zero_grad()
        for batch in sampler.draw():
            assert batch.persons is not None
            rows, owners = torch.from_numpy(batch.rows), torch.from_numpy(batch.persons)
            losses = nn.functional.cross_entropy(
                model(*(each[rows] for each in inputs)), labels[rows], reduction="none"
            )
            ((losses / torch.bincount(owners)[owners]).sum() / PRIVACY.divisor).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    expected = {name: (value.detach() - START.torch(name)).numpy() for name, value in model.named_parameters()}
    for name, value in made.contribution.groups["update"].tensors.items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5)


@pytest.mark.parametrize("size", [6, 13, 1_000])
def test_how_many_rows_are_held_at_once_changes_nothing(size: int) -> None:
    train = msgspec.structs.replace(TRAIN, batch_size=size)
    updates = [
        PrivateTrainer(plain, token=Token(), noise=silent).train(SHARD, START, b"", each, PRIVACY).contribution
        for each in (TRAIN, train)
    ]
    for name, value in updates[0].groups["update"].tensors.items():
        np.testing.assert_allclose(value, updates[1].groups["update"].tensors[name], atol=1e-6)


def test_rows_that_are_nobodys_are_not_trained_on_under_a_plan_for_persons() -> None:
    nobodys = Shard("a", SHARD.train, SHARD.held_out)
    with pytest.raises(Refused) as refused:
        PrivateTrainer(plain).train(nobodys, START, b"", TRAIN, PRIVACY)
    assert refused.value.code == "private.persons"


def test_a_training_for_persons_is_an_event_of_persons() -> None:
    event = training_event(PRIVACY, 3, ELEMENTS, 400)
    assert (event.unit, event.times) == (Unit.PERSON, 3)
    assert isinstance(event.mechanism, PoissonGaussian)
    cut = training_event(msgspec.structs.replace(PRIVACY, cap_deviations=5.0), 3, ELEMENTS, 400)
    assert isinstance(cut.mechanism, TruncatedPoissonGaussian)
    assert (cut.unit, cut.mechanism.records, cut.mechanism.cap) == (Unit.PERSON, 400, 250)


def test_persons_of_one_row_each_are_trained_on_as_rows_are() -> None:
    single = shard_of([1] * 30)
    by_row = msgspec.structs.replace(PRIVACY, unit="example", rows_per_person=None)
    for privacy in (PRIVACY, msgspec.structs.replace(PRIVACY, cap_deviations=5.0)):
        rows = msgspec.structs.replace(by_row, cap_deviations=privacy.cap_deviations)
        np.testing.assert_allclose(sums_of(privacy, single)[0], sums_of(rows, single)[0], atol=1e-9)
