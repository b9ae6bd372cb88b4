"""Adapters correct frozen layers by products of two thin matrices, and nothing else is trained; peft is the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimass.client.tasks.heart import task as heart
from aimass.client.tasks.heart.network import Network
from aimass.proto.adapters import Adapted, adapt, adapted
from aimass.proto.bases import BaseFolder
from aimass.proto.errors import BadInput
from aimass.proto.frozen import freeze
from aimass.proto.merging import from_peft, merged, merged_file, peft_config, peft_files, to_peft
from aimass.proto.preprocess import Tabular
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import load_parameters
from aimass.proto.tensors import Blob, encode_torch
from tests.support import based
from tests.support.adapters import Small, small
from tests.support.bases import base_file

PEFT = json.loads((Path(__file__).parents[1] / "vectors" / "peft.json").read_text())
"""Written by tests/vectors/make_peft.py, which also loads what is exported here into peft."""


def tensors(name: str) -> dict[str, torch.Tensor]:
    return {path: torch.tensor(values) for path, values in PEFT[name].items()}


def of_peft() -> tuple[Small, Small]:
    """The model that peft adapted, as it was before and with the adapters that it stored."""
    plain = Small()
    plain.load_state_dict(tensors("base"))
    model = small(rank=2, alpha=6, like=plain)
    from_peft(model, tensors("adapters"))
    return plain, model


def frozen() -> torch.nn.Module:
    torch.manual_seed(1)
    model = torch.nn.ModuleDict({name: torch.nn.Linear(6, 4) for name in ("one", "two")})
    freeze(model, Blob(encode_torch(model.state_dict())))
    return model


def test_an_adapter_begins_as_its_layer_and_adds_the_product_of_its_matrices() -> None:
    model = frozen()
    layer, rows = model["one"], torch.randn(3, 5, 6)  # type: ignore[index]
    adapt(model, ["one"], rank=2, alpha=6)
    found = model["one"]  # type: ignore[index]
    assert isinstance(found, Adapted)
    assert torch.equal(found(rows), layer(rows))
    torch.nn.init.normal_(found.lora_B.weight)
    whole = layer.weight + 3 * found.lora_B.weight @ found.lora_A.weight
    torch.testing.assert_close(found(rows), torch.nn.functional.linear(rows, whole, layer.bias))
    torch.testing.assert_close(found.merged(), whole.detach())


def test_the_matrices_of_the_named_layers_are_all_that_is_trained_and_stored() -> None:
    model = frozen()
    adapt(model, ["two"], rank=2)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        "two.lora_A.weight": (2, 6),
        "two.lora_B.weight": (4, 2),
    }
    assert [name for name, _ in model.named_parameters()] == ["two.lora_A.weight", "two.lora_B.weight"]


def test_a_layer_that_is_not_frozen_is_by_its_adapter() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 4))
    adapt(model, ["0"], rank=1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"0.lora_A.weight", "0.lora_B.weight"}


def test_a_layer_that_is_not_there_or_hides_its_weight_is_refused_and_a_rank_of_none() -> None:
    with pytest.raises(BadInput) as caught:
        adapt(frozen(), ["one", "three"])
    assert caught.value.code == "adapters.layer"
    assert "three" in str(caught.value)
    with pytest.raises(BadInput):
        adapt(torch.nn.MultiheadAttention(4, 2), ["out_proj"])
    with pytest.raises(BadInput) as caught:
        adapt(frozen(), ["one"], rank=0)
    assert caught.value.code == "adapters.rank"


def test_outputs_and_gradients_are_those_of_peft() -> None:
    _, model = of_peft()
    outputs = model(torch.tensor(PEFT["rows"]))
    torch.testing.assert_close(outputs, torch.tensor(PEFT["outputs"]))
    outputs.pow(2).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.testing.assert_close(gradients, tensors("gradients"))


def test_the_merged_model_is_the_one_that_peft_merges_and_computes_the_same() -> None:
    plain, model = of_peft()
    whole = merged(model)
    torch.testing.assert_close(whole, tensors("merged"))
    plain.load_state_dict(whole)
    torch.testing.assert_close(plain(torch.tensor(PEFT["rows"])), torch.tensor(PEFT["outputs"]))


def test_what_is_exported_is_what_peft_stores() -> None:
    _, model = of_peft()
    torch.testing.assert_close(to_peft(model), tensors("adapters"))
    ours: dict[str, Any] = peft_config(model)
    assert ours.pop("target_modules") == ["body.query", "body.value"]  # whole paths, where peft was told their ends
    assert ours == {name: PEFT["config"][name] for name in ours}


def test_adapters_of_another_model_or_of_several_ranks_are_refused_by_name() -> None:
    _, model = of_peft()
    stored = tensors("adapters")
    stored["base_model.model.body.key.lora_A.weight"] = stored.pop("base_model.model.body.query.lora_A.weight")
    with pytest.raises(BadInput, match=r"key\.lora_A"):
        from_peft(model, stored)
    adapt(model.body, ["key"], rank=3)
    assert [path for path, _ in adapted(model)] == ["body.query", "body.key", "body.value"]
    for bad in (model, Small()):
        with pytest.raises(BadInput) as caught:
            peft_config(bad)
        assert caught.value.code == "adapters.peft"


class AdaptedTask(based.Based):
    """Heart on its base, which has an adapter."""

    def build(self) -> torch.nn.Module:
        network = super().build()
        adapt(network, ["hidden"], rank=2)
        return network


def test_a_model_without_base_or_adapters_is_not_merged_but_whole_as_it_is() -> None:
    whole = Blob(encode_torch(heart.build().state_dict()))
    with pytest.raises(BadInput) as caught:
        merged_file(heart, whole)
    assert caught.value.code == "adapters.none"


def test_a_merged_file_is_a_model_without_base_or_adapters_that_predicts_the_same(tmp_path: Path) -> None:
    bases = BaseFolder(tmp_path)
    bases.add("layer", base_file(tmp_path / "file"))
    task, plain = AdaptedTask().on(bases), Network(Tabular(based.task.schema), hidden=based.WIDTH)
    model = task.build()
    for _, layer in adapted(model):
        torch.nn.init.normal_(layer.lora_B.weight)
    parameters = Blob(encode_torch(model.state_dict()))
    whole = Blob(merged_file(task, parameters))
    load_parameters(plain, whole)
    batch = synthetic_rows(task.schema, 20, 1)
    expected = task.scored(parameters, batch)
    np.testing.assert_allclose(task.probabilities(plain, batch), expected, atol=1e-6)
    part = Blob(merged_file(task, parameters, "hidden"))
    assert part.layout.shapes() == bases.open(task.base).layout.shapes()  # type: ignore[arg-type]
    assert (part.numpy("weight") == whole.numpy("hidden.weight")).all()
    assert set(peft_files(task, parameters)) == {"adapter_config.json", "adapter_model.safetensors"}
    with pytest.raises(BadInput) as caught:
        merged_file(task, parameters, "unheard")
    assert caught.value.code == "adapters.part"
