"""The one trainer: what a participant computes in a step, the same under a daemon, Spark and simulation.

`(task, shard, model, seed, settings) -> contribution`, deterministic on one device: the order of rows, dropout and
whatever else is random start from `seed`, on one thread of torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from aimass.client.batch_gradients import add_gradient, check_divisible
from aimass.client.capacity import ONE_CPU, Capacity
from aimass.client.checkpointing import checkpointed
from aimass.client.local_state import Section, State, pack_state, section_of
from aimass.client.optimizer_state import OPTIMIZER, moments_of, restore_optimizer
from aimass.client.own_layers import OWN, own_of
from aimass.client.shards import Shard
from aimass.proto.contribution import Contribution, Group, Metric, group_norm
from aimass.proto.errors import BadInput
from aimass.proto.methods import UPDATE
from aimass.proto.own_layers import is_own
from aimass.proto.pages import forget_pages
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.task import Task, checkpointed_layers, load_parameters
from aimass.proto.tensors import Blob

__all__ = [
    "Local",
    "evaluate",
    "held_out_probabilities",
    "of_metrics",
    "on_one_thread",
    "optimizer_of",
    "train",
    "train_locally",
    "update_of",
    "warm_up",
    "weight_of",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Local:
    """What local training came to: the model, the optimiser steps done, the optimiser's moments where they are kept."""

    model: torch.nn.Module
    steps: int
    moments: Section


def warm_up() -> None:
    """Load what torch loads with its first optimiser, so that no step pays for it."""
    torch.optim.SGD([torch.zeros(1)], lr=0.1)


def train(
    task: Task,
    shard: Shard,
    parameters: Blob,
    local_state: State,
    seed: bytes,
    settings: TrainSettings,
    capacity: Capacity = ONE_CPU,
) -> tuple[Contribution, bytes]:
    """Local training from `parameters`: the group `update` holds new minus old of every trained tensor.

    `local_state` is what the participant keeps between steps (empty at first, and always where the settings keep
    nothing); what is returned replaces it once the contribution was counted. Own layers are expected in `parameters`
    (see `own_layers.with_own_layers`). With `proximal_mu` the objective gains mu/2 ||w - w_global||^2 (FedProx, Li et
    al. 2020, eq. 2). Raises `BadInput` where the loss is not finite, `Refused` where batches must be cut for the
    `capacity` and cannot be.
    """
    moments = section_of(local_state, OPTIMIZER)
    local = train_locally(task, shard, parameters, seed, settings, capacity, moments=moments)
    state = {OPTIMIZER: local.moments, OWN: own_of(local.model, settings.keep_local)}
    return update_of(local.model, parameters, weight_of(shard, settings), settings), pack_state(state)


def train_locally(
    task: Task,
    shard: Shard,
    parameters: Blob,
    seed: bytes,
    settings: TrainSettings,
    capacity: Capacity = ONE_CPU,
    *,
    moments: Section = MappingProxyType({}),
    shifts: Section = MappingProxyType({}),
) -> Local:
    """Optimiser steps from `parameters`, by an optimiser with these moments.

    After each one a parameter that `shifts` names moves by that as well: what corrects a step. Raises as `train` does.
    """
    _deterministic(seed, capacity.ranks.rank)
    model = task.build()
    load_parameters(model, parameters)
    check_divisible(model, settings.batch_size, capacity, settings.accumulate)
    model.to(capacity.device).train()
    with checkpointed(model, checkpointed_layers(task) if settings.checkpointing else ()):
        return _optimise(task, model, shard, settings, seed, capacity, moments, shifts)


def weight_of(shard: Shard, settings: TrainSettings) -> float:
    """What a contribution counts for."""
    return float(len(shard.train.labels)) if settings.weight == "rows" else 1.0


def update_of(model: torch.nn.Module, parameters: Blob, weight: float, settings: TrainSettings) -> Contribution:
    """What training did to all that is not the participant's own: new minus old.

    A model is large, and nobody needs it afterwards: what is shared of it becomes the update where it stands.

    Raises `BadInput` where a parameter is not finite.
    """
    update: dict[str, np.ndarray[Any, Any]] = {}
    values = _contributed(model)
    alone = _alone(values)
    with torch.no_grad():
        for name, value in values.items():
            own = is_own(name, settings.keep_local)
            changed = _difference(value, parameters.torch(name), in_place=name in alone and not own)
            forget_pages(parameters.numpy(name))
            if not math.isfinite(group_norm(Group(weight, {name: changed}))):
                raise BadInput(
                    "training diverged: a parameter is not finite",
                    code="trainer.diverged",
                    value=f"lr {settings.learning_rate}",
                    cure="Lower the learning rate or clip gradients.",
                )
            if not own:
                update[name] = changed
    return Contribution({UPDATE: Group(weight, update)}, {}, {})


def _contributed(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All numbers of the state dict but `preprocess.*`, which the federation learns in a step of its own."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if value.dtype != torch.bool and not name.startswith("preprocess.")
    }


def _alone(tensors: Mapping[str, torch.Tensor]) -> frozenset[str]:
    """Those that share their memory with no other: tied weights have two names."""
    places = {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()}
    held = Counter(places.values())
    return frozenset(name for name, place in places.items() if held[place] == 1)


def _difference(new: torch.Tensor, old: torch.Tensor, *, in_place: bool) -> np.ndarray[Any, Any]:
    """New minus old as the contribution carries it: floats in their type, bfloat16 by its bits, integers in int64.

    Floats may take the place of the new.
    """
    local = new.cpu()
    if not local.is_floating_point():
        return (local.long() - old.long()).numpy()
    difference = local.sub_(old) if in_place else local - old
    return (difference.view(torch.uint16) if difference.dtype == torch.bfloat16 else difference).numpy()


def on_one_thread(*, deterministic: bool) -> None:
    """How torch computes from here on; what is deterministic is slower on accelerators."""
    torch.set_num_threads(1)
    # The same switch as use_deterministic_algorithms, without its import of the compiler (seconds, and a cache folder).
    torch.set_deterministic_debug_mode("error" if deterministic else "default")


def _deterministic(seed: bytes, rank: int = 0) -> None:
    """Each rank has dropout of its own."""
    on_one_thread(deterministic=True)
    torch.manual_seed((int.from_bytes(seed[:8], "big") >> 1) + rank)


def _optimise(
    task: Task,
    model: torch.nn.Module,
    shard: Shard,
    settings: TrainSettings,
    seed: bytes,
    capacity: Capacity,
    moments: Section,
    shifts: Section,
) -> Local:
    loss_of = _loss_of(task, model, shard, capacity.device)
    mixed = settings.mixed_precision and capacity.mixed_precision
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    anchors = [parameter.detach().clone() for parameter in trained] if settings.proximal_mu else []
    optimizer = optimizer_of(trained, settings)
    if settings.keep_optimizer:
        restore_optimizer(optimizer, moments)
    shifted = [(parameter, shifts[name]) for name, parameter in model.named_parameters() if name in shifts]
    most, steps = capacity.most_steps if settings.fewer_steps else 0, 0
    for rows in itertools.islice(_batches(len(shard.train.labels), settings, seed), most or None):
        optimizer.zero_grad(set_to_none=True)
        add_gradient(
            loss_of,
            torch.from_numpy(rows).to(capacity.device),
            trained,
            capacity,
            parts=settings.accumulate,
            mixed_precision=mixed,
        )
        for parameter, anchor in zip(trained, anchors, strict=bool(anchors)):
            pull = settings.proximal_mu * (parameter.detach() - anchor)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)
        if settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
        optimizer.step()
        with torch.no_grad():
            for parameter, by in shifted:
                parameter.add_(by)
        steps += 1
    optimizer.zero_grad(set_to_none=True)  # as large as the model, and of no use to what comes after
    return Local(model, steps, moments_of(optimizer) if settings.keep_optimizer else {})


def _loss_of(task: Task, model: torch.nn.Module, shard: Shard, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The mean loss of training rows by their positions."""
    labels = torch.from_numpy(shard.train.labels).to(device)
    inputs = tuple(argument.to(device) for argument in task.inputs(shard.train))
    return lambda rows: task.loss(model(*(argument[rows] for argument in inputs)), labels[rows])


def optimizer_of(parameters: list[torch.nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings name."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _batches(rows: int, settings: TrainSettings, seed: bytes) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Row positions of each batch: fresh permutations, one a pass, cut after `steps` where those are given."""
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed[8:], "big")))
    done = 0
    passes = 0
    while settings.epochs is None or passes < settings.epochs:
        order = generator.permutation(rows)
        for start in range(0, rows, settings.batch_size):
            if settings.steps is not None and done == settings.steps:
                return
            yield order[start : start + settings.batch_size]
            done += 1
        passes += 1


def evaluate(
    task: Task, shard: Shard, parameters: Blob, settings: EvaluateSettings, capacity: Capacity = ONE_CPU
) -> Contribution:
    """Measures of `parameters` on the held-out rows, as sums; and as figures of this participant alone."""
    if len(shard.held_out.labels) == 0:
        return Contribution({}, {}, {})
    size = capacity.at_once(settings.batch_size)
    chances = held_out_probabilities(task, shard, parameters, size, capacity.device)
    return of_metrics(task.measures(chances, shard.held_out.labels))


def held_out_probabilities(
    task: Task, shard: Shard, parameters: Blob, size: int, device: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 [held-out rows, labels], computed `size` rows at a time."""
    _deterministic(bytes(32))
    return task.scored(parameters, shard.held_out, size=size, device=device)


def of_metrics(metrics: Mapping[str, Metric]) -> Contribution:
    """Metrics as a step sends them: for the sum, and as figures of this participant alone."""
    return Contribution({}, metrics, {name: metric.total / metric.weight for name, metric in metrics.items()})
