"""Write peft.json: `python tests/vectors/make_peft.py`, where peft is installed. What it computes is our oracle.

It also loads what we export into peft and compares what that computes.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import load_file, save_file
from tests.support.adapters import Small, small

from aimass.proto.merging import from_peft, peft_config, to_peft


def main() -> None:
    torch.manual_seed(1)
    base = Small()
    plain = {name: value.clone() for name, value in base.state_dict().items()}
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["query", "value"], modules_to_save=["output"])
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    rows = torch.randn(5, 6)
    outputs = model(rows)
    outputs.pow(2).sum().backward()
    gradients = {
        name.replace("base_model.model.", "").replace(".default", "").replace(".modules_to_save", ""): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        adapters = load_file(Path(folder) / "adapter_model.safetensors")
        saved = json.loads((Path(folder) / "adapter_config.json").read_text())
    like = Small()
    like.load_state_dict(plain)
    ours = small(rank=2, alpha=6, like=like)
    from_peft(ours, adapters)
    with tempfile.TemporaryDirectory() as folder:
        save_file(to_peft(ours), Path(folder) / "adapter_model.safetensors")
        (Path(folder) / "adapter_config.json").write_text(json.dumps(peft_config(ours)))
        again = Small()
        again.load_state_dict(plain)
        torch.testing.assert_close(PeftModel.from_pretrained(again, folder)(rows), outputs)
    found = {
        "base": plain,
        "adapters": adapters,
        "rows": rows,
        "outputs": outputs,
        "gradients": gradients,
        "merged": model.merge_and_unload().state_dict(),
    }
    written: dict[str, Any] = {name: _plain(value) for name, value in found.items()}
    written["config"] = {name: saved[name] for name in peft_config(ours)}
    Path(__file__).with_name("peft.json").write_text(json.dumps(written, indent=1) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else {name: _plain(each) for name, each in value.items()}


if __name__ == "__main__":
    main()
