"""Sums of clipped gradients for DP-SGD: each row's, or each person's, bounded in L2 norm before it meets another's.

One forward pass, one backward pass to the outputs of the layers, and no gradient of a weight but the clipped sum. What
a layer's output gets back and what went in give each row's gradient by Opacus's rule for the layer, or its norm alone
where that takes less memory (ghost clipping: Goodfellow 2015; Li et al. 2022, section 4; the second backward pass is
saved as in Bu et al. 2023, "book-keeping"). Norms and sum are made from the same numbers: what a hook did not see is in
neither, so a sum is of vectors no longer than the bound whatever the model does with its parameters, as long as a row's
outputs are its own. `private_checks` tries that, and that nothing was missed.

A person's gradient is the mean of its rows' gradients. Where ghosts serve, its rows are taken for positions of one row;
elsewhere the rows' gradients are made, and their means.

Norms and sums are float64, and right to 1e-9 of the bound for what went into them. What does is float32, and a kernel
may round one row's part otherwise beside other rows: an accountant is told of that (`private_terms.ROUNDING`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from opacus.grad_sample.functorch import ft_compute_per_sample_gradient, prepare_layer
from opacus.layers.dp_rnn import DPGRU, DPLSTM, DPRNN

from aimass.proto.errors import Refused
from aimass.proto.task import Task, usual_loss

__all__ = ["ClippedSums", "row_losses", "trained"]

_CANCEL: Final = 1e3
"""A row whose positions, or a person whose rows, cancel to less than one in so many of themselves is scaled down
further: each is right to some 1e-7 in float32, and so what is left of them to 1e-4 of the clip."""

Parameter = torch.nn.Parameter
Sampler = Callable[[torch.nn.Module, list[torch.Tensor], torch.Tensor], Mapping[Parameter, torch.Tensor]]
_CONTAINERS: Final = (DPRNN, DPLSTM, DPGRU)


def trained(model: torch.nn.Module) -> dict[str, Parameter]:
    """The parameters that training changes, by name: the only thing that differential privacy here is about."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def row_losses(task: Task, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[n]: the loss of each row alone, so that no loss can tie one row's gradient to another's."""
    if type(task).loss is Task.loss:
        return usual_loss(task.schema, outputs, labels, "none")
    return torch.stack([task.loss(outputs[row : row + 1], labels[row : row + 1]) for row in range(len(labels))])


@dataclasses.dataclass(frozen=True, slots=True)
class _Pass:
    """One call of a layer: what went in, and where in the graph its output is."""

    layer: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    edge: Any


class ClippedSums:
    """Adds up clipped gradients of one model's rows, in float64, parameter by parameter in the model's order.

    The model must be in training mode when it is called. Its hooks stay until `close`.
    """

    def __init__(self, model: torch.nn.Module, clip: float) -> None:
        self._clip = clip
        self._parameters = tuple(trained(model).values())
        starts = [0]
        for parameter in self._parameters:
            starts.append(starts[-1] + parameter.numel())
        self.count = starts[-1]
        self._places = {
            parameter: slice(start, end)
            for parameter, start, end in zip(self._parameters, starts, starts[1:], strict=False)
        }
        self._passes: list[_Pass] = []
        layers = [layer for layer in _layers(model) if not isinstance(layer, _CONTAINERS)]
        for layer in layers:  # copies are made for some: before there is a hook to copy
            if type(layer) not in GradSampleHooks.GRAD_SAMPLERS:
                prepare_layer(layer)
        self._hooks = [layer.register_forward_hook(self._capture) for layer in layers]

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def zeros(self) -> torch.Tensor:
        """A sum of no rows: float64 [count] on the parameters' device."""
        return torch.zeros(self.count, dtype=torch.float64, device=self._parameters[0].device)

    def parts(self, total: torch.Tensor) -> Iterator[tuple[Parameter, torch.Tensor]]:
        """Each parameter with its part of a sum, in its shape."""
        for parameter, place in self._places.items():
            yield parameter, total[place].view_as(parameter)

    @torch.no_grad()
    def add(self, total: torch.Tensor, losses: torch.Tensor, persons: torch.Tensor | None = None) -> torch.Tensor:
        """Add each row's gradient, clipped, to `total`; the norms [n] that they had before, which are data.

        `losses` [n] come from one call of the model. With `persons` [n], whose each row is, ascending from 0 without a
        gap, the mean of each person's rows is clipped, and the norms are those of the persons. A row or person whose
        gradient is not finite counts as none.
        """
        gradients = self._gradients(losses, None if persons is None else _Persons.of(persons))
        norms = torch.stack([part.norms().double() for part in gradients]).norm(dim=0) if gradients else losses * 0
        longest = torch.maximum(norms, sum((part.spread() for part in gradients), norms * 0) / _CANCEL)
        finite = longest.isfinite()
        if not finite.all():
            for part in gradients:
                part.drop(~finite)
        factors = torch.where(finite, (self._clip / longest).clamp(max=1), 0)
        for part in gradients:
            for parameter, value in part.summed(factors):
                total[self._places[parameter]] += value.reshape(-1)
        return norms

    def _capture(self, layer: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not torch.is_grad_enabled() or not isinstance(output, torch.Tensor) or not output.requires_grad:
            return
        # The edge, not the tensor: what changes the output in place afterwards is another node of the graph.
        held = tuple(value.detach() for value in inputs if isinstance(value, torch.Tensor))
        self._passes.append(_Pass(layer, held, _versions(held), torch.autograd.graph.get_gradient_edge(output)))

    def _gradients(self, losses: torch.Tensor, persons: _Persons | None) -> list[_Ghost | _Whole]:
        """What each parameter of each layer gets from the rows, or from the persons."""
        passes, self._passes = self._passes, []
        if not passes:
            return []
        backs = torch.autograd.grad(losses, [one.edge for one in passes], torch.ones_like(losses), allow_unused=True)
        used = [(one, back) for one, back in zip(passes, backs, strict=True) if back is not None]
        uses = Counter(parameter for one, _ in used for parameter in _own(one.layer))
        found: list[_Ghost | _Whole] = []
        whole: dict[Parameter, torch.Tensor] = {}
        for one, back in used:
            if _versions(one.inputs) != one.versions:
                raise _changed(one.layer)
            if back.shape[0] != len(losses) or one.inputs[0].shape[0] != len(losses):
                raise _rows(one.layer)
            back = _unpadded(one, back)  # noqa: PLW2901  (the same gradient, where it is one)
            if all(uses[parameter] == 1 for parameter in _own(one.layer)) and _known(one.layer, back):
                ghost = (one.inputs[0], back) if persons is None else persons.together(one.inputs[0], back)
                if _smaller(one.layer, *ghost):
                    found.append(_Ghost(one.layer, *ghost))
                    continue
            for parameter, value in _sampler(one.layer)(one.layer, list(one.inputs), back).items():
                if parameter.requires_grad:  # of a layer that was called before, or a parameter that two layers share
                    whole[parameter] = whole[parameter] + value if parameter in whole else value
        return [*found, *(_Whole(parameter, value, persons) for parameter, value in whole.items())]


@dataclasses.dataclass(frozen=True, slots=True)
class _Persons:
    """Whose rows are: each row's person [n] and its place among that person's [n], and how many rows each has."""

    owners: torch.Tensor
    places: torch.Tensor
    counts: torch.Tensor

    @staticmethod
    def of(owners: torch.Tensor) -> _Persons:
        counts = torch.bincount(owners)
        starts = counts.cumsum(0) - counts
        return _Persons(owners, torch.arange(len(owners), device=owners.device) - starts[owners], counts)

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """[persons, ...] of [n, ...]."""
        return rows.new_zeros((len(self.counts), *rows.shape[1:])).index_add_(0, self.owners, self._shares(rows))

    def together(self, inputs: torch.Tensor, back: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[persons, positions, ...] of [n, ...] or [n, positions, ...]: places without a row give nothing back."""
        inputs, back = self._padded(inputs), self._padded(self._shares(back))
        return (inputs, back) if back.dim() == 3 else (inputs.flatten(1, 2), back.flatten(1, 2))

    def _shares(self, rows: torch.Tensor) -> torch.Tensor:
        return rows / self.counts[self.owners].view(-1, *[1] * (rows.dim() - 1))

    def _padded(self, rows: torch.Tensor) -> torch.Tensor:
        padded = rows.new_zeros((len(self.counts), int(self.counts.max()), *rows.shape[1:]))
        padded[self.owners, self.places] = rows
        return padded


class _Whole:
    """Every row's or person's gradient of a parameter, from that of every row: [n, *shape]."""

    def __init__(self, parameter: Parameter, rows: torch.Tensor, persons: _Persons | None) -> None:
        self._parameter, self._values = parameter, rows.flatten(1).double()
        self._spread = self._values.new_zeros(len(rows))
        if persons is not None:
            self._spread = persons.mean(self.norms())
            self._values = persons.mean(self._values)

    def norms(self) -> torch.Tensor:
        norms: torch.Tensor = torch.linalg.vector_norm(self._values, dim=1)
        return norms

    def spread(self) -> torch.Tensor:
        return self._spread

    def drop(self, rows: torch.Tensor) -> None:
        self._values[rows] = 0

    def summed(self, factors: torch.Tensor) -> Iterator[tuple[Parameter, torch.Tensor]]:
        yield self._parameter, factors @ self._values


class _Ghost:
    """Input and gradient of the output of a layer, whose product is each row's gradient: it is never made."""

    def __init__(self, layer: torch.nn.Module, inputs: torch.Tensor, back: torch.Tensor) -> None:
        self._spread = _spread(inputs, back)
        self._layer, self._back = layer, back.double()
        self._inputs = inputs.double() if inputs.is_floating_point() else inputs

    def norms(self) -> torch.Tensor:
        sampler = GradSampleHooksFastGradientClipping.NORM_SAMPLERS[type(self._layer)]
        # In float64: positions may cancel, and the square of the norm is then a small difference of large numbers,
        # which float32 finds too small, or zero.
        found = sampler(self._layer, [self._inputs], self._back)
        norms: torch.Tensor = torch.stack([found[parameter] for parameter in _own(self._layer)]).norm(dim=0)
        return norms

    def spread(self) -> torch.Tensor:
        return self._spread

    def drop(self, rows: torch.Tensor) -> None:
        self._back[rows] = 0
        if self._inputs.is_floating_point():
            self._inputs[rows] = 0

    def summed(self, factors: torch.Tensor) -> Iterator[tuple[Parameter, torch.Tensor]]:
        shape = (-1, *[1] * (self._back.dim() - 1))
        if isinstance(self._layer, torch.nn.Embedding):
            scaled = (self._back * factors.view(shape)).flatten(0, -2)
            weight = cast("Parameter", self._layer.weight)
            yield weight, torch.zeros_like(weight, dtype=scaled.dtype).index_add_(0, self._inputs.reshape(-1), scaled)
            return
        layer = cast("torch.nn.Linear", self._layer)
        if layer.weight.requires_grad:
            back, inputs = self._back, self._inputs
            if back.shape[-1] < inputs.shape[-1]:  # the smaller is scaled
                back = back * factors.view(shape)
            else:
                inputs = inputs * factors.view(shape)
            yield cast("Parameter", layer.weight), back.flatten(0, -2).T @ inputs.flatten(0, -2)
        if layer.bias is not None and layer.bias.requires_grad:
            yield layer.bias, factors @ (self._back if self._back.dim() == 2 else self._back.sum(1))


def _spread(inputs: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """float64 [n]: the norms of what each position adds to a row's gradient, added up; 0 for one position."""
    if back.dim() == 2:
        return torch.zeros(len(back), dtype=torch.float64, device=back.device)
    sizes = torch.einsum("ntd,ntd->nt", back, back).sqrt()
    if inputs.is_floating_point():
        sizes *= torch.einsum("ntd,ntd->nt", inputs, inputs).sqrt().to(sizes.dtype)
    return sizes.sum(1).double()


def _layers(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """What Opacus computes by itself: layers with trained parameters, whole where it has no rule for them."""
    own = bool(_own(module, recurse=False))
    if own:
        yield module
    if own and type(module) not in GradSampleHooks.GRAD_SAMPLERS and not isinstance(module, _CONTAINERS):
        return
    for child in module.children():
        yield from _layers(child)


def _own(layer: torch.nn.Module, *, recurse: bool = True) -> list[Parameter]:
    return [parameter for parameter in layer.parameters(recurse) if parameter.requires_grad]


def _versions(values: tuple[torch.Tensor, ...]) -> tuple[int, ...]:
    """How often each was written to; torch has no public name for what its own backward pass checks by."""
    return tuple(value._version for value in values)  # noqa: SLF001


def _unpadded(one: _Pass, back: torch.Tensor) -> torch.Tensor:
    """Without what an embedding's padding got, which torch trains no row by, and Opacus does."""
    if isinstance(one.layer, torch.nn.Embedding) and one.layer.padding_idx is not None:
        return back.masked_fill((one.inputs[0] == one.layer.padding_idx).unsqueeze(-1), 0)
    return back


def _sampler(layer: torch.nn.Module) -> Sampler:
    return cast("Sampler", GradSampleHooks.GRAD_SAMPLERS.get(type(layer), ft_compute_per_sample_gradient))


def _known(layer: torch.nn.Module, back: torch.Tensor) -> bool:
    """Whether a layer's norms can be found without its gradients: Opacus's rule for Linear knows no other, and says
    nothing."""
    return type(layer) in (torch.nn.Linear, torch.nn.Embedding) and back.dim() in (2, 3)


def _smaller(layer: torch.nn.Module, inputs: torch.Tensor, back: torch.Tensor) -> bool:
    """Whether they are better found so: of n positions that takes n^2 products."""
    positions = back.shape[1] if back.dim() == 3 else 1
    return type(layer) is torch.nn.Embedding or 2 * positions**2 <= back.shape[-1] * inputs.shape[-1]


def _changed(layer: torch.nn.Module) -> Refused:
    return Refused(
        "the input of a layer is changed in place after the layer has read it: its gradients cannot be had row by row",
        code="private.inplace",
        value=type(layer).__name__,
        cure="Use the form that makes a new tensor (x + y for x += y).",
    )


def _rows(layer: torch.nn.Module) -> Refused:
    return Refused(
        "a layer does not keep the rows of a batch apart in its first dimension",
        code="private.rows",
        value=type(layer).__name__,
        cure="Keep the batch first, one row of the batch to one row of every layer.",
    )
