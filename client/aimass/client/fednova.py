"""FedNova at a participant: the update as if all had done the plan's steps, and how many there were.

Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", section 5:
what partner i sends is the normalised update (y - x) / ||a_i||_1, times the same number r for all: the ||a||_1 of the
plan's steps, or 1 of a plan that counts epochs. So who does all of the plan's steps sends what federated averaging has.
"""

from __future__ import annotations

import numpy as np

from aimass.client.capacity import ONE_CPU, Capacity
from aimass.client.local_state import pack_state
from aimass.client.own_layers import OWN, own_of
from aimass.client.shards import Shard
from aimass.client.trainer import train_locally, update_of, weight_of
from aimass.proto.contribution import Contribution, Group
from aimass.proto.elements import FLOATS, as_float64, dtype_name, from_float64
from aimass.proto.methods import STEPS, UPDATE, planned_norm, step_norm
from aimass.proto.plan import TrainSettings
from aimass.proto.task import Task
from aimass.proto.tensors import Array, Blob

__all__ = ["train"]


def train(
    task: Task,
    shard: Shard,
    model: Blob,
    seed: bytes,
    settings: TrainSettings,
    capacity: Capacity = ONE_CPU,
) -> tuple[Contribution, bytes]:
    """Local steps from `model`: the groups `update` and `steps`, and what is kept. Raises as `train_locally` does."""
    local = train_locally(task, shard, model, seed, settings, capacity)
    made = update_of(local.model, model, weight_of(shard, settings), settings).groups[UPDATE]
    norm = step_norm(settings, local.steps)
    factor = planned_norm(settings) / norm
    update = {name: _scaled(change, factor) for name, change in made.tensors.items()}
    groups = {UPDATE: Group(made.weight, update), STEPS: Group(made.weight, {"norm": np.array(norm)})}
    return Contribution(groups, {}, {}), pack_state({OWN: own_of(local.model, settings.keep_local)})


def _scaled(change: Array, factor: float) -> Array:
    """A change of the same element type; integers, counters of batches, stay as they are."""
    dtype = dtype_name(change)
    return from_float64(np.asarray(as_float64(change) * factor), dtype) if dtype in FLOATS and factor != 1 else change
