"""Whether a task's model can be trained row by row: layers refused by name, and the model tried on rows of chance.

Differential privacy for a row rests on two things that no accountant can see: that a row's outputs do not depend on the
rows beside it, and that each row's gradient is known whole. Layers that break either are named with what replaces them;
then the model is run on synthetic rows of the task's schema, with parameters of chance, and compared with itself beside
other rows, and with plain gradients of one row at a time. It is a trial, not a proof: code that means to deceive is the
business of who approves its digest.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch

from aimass.client.private_gradients import ClippedSums, row_losses, trained
from aimass.proto.checks import Finding, State, fault, good, of_error
from aimass.proto.errors import AimassError, Refused
from aimass.proto.private_layers import counterpart, private_layers
from aimass.proto.rows import Batch
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task

__all__ = ["private_findings", "replacement", "require_private"]

_ROWS: Final = 5
_CLOSE: Final = 1e-3
"""Relative; float32 differs by a hundredth of it, a row that is left out by all of it."""
_WIDE: Final = 1e30
_NORM: Final = "ties the rows of a batch together, or keeps statistics of them"
_HIDING: Final = (torch.nn.RNNBase, torch.nn.MultiheadAttention)
_EMBEDDING: Final = ("max_norm", "scale_grad_by_freq", "sparse")


def require_private(task: Task) -> None:
    """Raise `Refused` with the first reason why `task` cannot be trained with differential privacy for a row."""
    for finding in private_findings(task):
        if finding.state is State.FAULT:
            raise Refused(f"this task cannot be trained privately: {finding.what}", code=finding.code, cure=finding.fix)


def private_findings(task: Task, build: Callable[[], torch.nn.Module] | None = None) -> Iterator[Finding]:
    """What stands in the way of the task's model, or of the one that `build` makes for it; where nothing does, one
    finding that says so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (build or task.build)().train()
        found = [*_dtypes(model), *_layers(model)] or list(_tried(task, model))
    yield from found or [good("private training", "each row's gradient is its own and can be clipped")]


def replacement(task: Task) -> str:
    """The model as it prints itself and as it would with every layer replaced that has a counterpart: a diff."""
    before, after = (str(model).splitlines() for model in (task.build(), private_layers(task.build())))
    return "\n".join(difflib.unified_diff(before, after, "model", "private", lineterm="", n=1))


def _dtypes(model: torch.nn.Module) -> Iterator[Finding]:
    own = trained(model)
    if not own:
        yield fault("private training", "private.nothing", "the model has no trained parameter", "Train one.")
    for name, parameter in own.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            what = (
                f"parameter `{name}` is {str(parameter.dtype).removeprefix('torch.')}: its sums are too coarse to clip"
            )
            yield fault("private training", "private.dtype", what, "Keep trained parameters in float32.")


def _layers(model: torch.nn.Module) -> Iterator[Finding]:
    """Every layer, frozen ones too: a batch norm without parameters ties rows together all the same."""
    for name, module in model.named_modules():
        called = f"layer `{name or 'model'}` ({type(module).__name__})"
        other = counterpart(module)
        fix = f"Put {other.code} in its place." if other is not None else _without(module)
        if isinstance(module, torch.nn.modules.batchnorm._NormBase) and (  # noqa: SLF001  (the base of all such)
            isinstance(module, torch.nn.modules.batchnorm._BatchNorm) or module.track_running_stats  # noqa: SLF001
        ):
            yield fault("private training", "private.layer", f"{called} {_NORM}", fix)
        elif trained(module) and isinstance(module, _HIDING):
            yield fault("private training", "private.layer", f"{called} has no gradient of a single row", fix)
        elif isinstance(module, torch.nn.Embedding) and any(getattr(module, option) for option in _EMBEDDING):
            what = f"{called} has one of {', '.join(_EMBEDDING)}, which look at all rows of a batch"
            yield fault("private training", "private.layer", what, "Build it without.")


def _without(module: torch.nn.Module) -> str:
    if isinstance(module, torch.nn.MultiheadAttention) and not module.batch_first:
        return "Build it with batch_first=True, and look again: a row of the batch has to come first."
    return f"Build the model without {type(module).__name__}."


def _tried(task: Task, model: torch.nn.Module) -> Iterator[Finding]:
    with torch.no_grad():
        for parameter in model.parameters():  # layers that begin at zero would hide what lies before them
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield from _alone(task, model)
        yield from _whole(task, model)
    except AimassError as error:
        yield of_error("private training", error)
    except Exception as error:  # noqa: BLE001  (whatever a task raises is a finding)
        what = f"the gradients of single rows cannot be computed: {type(error).__name__} on synthetic rows"
        yield fault("private training", "private.gradients", what, f"See what it says: {str(error)[:300]}")
    for name, value in model.state_dict().items():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            what = f"`{name}` changes when rows pass through: it holds what noise does not cover"
            yield fault("private training", "private.buffers", what, "Keep no statistics of rows in the model.")


def _outputs(task: Task, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Under one seed, so that dropout falls the same way every time."""
    torch.manual_seed(1)
    outputs: torch.Tensor = model(*task.inputs(batch))
    return outputs


def _alone(task: Task, model: torch.nn.Module) -> Iterator[Finding]:
    """A row's outputs beside other rows: they are its own, or the model mixes them."""
    one, other = (synthetic_rows(task.schema, _ROWS, seed) for seed in (1, 2))
    for kept in (0, _ROWS - 1):
        mixed = Batch(
            *(
                None if theirs is None else np.concatenate([theirs[:kept], ours[kept : kept + 1], theirs[kept + 1 :]])  # type: ignore[arg-type, index]
                for ours, theirs in zip(_columns(one), _columns(other), strict=True)
            )
        )
        with torch.no_grad():
            first, second = (_outputs(task, model, batch)[kept] for batch in (one, mixed))
        if not torch.allclose(first, second, rtol=_CLOSE, atol=_CLOSE * float(first.abs().max())):
            what = "a row's outputs depend on the rows beside it"
            yield fault("private training", "private.mixed", what, "Compute nothing over the batch's first dimension.")
            return


def _columns(batch: Batch) -> tuple[np.ndarray | None, ...]:
    return batch.numbers, batch.categories, batch.images, batch.labels, batch.texts


def _whole(task: Task, model: torch.nn.Module) -> Iterator[Finding]:
    """Norms and sum as they are computed in training, against plain gradients of one row at a time."""
    batch = synthetic_rows(task.schema, _ROWS, 3)
    labels = torch.from_numpy(batch.labels)
    losses = row_losses(task, _outputs(task, model, batch), labels)
    own = tuple(trained(model).values())
    plain = torch.stack(
        [
            torch.cat([part.reshape(-1).double() for part in torch.autograd.grad(
                loss, own, retain_graph=True, allow_unused=True, materialize_grads=True
            )])
            for loss in losses
        ]
    )  # fmt: skip
    sums = ClippedSums(model, _WIDE)
    try:
        total = sums.zeros()
        norms = sums.add(total, row_losses(task, _outputs(task, model, batch), labels))
    finally:
        sums.close()
    wrong = (norms - plain.norm(dim=1)).abs().max() + (total - plain.sum(0)).norm()
    if not wrong <= _CLOSE * plain.norm():
        what = "gradients of single rows come out wrong: a parameter is used outside its layer, or a layer hides it"
        yield fault("private training", "private.gradients", what, "Call each layer as a module, with one tensor.")
