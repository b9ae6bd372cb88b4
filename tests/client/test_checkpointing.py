"""Activations that are computed twice: the same gradients to the bit, in less memory, and a model that goes when it may."""

from __future__ import annotations

import gc
import weakref
from typing import ClassVar

import msgspec
import numpy as np
import pytest
import torch

from aimass.client import trainer
from aimass.client.checkpointing import checkpointed
from aimass.client.shards import Shard
from aimass.client.tasks.heart import Heart, task
from aimass.proto.errors import AimassError, BadInput, Refused
from aimass.proto.plan import TrainSettings
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from tests.client.test_trainer import heart

TRAIN = TrainSettings(batch_size=64, learning_rate=0.1, epochs=1)
TWICE = msgspec.structs.replace(TRAIN, checkpointing=True)


class Deep(Heart):
    """The heart task's network, dropout included, whose layers may forget."""

    checkpointed: ClassVar[tuple[str, ...]] = ("hidden", "dropout")


class Norm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))


def network() -> torch.nn.Sequential:
    blocks = [torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Dropout(0.5)) for _ in range(2)]
    return torch.nn.Sequential(*blocks, torch.nn.Linear(32, 1))


def kept_bytes(model: torch.nn.Module, patterns: tuple[str, ...]) -> tuple[int, list[torch.Tensor]]:
    """Bytes of activations that a forward pass keeps, and the gradients after the way back."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    torch.manual_seed(1)
    model.zero_grad()
    with checkpointed(model, patterns):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(torch.ones(1000, 32)).sum()
        loss.backward()
    return kept, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_training_is_the_same_to_the_bit_with_dropout_too() -> None:
    shard, start = heart(), Blob(first_model(task, 1))
    made = [
        trainer.train(one, shard, start, b"", bytes(32), settings)[0].encode()
        for one, settings in ((task, TRAIN), (Deep(), TWICE))
    ]
    assert made[0] == made[1]


def test_activations_inside_of_a_layer_are_not_kept() -> None:
    model = network()
    all_kept, gradients = kept_bytes(model, ())
    few_kept, same = kept_bytes(model, ("0", "1", "0.*"))
    assert few_kept < all_kept / 2
    for one, other in zip(gradients, same, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_model_that_was_trained_so_is_gone_with_its_last_name() -> None:
    gc.disable()  # it would find what holds itself; a large model must not wait for that
    try:
        model = network()
        kept_bytes(model, ("0", "1"))
        gone = weakref.ref(model[0])
        del model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("model", "pattern", "code"),
    [(network(), "9.*", "task.checkpointed"), (Norm(), "block", "trainer.checkpoint_norm")],
)
def test_layers_that_are_not_there_or_count_what_they_see_are_refused(
    model: torch.nn.Module, pattern: str, code: str
) -> None:
    with pytest.raises((BadInput, Refused)) as caught, checkpointed(model, (pattern,)):
        pass
    assert caught.value.code == code


def test_a_task_that_names_no_layers_is_refused() -> None:
    shard: Shard = heart()
    with pytest.raises(AimassError) as caught:
        trainer.train(task, shard, Blob(first_model(task, 1)), b"", bytes(32), TWICE)
    assert caught.value.code == "task.not_checkpointed"
