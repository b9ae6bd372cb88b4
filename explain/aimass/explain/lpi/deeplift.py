"""DeepLift, where it can be trusted: captum gives wrong maps without a word for some networks, which are refused here.

captum replaces the gradients of modules as they are called. An activation that is a function (`torch.relu`) is no
module and keeps its plain gradient; one module that is called twice keeps the inputs of one call alone. Both are found
before anything is attributed, and the sum is held against the change of the score afterwards (Shrikumar et al. 2017,
summation to delta).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.gradients import COMPLETENESS, completeness
from aimass.explain.lpi.maps import LogOdds, as_tensor
from aimass.explain.words import joined, percent
from aimass.proto.errors import BadInput

if TYPE_CHECKING:
    import torch

__all__ = ["deeplift", "why_not_deeplift"]

_ACTIVATIONS: Final = ("ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus", "MaxPool2d")
"""Modules that captum has rules for."""
_FUNCTIONS: Final = ("relu", "relu_", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "max_pool2d", "gelu", "silu")


def deeplift(
    score: LogOdds, pixels: npt.NDArray[np.uint8], baseline: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """The map [h, w] by DeepLift's rescale rule; raises `BadInput`, with the reason, where captum would be wrong."""
    import torch  # noqa: PLC0415
    from captum.attr import DeepLift  # noqa: PLC0415

    if reason := why_not_deeplift(score.network, as_tensor(pixels)):
        raise _refused(reason)
    whole = _Whole(score)
    x, z = as_tensor(pixels), as_tensor(baseline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it hooks the modules, which it then frees
        found = DeepLift(whole).attribute(x, baselines=z).detach().double()
    with torch.no_grad():
        missed = completeness(float(found.sum()), float(whole(x) - whole(z)))
    if missed > COMPLETENESS:
        raise _refused(f"its sum misses the change of the score by {percent(missed)}")
    values: npt.NDArray[np.float64] = found.numpy()[0].sum(axis=0)
    return values


def why_not_deeplift(network: torch.nn.Module, example: torch.Tensor) -> str:
    """Why captum's DeepLift would be wrong for a network, told by one `example`; empty where nothing is known."""
    import torch  # noqa: PLC0415
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415

    called: Counter[str] = Counter()
    inside: list[str] = []
    functions: set[str] = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            if not inside and name in _FUNCTIONS:
                functions.add(name)
            return func(*args, **(kwargs or {}))

    with _watched(network, called, inside), torch.no_grad(), Watch():
        network(example)
    twice = sorted(name for name, times in called.items() if times > 1)
    if twice:
        return f"{joined(twice)} called more than once: give each place in the network an activation of its own"
    if functions:
        return f"{joined(sorted(functions))} called as a function: make each a module, as torch.nn.ReLU()"
    return ""


@contextmanager
def _watched(network: torch.nn.Module, called: Counter[str], inside: list[str]) -> Iterator[None]:
    """Count calls of activations by their name, and know when one is underway."""

    def before(name: str) -> Any:
        def hook(*_: object) -> None:
            called[name] += 1
            inside.append(name)

        return hook

    def after(*_: object) -> None:
        inside.pop()

    hooks = []
    for name, module in network.named_modules():
        if type(module).__name__ in _ACTIVATIONS:
            hooks += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _Whole(score: LogOdds) -> torch.nn.Module:  # noqa: N802  (a class, made late)
    """The class's logit less the mean of all: linear in the logits, which DeepLift's rules pass through exactly."""
    import torch  # noqa: PLC0415

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = score.network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.network(pixels)
            apart = logits[:, score.place] - logits.mean(dim=1)
            found: torch.Tensor = (
                apart if score.region is None else apart[:, torch.from_numpy(score.region)].mean(dim=1)
            )
            return found

    return Whole()


def _refused(reason: str) -> BadInput:
    return BadInput(
        f"DeepLift would be wrong for this network: {reason}",
        code="explain.deeplift",
        cure="Or ask for integrated gradients, which hold for any network.",
    )
