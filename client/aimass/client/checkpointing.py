"""Gradient checkpointing: what named layers computed on the way forward is computed again on the way back, not kept.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3: memory for activations falls to those
between the layers and those of one layer, for about one more forward pass. Gradients are the same to the last bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from aimass.client.batch_gradients import batch_norms
from aimass.proto.errors import BadInput, Refused

__all__ = ["checkpointed"]


@contextlib.contextmanager
def checkpointed(model: torch.nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """While the block runs, the layers whose names match a pattern (`encoder.layers.*`) keep none of their activations.

    A layer inside of another one of them is part of it. Raises `BadInput` for a pattern that no layer matches,
    `Refused` for a layer that keeps statistics of what it sees: it would see everything twice.
    """
    chosen = _layers(model, patterns)
    for name, layer in chosen.items():
        if (norm := next(batch_norms(layer), None)) is not None:
            raise Refused(
                "a checkpointed layer has batch norm, which would count each batch twice",
                code="trainer.checkpoint_norm",
                value=f"{name}.{norm}".rstrip("."),
                cure="Leave that layer out of the task's `checkpointed`, or use group norm.",
            )
    for layer in chosen.values():
        # On the instance, and taken away again: a layer that holds itself would not go when the model does.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in chosen.values():
            del layer.forward


def _layers(model: torch.nn.Module, patterns: Sequence[str]) -> dict[str, torch.nn.Module]:
    """The outermost layers whose names match."""
    modules = {name: module for name, module in model.named_modules() if name}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in modules):
            raise BadInput(
                "the task checkpoints a layer that its model has not",
                code="task.checkpointed",
                value=pattern,
                limit=", ".join(name for name, _ in model.named_children()),
            )
    chosen: dict[str, torch.nn.Module] = {}
    for name, module in modules.items():
        inner = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inner and any(fnmatchcase(name, pattern) for pattern in patterns):
            chosen[name] = module
    return chosen
