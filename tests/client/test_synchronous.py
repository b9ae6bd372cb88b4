"""Processes in lockstep take the steps of plain SGD over the pooled rows, whoever holds which of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
import torch

from aimass.client.ranks import ALONE
from aimass.client.shards import Shard, open_shard
from aimass.client.synchronous import train_together
from aimass.client.tasks.heart import task
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import TrainSettings
from aimass.proto.sharding import Split, manifest_of
from aimass.proto.task import first_model, load_parameters
from aimass.proto.tensors import Blob
from tests.support.simulations import shards_of

SEED = bytes(range(32))
WHOLE = TrainSettings(batch_size=100_000, learning_rate=0.2, steps=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    split = Split(rule="dirichlet", argument="1.0", partners=3, seed=2, smallest=20)
    folder = shards_of(tmp_path_factory.mktemp("lockstep") / "shards", "heart", split)
    made = []
    for name in ("p0001", "p0002", "p0003"):
        with (folder / name / "heart.parquet").open("rb") as file:
            made.append(open_shard(task.schema, manifest_of(folder, name), [file])[0])
    return made


@pytest.fixture(scope="module")
def model() -> Blob:
    return Blob(bytes(first_model(task, 1)))


@pytest.fixture(autouse=True)
def without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share torch's random numbers; processes do not."""
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda _self, values: values)


class _Threads:
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, count: int, parts: dict[int, torch.Tensor], barrier: threading.Barrier) -> None:
        self.rank, self.count, self._parts, self._barrier = rank, count, parts, barrier

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        self._parts[self.rank] = values
        self._barrier.wait(60)
        total = torch.stack([self._parts[rank] for rank in range(self.count)]).sum(0)
        self._barrier.wait(60)
        return total


def together(held: Sequence[Sequence[Shard]], model: Blob, settings: TrainSettings) -> list[dict[str, np.ndarray]]:
    """What each rank makes of the shards that it holds."""
    parts, barrier = dict[int, torch.Tensor](), threading.Barrier(len(held))

    def one(rank: int) -> dict[str, np.ndarray]:
        def shards() -> Iterator[Shard]:
            return iter(held[rank])

        ranks = _Threads(rank, len(held), parts, barrier)
        made, _ = train_together(task, shards, model, b"", SEED, settings, ranks)
        return dict(made.groups["update"].tensors)

    with ThreadPoolExecutor(len(held)) as pool:
        return list(pool.map(one, range(len(held))))


def pooled_descent(shards: Sequence[Shard], model: Blob, steps: int) -> dict[str, np.ndarray]:
    """Plain gradient descent on the mean loss over all rows."""
    net = task.build()
    load_parameters(net, model)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=WHOLE.learning_rate)
    rows = sum(len(shard.train.labels) for shard in shards)
    for _ in range(steps):
        optimizer.zero_grad()
        for shard in shards:
            labels = torch.from_numpy(shard.train.labels)
            loss = task.loss(net(*task.inputs(shard.train)), labels) * (len(labels) / rows)
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: (value - before[name]).numpy() for name, value in net.state_dict().items()}


def test_a_batch_of_all_rows_is_gradient_descent_on_the_pooled_rows(shards: list[Shard], model: Blob) -> None:
    passes = msgspec.structs.replace(WHOLE, epochs=1, steps=None)
    first, second, third = together([[one] for one in shards], model, passes)
    expected = pooled_descent(shards, model, 1)
    for name, change in first.items():
        np.testing.assert_allclose(change, expected[name], atol=1e-6)
        assert change.tobytes() == second[name].tobytes() == third[name].tobytes()


def test_who_has_no_rows_left_waits_and_adds_nothing(shards: list[Shard], model: Blob) -> None:
    settings = TrainSettings(batch_size=20, learning_rate=0.1, epochs=1)
    uneven = together([[shards[0], shards[1]], [shards[2]]], model, settings)
    assert all(change.tobytes() == uneven[1][name].tobytes() for name, change in uneven[0].items())
    again = together([[shards[0], shards[1]], [shards[2]]], model, settings)
    assert all(change.tobytes() == again[0][name].tobytes() for name, change in uneven[0].items())


def test_steps_are_counted_over_passes(shards: list[Shard], model: Blob) -> None:
    three = together([shards], model, WHOLE)[0]  # a shard a step where one process holds them all
    one = together([shards], model, msgspec.structs.replace(WHOLE, epochs=1, steps=None))[0]
    assert all(change.tobytes() == one[name].tobytes() for name, change in three.items())
    six = together([shards], model, msgspec.structs.replace(WHOLE, steps=6))[0]
    assert any(change.tobytes() != one[name].tobytes() for name, change in six.items())


def test_a_batch_that_is_too_small_to_be_shared_is_refused(shards: list[Shard], model: Blob) -> None:
    with pytest.raises(BadInput) as caught:
        together([[shards[0]], [shards[1]]], model, TrainSettings(batch_size=1, learning_rate=0.1, steps=1))
    assert caught.value.code == "trainer.batch_size"


def test_batch_norm_is_refused(shards: list[Shard], model: Blob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimass.client.synchronous.load_parameters", lambda *_: None)
    monkeypatch.setattr(type(task), "build", lambda _: torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    with pytest.raises(Refused) as caught:
        train_together(task, lambda: iter(shards), model, b"", SEED, WHOLE, ALONE)
    assert caught.value.code == "trainer.batch_norm"
