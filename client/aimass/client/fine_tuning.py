"""Fine-tuning: the final model of a run, trained on by one participant on its own rows, for itself."""

from __future__ import annotations

import msgspec

from aimass.client import trainer
from aimass.client.capacity import Capacity
from aimass.client.local_state import unpack_state
from aimass.client.own_layers import OWN
from aimass.client.shards import Shard
from aimass.proto.plan import TrainSettings
from aimass.proto.task import Task
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["fine_tuned"]


def fine_tuned(task: Task, shard: Shard, model: Blob, seed: bytes, settings: TrainSettings, capacity: Capacity) -> Blob:
    """The model after training on this participant's rows alone: one of which every layer is its own."""
    every = msgspec.structs.replace(settings, keep_local=("*",), keep_optimizer=False)
    _, state = trainer.train(task, shard, model, b"", seed, every, capacity)
    return Blob(encode_torch(unpack_state(state)[OWN]))
