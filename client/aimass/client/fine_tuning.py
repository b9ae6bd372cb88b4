"""Fine-tuning: the final model of a run, trained on by one participant on its own rows, for itself."""

from __future__ import annotations

import msgspec

from aimass.client import trainer
from aimass.client.capacity import Capacity
from aimass.client.shards import Shard
from aimass.proto.plan import TrainSettings
from aimass.proto.task import Task
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["fine_tuned"]


def fine_tuned(task: Task, shard: Shard, model: Blob, seed: bytes, settings: TrainSettings, capacity: Capacity) -> Blob:
    """The model after training on this participant's rows alone: one of which every layer is its own."""
    every = msgspec.structs.replace(settings, keep_local=("*",), keep_optimizer=False)
    tuned = trainer.train_locally(task, shard, model, seed, every, capacity).model
    trainer.update_of(tuned, model, 1.0, every)  # which is nothing that leaves, and finite
    return Blob(encode_torch(tuned.state_dict()))
