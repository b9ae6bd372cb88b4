"""Training by several processes in lockstep, each over shards of its own: a step is one batch over all of them.

Synchronous data parallelism (Li et al. 2020, "PyTorch Distributed", section 3): every process adds up the gradient of
its part of the batch, the sum over all is divided by the rows of all, and each takes the same optimiser step. So it is
plain SGD over the pooled rows, in an order that the number of processes decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from aimass.client.batch_gradients import batch_norms
from aimass.client.local_state import State, pack_state, section_of
from aimass.client.optimizer_state import OPTIMIZER, moments_of, restore_optimizer
from aimass.client.ranks import Ranks
from aimass.client.shards import Shard
from aimass.client.trainer import on_one_thread, optimizer_of, update_of
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import TrainSettings
from aimass.proto.task import Task, load_parameters
from aimass.proto.tensors import Blob

__all__ = ["Shards", "train_together"]

Shards = Callable[[], Iterator[Shard]]
"""This process's shards, one after the other: a new pass with each call."""
_Loss = Callable[[], tuple[torch.Tensor, int]]


def train_together(
    task: Task,
    shards: Shards,
    parameters: Blob,
    local_state: State,
    seed: bytes,
    settings: TrainSettings,
    ranks: Ranks,
) -> tuple[Contribution, bytes]:
    """As `trainer.train`, by all `ranks` at once: what each returns is the same, and counts once.

    A pass ends when all have had all of their rows. Raises `Refused` for a model that ties the rows of a batch
    together, `BadInput` for fewer rows in a batch than there are processes, and where training diverged.
    """
    on_one_thread(deterministic=True)
    torch.manual_seed((int.from_bytes(seed[:8], "big") >> 1) + ranks.rank)
    model = task.build()
    load_parameters(model, parameters)
    _check(model, settings, ranks)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_of(trained, settings)
    if settings.keep_optimizer:
        restore_optimizer(optimizer, section_of(local_state, OPTIMIZER))
    generator = np.random.Generator(np.random.PCG64([int.from_bytes(seed[8:], "big"), ranks.rank]))
    size = settings.batch_size // ranks.count + (ranks.rank < settings.batch_size % ranks.count)
    steps = passes = 0
    while settings.epochs is None or passes < settings.epochs:
        losses = _losses(task, model, shards(), size, generator)
        while settings.steps is None or steps < settings.steps:
            optimizer.zero_grad(set_to_none=True)
            if not _summed(next(losses, None), trained, ranks):
                break
            if settings.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
            optimizer.step()
            steps += 1
        passes += 1
        if settings.steps is not None and steps >= settings.steps:
            break
    optimizer.zero_grad(set_to_none=True)
    state = pack_state({OPTIMIZER: moments_of(optimizer) if settings.keep_optimizer else {}})
    return update_of(model, parameters, 1.0, settings), state


def _check(model: torch.nn.Module, settings: TrainSettings, ranks: Ranks) -> None:
    if settings.batch_size < ranks.count:
        raise BadInput(
            "a batch has fewer rows than there are processes to share them",
            code="trainer.batch_size",
            value=settings.batch_size,
            limit=f">= {ranks.count}",
            cure="Raise train.batch_size, or use fewer processes.",
        )
    for name in batch_norms(model):
        raise Refused(
            "the model has batch norm, so a batch cannot be shared by processes",
            code="trainer.batch_norm",
            value=name,
            cure="Use group norm, or average the shards' models.",
        )


def _losses(
    task: Task, model: torch.nn.Module, shards: Iterator[Shard], size: int, generator: np.random.Generator
) -> Iterator[_Loss]:
    """For each of this process's parts of batches, what computes the sum of its losses, and how many rows it has."""
    for shard in shards:
        labels, inputs = torch.from_numpy(shard.train.labels), task.inputs(shard.train)
        order = torch.from_numpy(generator.permutation(len(labels)))
        for rows in torch.split(order, size):

            def loss(rows: torch.Tensor = rows) -> tuple[torch.Tensor, int]:
                mean = task.loss(model(*(argument[rows] for argument in inputs)), labels[rows])  # noqa: B023
                return mean * len(rows), len(rows)

            yield loss


def _summed(loss: _Loss | None, parameters: Sequence[torch.nn.Parameter], ranks: Ranks) -> int:
    """Give every parameter the gradient of the mean loss over all processes' rows; how many those are.

    Who has no rows left adds nothing, and waits for the others.
    """
    count = 0
    if loss is not None:
        total, count = loss()
        total.backward()  # type: ignore[no-untyped-call]
    flat = [torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in parameters]
    rows = torch.tensor([float(count)], dtype=flat[0].dtype)
    sums = ranks.summed(torch.cat([*flat, rows]))
    everywhere = int(sums[-1].item())
    if everywhere:
        for parameter, part in zip(parameters, torch.split(sums[:-1], [len(part) for part in flat]), strict=True):
            parameter.grad = (part / everywhere).reshape(parameter.shape).to(parameter.dtype)
    return everywhere
