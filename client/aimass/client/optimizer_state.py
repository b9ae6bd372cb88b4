"""An optimiser's moments as a section of the local state: what a participant keeps where the plan says so."""

from __future__ import annotations

import torch

from aimass.client.local_state import Section
from aimass.proto.errors import BadInput

__all__ = ["OPTIMIZER", "moments_of", "restore_optimizer"]

OPTIMIZER = "optimizer"


def moments_of(optimizer: torch.optim.Optimizer) -> Section:
    """Every tensor of the optimiser's state, named `POSITION/KEY` after its parameter's position and torch's key."""
    state = optimizer.state_dict()["state"]
    return {
        f"{position}/{key}": value
        for position, held in state.items()
        for key, value in held.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, moments: Section) -> None:
    """Put back what `moments_of` gave; raises `BadInput` where it was kept for another model."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, held in moments.items():
        position, _, key = name.partition("/")
        fits = position.isdigit() and int(position) < len(parameters)
        if not fits or (held.dim() and held.shape != parameters[int(position)].shape):
            raise BadInput("the kept optimiser is of another model", code="trainer.local_state", value=name)
        state.setdefault(int(position), {})[key] = held
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
