"""A model of base and adapters as one whole, and its adapters as peft stores them. Like `networks` it needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch

from aimass.proto.adapters import adapted
from aimass.proto.errors import BadInput
from aimass.proto.frozen import frozen
from aimass.proto.task import Task, load_parameters
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["from_peft", "merged", "merged_file", "peft_config", "peft_files", "to_peft"]

_PEFT: Final = "base_model.model."
_BASE: Final = "base_layer."


def merged(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of the model without adapters that computes the same: the base's, each adapter added to its layer's
    weight, and what was trained beside."""
    tensors = dict(model.state_dict()) | frozen(model)
    for path, layer in adapted(model):
        inside = {name: tensors.pop(name) for name in list(tensors) if name.startswith(f"{path}.")}
        kept = {name: value for name, value in inside.items() if name.startswith(f"{path}.{_BASE}")}
        tensors |= {name.replace(f"{path}.{_BASE}", f"{path}."): value for name, value in kept.items()}
        tensors[f"{path}.weight"] = layer.merged()
    return tensors


def merged_file(task: Task, parameters: Blob, part: str = "") -> bytes:
    """The merged model of a task as a safetensors blob; of one `part` of it (a module's path) by the names inside.

    Raises `BadInput` where the parameters are not the task's, where they stand on no base and have no adapters, or
    where there is no such part; and what `Task.base_blob` does.
    """
    prefix, model = f"{part}." if part else "", _loaded(task, parameters)
    if not part and not frozen(model) and not any(adapted(model)):
        raise BadInput(
            "the model stands on no base and has no adapters: it is whole as it is",
            code="adapters.none",
            cure="Use the file as `aimass model export` wrote it.",
        )
    tensors = merged(model)
    chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not chosen:
        parts = sorted({name.rpartition(".")[0] for name in tensors})
        raise BadInput("the model has no such part", code="adapters.part", value=part, limit=", ".join(parts[:20]))
    return encode_torch(chosen)


def peft_files(task: Task, parameters: Blob) -> dict[str, bytes]:
    """The files of the folder from which peft loads a task's adapters; raises as `merged_file` and `peft_config`."""
    model = _loaded(task, parameters)
    config = json.dumps(peft_config(model), indent=1).encode()
    return {"adapter_config.json": config, "adapter_model.safetensors": encode_torch(to_peft(model))}


def _loaded(task: Task, parameters: Blob) -> torch.nn.Module:
    model = task.build()
    load_parameters(model, parameters)
    return model


def to_peft(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What was trained, by the names in peft's `adapter_model.safetensors`."""
    return {_PEFT + name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def peft_config(model: torch.nn.Module) -> dict[str, Any]:
    """Peft's `adapter_config.json` for it; raises `BadInput` for a model without adapters, or of several ranks."""
    layers = dict(adapted(model))
    kinds = {(layer.rank, layer.alpha, layer.dropout.p) for layer in layers.values()}
    if len(kinds) != 1:
        raise BadInput(
            "peft's configuration has one rank and one alpha for all adapters",
            code="adapters.peft",
            value=", ".join(f"rank {rank}, alpha {alpha:g}" for rank, alpha, _ in sorted(kinds)) or "no adapters",
        )
    rank, alpha, dropout = kinds.pop()
    inside = tuple(f"{path}." for path in layers)
    beside = {name.rpartition(".")[0] for name in to_peft(model) if not name.removeprefix(_PEFT).startswith(inside)}
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": sorted(layers),
        "modules_to_save": sorted(path.removeprefix(_PEFT) for path in beside) or None,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def from_peft(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what peft stored into `model`; raises `BadInput` where names or shapes are not those of what it trains."""
    own = {_PEFT + name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    odd = sorted(
        name
        for name in {*own, *tensors}
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if odd:
        raise BadInput("these adapters are another model's", code="adapters.peft", value=", ".join(odd[:5]))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
