"""A segmentation over three owners of tiles, plain and secure, and served: the same masks on every way."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import urllib3

from aimass.client.data_get import cache_folder
from aimass.client.tasks.nuclei import task
from aimass.explain.opening import Where, open_images, open_subject
from aimass.explain.segviz import MasksResult
from aimass.proto.commands import main
from aimass.proto.predictors import examples
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from tests.support.datasets import dataset
from tests.support.served_heart import served_heart
from tests.support.tiles import NUCLEI_PLAN

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
    Path("plan.toml").write_text(NUCLEI_PLAN + secure)
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
    if not secure:
        asked(pooled)


def asked(pooled: float) -> None:
    """The command says the same Dice, and that one photograph says nothing of others."""
    command = "explain masks out/model.safetensors --task nuclei --rows out/shards --out masks --formats json --quiet"
    assert main(command.split()) == 0
    found = MasksResult.from_json(Path("masks/masks.json").read_bytes())
    hit, too_much, missed = found.masks.pixels[1].tolist()
    assert 2 * hit / (2 * hit + too_much + missed) == pytest.approx(pooled)
    assert any("parts of one photograph of nuclei" in line for line in found.warnings())
    assert found.lineage.held_out is True


def test_a_served_segmentation_tells_people_a_mask_and_programs_every_probability(tmp_path: Path) -> None:
    pixels = np.arange(56 * 56, dtype=np.uint32).reshape(1, 56, 56).astype(np.uint8)
    expected = task.predictor(Blob(first_model(task, 1)))(dataclasses.replace(examples(task.schema, 1), images=pixels))
    with served_heart(tmp_path, name="nuclei") as port:
        web = urllib3.PoolManager()
        people = web.request("POST", f"http://127.0.0.1:{port}/predict/nuclei", json={"image": pixels[0].tolist()})
        tensor = {"name": "image", "shape": [1, 56, 56], "datatype": "UINT8", "data": pixels.reshape(-1).tolist()}
        programs = web.request("POST", f"http://127.0.0.1:{port}/v2/models/nuclei/infer", json={"inputs": [tensor]})
    told, outputs = people.json(), {each["name"]: each for each in programs.json()["outputs"]}
    mask = np.frombuffer(base64.b64decode(told["mask"]), np.uint8).reshape(told["shape"])
    np.testing.assert_array_equal(mask, expected[0].argmax(axis=0))
    assert outputs["probabilities"]["shape"] == [1, 2, 56, 56]
    np.testing.assert_allclose(np.array(outputs["probabilities"]["data"]), expected.reshape(-1), atol=1e-5)
