"""Layers that keep rows apart in place of those that do not, for tasks that are trained with differential privacy.

A task passes its model through `private_layers` in `build`, so that whoever trains it and whoever predicts with it has
the same model. Like `networks` it needs torch, and only tasks load it.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple, cast

import torch
from torch import nn

__all__ = ["Attention", "Counterpart", "counterpart", "private_layers"]

_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS: Final = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_RECURRENT: Final = (nn.LSTM, nn.GRU, nn.RNN)
_MOST_GROUPS: Final = 16
_LEAST_CHANNELS: Final = 4


class Counterpart(NamedTuple):
    """A layer to take another's place, and the words that build it."""

    layer: nn.Module
    code: str


class Attention(nn.Module):
    """What `torch.nn.MultiheadAttention` computes with the batch first, by layers that each see one row at a time.

    Opacus 1.6 has one too, which with the batch first takes heads for positions.
    """

    batch_first = True
    in_proj_bias = None
    """So torch's encoder layers, which look for these, take no shortcut past the layers here."""

    def __init__(
        self, size: int, heads: int, dropout: float = 0.0, kdim: int | None = None, vdim: int | None = None,
        *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.query = nn.Linear(size, size, bias)
        self.key = nn.Linear(kdim or size, size, bias)
        self.value = nn.Linear(vdim or size, size, bias)
        self.out = nn.Linear(size, size, bias)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[n, positions, size], and the weights [n, positions, keys]."""
        layers = ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = (layer(x).view(*x.shape[:2], self._heads, -1).transpose(1, 2) for layer, x in layers)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if attn_mask is not None:
            scores = _masked(scores, attn_mask if attn_mask.dim() == 2 else attn_mask.view(scores.shape))
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask[:, None, None])
        weights = nn.functional.dropout(scores.softmax(-1), self._dropout, self.training)
        out: torch.Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        if not need_weights:
            return out, None
        return out, weights.mean(1) if average_attn_weights else weights

    @torch.no_grad()
    def take(self, other: nn.MultiheadAttention) -> None:
        """The parameters of torch's own."""
        whole = other.in_proj_weight
        parts = (other.q_proj_weight, other.k_proj_weight, other.v_proj_weight) if whole is None else whole.chunk(3)
        for layer, weight in zip((self.query, self.key, self.value), parts, strict=True):
            layer.weight.copy_(weight)
        if other.in_proj_bias is not None:
            for layer, bias in zip((self.query, self.key, self.value), other.in_proj_bias.chunk(3), strict=True):
                layer.bias.copy_(bias)
            self.out.bias.copy_(other.out_proj.bias)
        self.out.weight.copy_(other.out_proj.weight)


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A mask of truth values hides, one of numbers is added."""
    return scores.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else scores + mask


def private_layers(model: nn.Module) -> nn.Module:
    """`model` with every layer replaced that has a counterpart; it is changed in place.

    Recurrent and attention layers keep their parameters; norms, which lose the batch's statistics, begin anew.
    """
    made: dict[nn.Module, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module not in made and (found := counterpart(module)) is not None:
            made[module] = found.layer
        if module in made:
            if not name:
                return made[module]
            model.set_submodule(name, made[module])
    return model


def counterpart(module: nn.Module) -> Counterpart | None:
    """What takes a layer's place; None where it keeps rows apart as it is, or nothing fits."""
    kind = type(module)
    if isinstance(module, _BATCH_NORMS) and kind in _BATCH_NORMS:
        return _group_norm(module)
    if isinstance(module, _INSTANCE_NORMS) and kind in _INSTANCE_NORMS and module.track_running_stats:
        return _made(
            kind, f"torch.nn.{kind.__name__}", (module.num_features,), _options(module, eps=1e-5, affine=False)
        )
    if isinstance(module, _RECURRENT) and kind in _RECURRENT and not module.proj_size:
        return _recurrent(module)
    if isinstance(module, nn.MultiheadAttention) and kind is nn.MultiheadAttention:
        return _attention(module)
    return None


def _group_norm(module: nn.modules.batchnorm._BatchNorm) -> Counterpart:
    """Wu and He 2018. A group needs several numbers to have a mean; of flat features it is all of them."""
    channels = module.num_features
    flat = type(module) is nn.BatchNorm1d
    groups = 1 if flat else math.gcd(_MOST_GROUPS, max(channels // _LEAST_CHANNELS, 1), channels)
    return _made(nn.GroupNorm, "torch.nn.GroupNorm", (groups, channels), _options(module, eps=1e-5, affine=True))


def _recurrent(module: nn.RNNBase) -> Counterpart:
    import opacus.layers  # noqa: PLC0415  (seconds, for who needs it)

    name = f"DP{type(module).__name__}"
    options = _options(module, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False)
    if isinstance(module, nn.RNN):
        options |= _options(module, nonlinearity="tanh")
    sizes = (module.input_size, module.hidden_size)
    return _made(getattr(opacus.layers, name), f"opacus.layers.{name}", sizes, options, module)


def _attention(module: nn.MultiheadAttention) -> Counterpart | None:
    if not module.batch_first or module.bias_k is not None or module.add_zero_attn:
        return None
    size = module.embed_dim
    options = _options(module, dropout=0.0, kdim=size, vdim=size)
    if cast("torch.Tensor | None", module.in_proj_bias) is None:
        options["bias"] = False
    made = _made(Attention, "aimass.proto.private_layers.Attention", (size, module.num_heads), options)
    cast("Attention", made.layer).take(module)
    return made


def _options(module: nn.Module, **defaults: Any) -> dict[str, Any]:
    """What a layer was built with, but for what is so by default."""
    return {name: value for name, default in defaults.items() if (value := getattr(module, name)) != default}


def _made(
    kind: Any, name: str, sizes: tuple[int, ...], options: dict[str, Any], like: nn.Module | None = None
) -> Counterpart:
    layer: nn.Module = kind(*sizes, **options)
    if like is not None:
        layer.load_state_dict(like.state_dict())
    told = [*map(str, sizes), *(f"{option}={value!r}" for option, value in options.items())]
    return Counterpart(layer, f"{name}({', '.join(told)})")
