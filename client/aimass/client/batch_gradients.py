"""The gradient of a batch's mean loss where the batch does not fit: in pieces, one after the other and over ranks.

A piece of n of the batch's N rows counts n/N, so the sum over all pieces is the gradient of the whole batch up to
rounding, however it was cut (gradient accumulation; data parallelism as in Li et al. 2020, PyTorch Distributed, section
3). That holds for losses that are means over rows and models that keep rows apart: batch norm does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from aimass.client.capacity import Capacity
from aimass.proto.errors import Refused

__all__ = ["add_gradient", "batch_norms", "check_divisible"]


def add_gradient(
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor,
    parameters: Sequence[torch.nn.Parameter],
    capacity: Capacity,
    *,
    parts: int = 1,
    mixed_precision: bool = False,
) -> None:
    """Add the gradient of the mean loss over the rows of a batch, whose positions are `rows`, to `.grad`.

    `loss_of` gives the mean loss of some of the rows: of one of so many `parts` at most, and of no more than the
    `capacity` has room for. With `mixed_precision` it is computed in bfloat16 where torch
    holds that to be safe; gradients are in the parameters' own type.
    """
    ranks = capacity.ranks
    mine = rows.tensor_split(ranks.count)[ranks.rank]
    for piece in torch.split(mine, _at_once(len(rows), parts, capacity)):
        if len(piece):
            with torch.autocast(rows.device.type, torch.bfloat16, enabled=mixed_precision):
                loss = loss_of(piece)
            (loss * (len(piece) / len(rows))).backward()  # type: ignore[no-untyped-call]
    if ranks.count > 1:
        _sum(parameters, capacity)


def _at_once(rows: int, parts: int, capacity: Capacity) -> int:
    """Most rows of a batch of so many that go through the model together."""
    return min(capacity.at_once(rows), math.ceil(rows / parts))


def _sum(parameters: Sequence[torch.nn.Parameter], capacity: Capacity) -> None:
    """Every rank's gradients become the sum over ranks; what no rank used has none, as in one process."""
    flat = [torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in parameters]
    used = torch.tensor([p.grad is not None for p in parameters], dtype=flat[0].dtype, device=flat[0].device)
    total = capacity.ranks.summed(torch.cat([*flat, used]))
    parts = torch.split(total, [*(len(part) for part in flat), len(parameters)])
    for parameter, part, count in zip(parameters, parts[:-1], parts[-1].tolist(), strict=True):
        parameter.grad = part.reshape(parameter.shape).to(parameter.dtype) if count else None


def check_divisible(model: torch.nn.Module, batch_size: int, capacity: Capacity, parts: int = 1) -> None:
    """Raise `Refused` where batches must be cut and the model ties the rows of a batch together."""
    if capacity.whole(batch_size) and parts == 1:
        return
    for name in batch_norms(model):
        raise Refused(
            "the model has batch norm, so a batch cannot be cut into pieces",
            code="trainer.batch_norm",
            value=name,
            limit=f"{batch_size} rows at once, in one process",
            cure="In client.toml set child.batch_rows to 0 and child.ranks to 1; in the plan leave out "
            "`train.accumulate`, or ask for group norm.",
        )


def batch_norms(model: torch.nn.Module) -> Iterator[str]:
    """Names of the layers in which the rows of a batch meet."""
    kinds = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001  (the class of all its kinds)
    return (name for name, module in model.named_modules() if isinstance(module, kinds))
