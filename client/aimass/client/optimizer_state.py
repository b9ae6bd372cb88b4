"""An optimiser's moments as one canonical blob: what a participant keeps between steps where the plan says so."""

from __future__ import annotations

import torch

from aimass.proto.errors import BadInput
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["restore_optimizer", "store_optimizer"]


def store_optimizer(optimizer: torch.optim.Optimizer) -> bytes:
    """Every tensor of the optimiser's state, named `POSITION/KEY` after its parameter's position and torch's key."""
    state = optimizer.state_dict()["state"]
    return encode_torch(
        {
            f"{position}/{key}": value
            for position, held in state.items()
            for key, value in held.items()
            if isinstance(value, torch.Tensor)
        }
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, blob: Blob) -> None:
    """Put back what `store_optimizer` kept; raises `BadInput` where it was kept for another model."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for spec in blob.layout.tensors:
        position, _, key = spec.name.partition("/")
        held = blob.torch(spec.name).clone()
        fits = position.isdigit() and int(position) < len(parameters)
        if not fits or (held.dim() and held.shape != parameters[int(position)].shape):
            raise BadInput("the kept optimiser is of another model", code="trainer.local_state", value=spec.name)
        state.setdefault(int(position), {})[key] = held
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
