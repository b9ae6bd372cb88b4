"""A segmentation over three owners of tiles, plain and secure: what partners add up is the Dice of all pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aimass.client.data_get import cache_folder
from aimass.client.tasks.nuclei import task
from aimass.explain.opening import Where, open_images, open_subject
from aimass.proto.commands import main
from tests.support.datasets import dataset

PLAN = """
name = "nuclei"
task = "nuclei"
data_schema = "nuclei/1"
seed = 1
[train]
optimizer = "adam"
learning_rate = 0.003
batch_size = 4
epochs = 2
[evaluate]
every = 4
[cohort]
quorum = 3
[[stages]]
driver = "averaging"
options = { rounds = 4 }
"""
SECURE = """
[secure]
min_cohort = 3
clip = 1.0
metrics = ["accuracy", "dice", "loss"]
"""


@pytest.mark.parametrize(("secure", "within"), [("", 1e-12), (SECURE, 1e-4)])
def test_dice_over_the_federation_is_that_of_all_held_out_pixels_together(
    secure: str, within: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset("nuclei")
    monkeypatch.setenv("AIMASS_CACHE", str(cache_folder()))
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN + secure)
    command = "simulate plan.toml --rows nuclei --split column:owner --held-out 0.25 --workers 1 --out out"
    assert main(command.split()) == 0
    told = [json.loads(line) for line in Path("out/rounds.jsonl").read_text().splitlines()]
    federated = next(line["metrics"]["dice"] for line in reversed(told) if "dice" in line.get("metrics", {}))

    images = open_images(["out/shards"], task.schema)
    model = open_subject("out/model.safetensors", Where(task="nuclei")).images
    assert model is not None
    said, true = model.predict(images.pixels).argmax(axis=1) == 1, images.need_masks() == 1
    pooled = 2 * (said & true).sum() / (said.sum() + true.sum())
    assert (len(images), images.held_out) == (9, True)
    assert federated == pytest.approx(pooled, abs=within)
    assert pooled > 0.8
    assert np.unique(images.beside["partner"]).tolist() == ["p0001", "p0002", "p0003"]
