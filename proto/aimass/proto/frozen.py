"""A base's tensors inside a task's model: there to compute with, and no part of what is trained, sent or stored.

Like `networks` it needs torch, and only tasks load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

from aimass.proto.errors import BadInput
from aimass.proto.tensors import Blob, odd_forms, torch_forms

__all__ = ["freeze", "frozen", "unmade"]

_MARK: Final = "frozen_tensors"
_DRAWS: Final = (torch.Tensor.normal_, torch.Tensor.uniform_)


class _Nothing(TorchFunctionMode):
    """Draws nothing: who has no memory needs no numbers, and for some of them torch would load its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", "") == torch.nn.init.__name__:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def unmade() -> Iterator[None]:
    """Modules that are made meanwhile allocate nothing, for `freeze` to fill."""
    with torch.device("meta"), _Nothing():
        yield


def freeze(module: torch.nn.Module, base: Blob) -> None:
    """Put a base's tensors in the place of `module`'s own, over the blob's bytes: nothing is copied.

    They become buffers outside the state dict, so the parameters of a run are what the model has beside them; `module`
    is best made within `unmade`. Names are those of its state dict. Nobody may write
    to them: the bytes are mapped read-only, and a write ends the process.

    Raises `BadInput` where names, shapes or dtypes are not the base's.
    """
    state = module.state_dict()
    if odd := odd_forms(base.layout.shapes(), torch_forms(state)):
        raise BadInput(
            "the base is another model's",
            code="base.tensors",
            value=", ".join(odd[:5]),
            cure="Give `freeze` the module that the base was stored from, before anything is added to it.",
        )
    for name in state:
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        delattr(owner, leaf)
        owner.register_buffer(leaf, base.torch(name), persistent=False)
        setattr(owner, _MARK, (*getattr(owner, _MARK, ()), leaf))


def frozen(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that `freeze` put into a model, by their names in it."""
    return {
        f"{path}.{leaf}" if path else leaf: owner.get_buffer(leaf)
        for path, owner in model.named_modules()
        for leaf in getattr(owner, _MARK, ())
    }
