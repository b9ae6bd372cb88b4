"""Adapters correct frozen layers by products of two thin matrices, and nothing else is trained."""

from __future__ import annotations

import pytest
import torch

from aimass.proto.adapters import Adapted, adapt
from aimass.proto.errors import BadInput
from aimass.proto.frozen import freeze
from aimass.proto.tensors import Blob, encode_torch


def frozen() -> torch.nn.Module:
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(6, 4) for name in ("one", "two")})
    freeze(model, Blob(encode_torch(model.state_dict())))
    return model


def test_an_adapter_begins_as_its_layer_and_adds_the_product_of_its_matrices() -> None:
    model = frozen()
    layer, rows = model["one"], torch.randn(3, 5, 6)  # type: ignore[index]
    adapt(model, ["one"], rank=2, alpha=6)
    adapted = model["one"]  # type: ignore[index]
    assert isinstance(adapted, Adapted)
    assert torch.equal(adapted(rows), layer(rows))
    torch.nn.init.normal_(adapted.up.weight)
    whole = layer.weight + 3 * adapted.up.weight @ adapted.down.weight
    torch.testing.assert_close(adapted(rows), torch.nn.functional.linear(rows, whole, layer.bias))


def test_the_matrices_of_the_named_layers_are_all_that_is_trained_and_stored() -> None:
    model = frozen()
    adapt(model, ["two"], rank=2)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "two.down.weight": (2, 6),
        "two.up.weight": (4, 2),
    }
    assert [name for name, _ in model.named_parameters()] == ["two.down.weight", "two.up.weight"]


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        adapt(frozen(), ["one", "three"])
    assert caught.value.code == "adapters.layer"
    assert "three" in str(caught.value)
