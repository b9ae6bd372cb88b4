"""Batches in pieces and over ranks, and in bfloat16: the update of one process and one piece, up to rounding."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch

from aimass.client import trainer
from aimass.client.batch_gradients import add_gradient, check_divisible
from aimass.client.capacity import ONE_CPU, Capacity, capacity_of
from aimass.client.ranks import LinkedRanks
from aimass.proto.errors import BadInput, Refused, Unavailable
from aimass.proto.home import ChildLimits
from aimass.proto.plan import TrainSettings
from aimass.proto.task import first_model
from aimass.proto.tensors import Array, Blob
from tests.client.test_trainer import heart, plain_task

START = Blob(first_model(plain_task, 1))
TRAIN = TrainSettings(batch_size=64, learning_rate=0.1, epochs=2, momentum=0.9, weight_decay=0.01, proximal_mu=0.5)
SMALL = Capacity(batch_rows=7)


def update(settings: TrainSettings = TRAIN, capacity: Capacity = ONE_CPU) -> dict[str, Array]:
    made, _ = trainer.train(plain_task, heart(), START, b"", bytes(32), settings, capacity)
    return dict(made.groups["update"].tensors)


def linked(count: int) -> list[LinkedRanks]:
    pairs = [socket.socketpair() for _ in range(1, count)]
    return [
        LinkedRanks(0, count, [ours for ours, _ in pairs]),
        *(LinkedRanks(rank, count, [theirs]) for rank, (_, theirs) in enumerate(pairs, 1)),
    ]


def close(ranks: Sequence[LinkedRanks]) -> None:
    for link in itertools.chain.from_iterable(rank.links for rank in ranks):
        link.close()


@pytest.mark.parametrize("settings", [TRAIN, msgspec.structs.replace(TRAIN, optimizer="adam", gradient_clip=0.5)])
def test_a_batch_in_pieces_gives_the_update_of_the_whole_batch(settings: TrainSettings) -> None:
    whole, pieces = update(settings), update(settings, SMALL)
    assert any((whole[name] != pieces[name]).any() for name in whole)  # it was cut
    for name, value in whole.items():
        np.testing.assert_allclose(pieces[name], value, rtol=1e-3, atol=2e-6)
    smaller = update(msgspec.structs.replace(settings, batch_size=7))
    assert max(np.abs(smaller[name] - whole[name]).max() for name in whole) > 1e-3  # which is not a smaller batch's


@pytest.mark.parametrize("capacity", [ONE_CPU, SMALL])
def test_a_batch_that_the_plan_accumulates_gives_the_update_of_the_whole_batch(capacity: Capacity) -> None:
    whole, parts = update(), update(msgspec.structs.replace(TRAIN, accumulate=5), capacity)
    assert any((whole[name] != parts[name]).any() for name in whole)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize(
    ("capacity", "parts", "pieces"), [(ONE_CPU, 4, [5, 5, 5, 2]), (SMALL, 2, [7, 7, 3]), (SMALL, 5, [4, 4, 4, 4, 1])]
)
def test_the_plans_parts_and_the_partners_rows_both_bound_a_piece(
    capacity: Capacity, parts: int, pieces: list[int]
) -> None:
    seen: list[int] = []
    weight = torch.nn.Parameter(torch.ones(3))

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return (weight * rows.double().mean()).sum()

    add_gradient(loss_of, torch.arange(17), [weight], capacity, parts=parts)
    assert seen == pieces


def test_pieces_never_hold_more_rows_than_the_partner_said() -> None:
    seen: list[int] = []
    weight = torch.nn.Parameter(torch.ones(3))

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return (weight * rows.double().mean()).sum()

    rows = torch.arange(17)
    add_gradient(loss_of, rows, [weight], SMALL)
    assert seen == [7, 7, 3]
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), rows.double().mean().item())


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_sum_to_the_same_bytes_everywhere(count: int) -> None:
    ranks = linked(count)
    values = [torch.randn(100_000, generator=torch.Generator().manual_seed(rank)) for rank in range(count)]
    with ThreadPoolExecutor(count) as pool:
        sums = list(pool.map(lambda rank, value: rank.summed(value), ranks, values))
    expected = values[0].clone()
    for value in values[1:]:
        expected += value
    assert all(torch.equal(each, expected) for each in sums)
    close(ranks)


def test_a_rank_that_is_gone_is_an_error_at_the_others_and_no_wait() -> None:
    first, second = linked(2)
    close([second])
    with pytest.raises(Unavailable):
        first.summed(torch.ones(3))
    close([first])


def test_ranks_take_gradients_of_their_rows_and_leave_unused_parameters_alone() -> None:
    ranks = linked(2)
    rows = torch.arange(5)
    made = []

    def work(rank: LinkedRanks) -> list[torch.nn.Parameter]:
        weight, unused, of_last = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
        losses = lambda at: weight.sum() * at.float().mean() + (of_last.sum() if 4 in at else 0)  # noqa: E731
        add_gradient(losses, rows, [weight, unused, of_last], Capacity(ranks=rank))
        return [weight, unused, of_last]

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(work, ranks))
    for weight, unused, of_last in made:
        assert weight.grad is not None
        np.testing.assert_allclose(weight.grad.numpy(), [2.0, 2.0])
        assert unused.grad is None
        assert of_last.grad is not None
        np.testing.assert_allclose(of_last.grad.numpy(), [0.4, 0.4])  # of the two rows that rank 1 has
    close(ranks)


def test_mixed_precision_needs_the_plan_and_the_partner_and_leaves_a_float32_update() -> None:
    allowed, chosen = msgspec.structs.replace(TRAIN, mixed_precision=True), Capacity(mixed_precision=True)
    plain = update()
    for settings, capacity in ((allowed, ONE_CPU), (TRAIN, chosen)):
        assert all((value == plain[name]).all() for name, value in update(settings, capacity).items())
    mixed = update(allowed, chosen)
    difference = max(np.abs(mixed[name] - plain[name]).max() for name in plain)
    assert 1e-5 < difference < 0.05
    assert {value.dtype for value in mixed.values()} == {np.dtype(np.float32)}


def test_batch_norm_is_refused_where_a_batch_would_be_cut_and_trained_where_not() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    check_divisible(model, 7, SMALL)
    for capacity, size in ((SMALL, 8), (Capacity(ranks=LinkedRanks(1, 2, [])), 1)):
        with pytest.raises(Refused) as caught:
            check_divisible(model, size, capacity)
        assert (caught.value.code, caught.value.value) == ("trainer.batch_norm", "1")
    with pytest.raises(Refused, match="accumulate"):
        check_divisible(model, 7, ONE_CPU, parts=2)


def test_a_batch_has_no_more_parts_than_rows() -> None:
    with pytest.raises(ValueError, match="accumulate"):
        TrainSettings(batch_size=4, learning_rate=0.1, steps=1, accumulate=5)


def test_what_a_partner_set_is_told_with_its_device() -> None:
    told = capacity_of(ChildLimits(batch_rows=16, mixed_precision=True), LinkedRanks(1, 2, [])).described
    assert told.startswith("2 x ")
    assert told.endswith("bfloat16 where the plan allows it, 16 rows at once")


def _gpus(monkeypatch: pytest.MonkeyPatch, count: int, *, in_the_machine: bool = True) -> None:
    """So many GPUs that torch can use; nothing is computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=index + 1))
    monkeypatch.setattr("aimass.client.capacity._A_GPU", Path("/dev/null" if in_the_machine else "/dev/none"))


@pytest.mark.parametrize(("wanted", "rank", "device", "memory"), [
    ("", 0, "cuda:0", 1), ("", 3, "cuda:1", 2), ("cuda", 1, "cuda:1", 2), ("cuda:1", 0, "cuda:1", 2),
    ("cuda:1", 1, "cuda:0", 1), ("cpu", 1, "cpu", 0),
])  # fmt: skip
def test_a_partner_chooses_what_it_computes_with(
    monkeypatch: pytest.MonkeyPatch, wanted: str, rank: int, device: str, memory: int
) -> None:
    _gpus(monkeypatch, 2)
    found = capacity_of(ChildLimits(device=wanted), LinkedRanks(rank, 4, []))
    assert (found.device, found.gpu_bytes) == (device, memory)
    assert found.described == ("4 x CPU" if device == "cpu" else f"4 x CUDA: GPU {memory - 1}")


def test_a_gpu_that_torch_cannot_use_is_told_and_refused_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 0)
    assert capacity_of(ChildLimits()).described == "CPU, as torch cannot use the GPU that is here"
    assert capacity_of(ChildLimits(device="cpu")).described == "CPU"
    with pytest.raises(BadInput, match=r"child\.device in client\.toml") as caught:
        capacity_of(ChildLimits(device="cuda"))
    assert (caught.value.code, caught.value.limit) == ("child.device", "0 CUDA devices")
    _gpus(monkeypatch, 2, in_the_machine=False)
    with pytest.raises(BadInput, match="cuda:2"):
        capacity_of(ChildLimits(device="cuda:2"))
    _gpus(monkeypatch, 0, in_the_machine=False)
    assert capacity_of(ChildLimits()).described == "CPU"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: there is no CUDA device here")
def test_a_cuda_device_gives_the_update_of_the_cpu_up_to_rounding() -> None:
    capacity = capacity_of(ChildLimits())
    plain, there = update(), update(capacity=capacity)
    for name, value in plain.items():
        np.testing.assert_allclose(there[name], value, rtol=1e-2, atol=1e-5)
