"""SCAFFOLD at a participant: control variates take out of local steps what drives partners apart.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", Algorithm 1 with option II.
What the paper calls c stands here as e = eta_l c, the way that one step goes by it, so that what leaves is of the size
of an update, and a secure sum's clip for one suits the other:

    y   <- y - eta_l g_i(y) + (e_i - e)     line 10
    e_i+ = e_i - e + (x - y) / K            line 12, option II
    (y - x, e_i+ - e_i) is sent             line 13

e_i is this participant's local state and zero at first; e comes from the server, beside the model x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from aimass.client.capacity import ONE_CPU, Capacity
from aimass.client.local_state import State, pack_state, section_of
from aimass.client.own_layers import OWN, own_of
from aimass.client.shards import Shard
from aimass.client.trainer import train_locally, update_of, weight_of
from aimass.proto.contribution import Contribution, Group
from aimass.proto.elements import as_float64, dtype_name
from aimass.proto.errors import BadInput
from aimass.proto.methods import CONTROL, UPDATE, control_shapes
from aimass.proto.plan import TrainSettings
from aimass.proto.task import Task
from aimass.proto.tensors import Array, Blob, numpy_dtype

__all__ = ["train"]


def train(
    task: Task,
    shard: Shard,
    inputs: Sequence[Blob],
    local_state: State,
    seed: bytes,
    settings: TrainSettings,
    capacity: Capacity = ONE_CPU,
) -> tuple[Contribution, bytes]:
    """Corrected local steps from the model, the first of `inputs`; the server's e is the second, and zero without one.

    The groups are the update and the change of e_i; the new local state has e_i+. Raises `BadInput` for an e of another
    model, and as `train_locally` does.
    """
    model, shapes = inputs[0], control_shapes(inputs[0].layout, settings.keep_local)
    server = _variate(inputs[1].arrays() if len(inputs) > 1 else {}, shapes)
    held = section_of(local_state, CONTROL)
    own = _variate({name: value.numpy() for name, value in held.items()}, shapes)
    shifts = {name: torch.from_numpy(np.asarray(own[name] - server[name])).to(capacity.device) for name in shapes}
    local = train_locally(task, shard, model, seed, settings, capacity, shifts=shifts)
    update = update_of(local.model, model, weight_of(shard, settings), settings).groups[UPDATE]
    trained = {name for name, parameter in local.model.named_parameters() if parameter.requires_grad}
    change = {
        name: _change(e, update.tensors[name], local.steps) if name in trained else np.zeros_like(e)
        for name, e in server.items()
    }
    after = {name: torch.from_numpy(np.asarray(own[name] + change[name])) for name in shapes}
    state = pack_state({CONTROL: after, OWN: own_of(local.model, settings.keep_local)})
    return Contribution({UPDATE: update, CONTROL: Group(update.weight, change)}, {}, {}), state


def _change(server: Array, moved: Array, steps: int) -> Array:
    """e_i+ - e_i, which e_i is no part of."""
    return np.asarray(-as_float64(server) - as_float64(moved) / steps, server.dtype)


def _variate(held: Mapping[str, Array], shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> Mapping[str, Array]:
    """A control variate by tensor; zeros where none is held."""
    if not held:
        return {name: np.zeros(shape, numpy_dtype(dtype)) for name, (dtype, shape) in shapes.items()}
    if {name: (dtype_name(array), array.shape) for name, array in held.items()} != dict(shapes):
        raise BadInput("a control variate is of another model", code="trainer.control")
    return held
