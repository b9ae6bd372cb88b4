"""What partners need for a plan: estimated from the model, held to what training was measured to take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.proto.compression import Compress
from aimass.proto.drafts import completed
from aimass.proto.needs import PROCESS_BYTES, estimated
from aimass.proto.plan import Needs, PlanDraft, PrivacySettings, Stage, TrainSettings
from aimass.proto.tensors import Layout, TensorSpec

MB = 1_000_000
MODEL = Layout.of([TensorSpec("w", "F32", (25 * MB,)), TensorSpec("preprocess.mean", "F32", (100,))])
TRAIN = TrainSettings(batch_size=8, learning_rate=0.1, steps=1)
DRAFT = PlanDraft(
    name="t", task="heart", data_schema="heart/1", seed=1, stages=(Stage(driver="averaging"),), train=TRAIN
)
PRIVACY = PrivacySettings(noise_multiplier=1, clip=1, sampling_rate=0.1, delta=1e-5, divisor=10)

_MEASURED = """
import json, os, sys, threading
from pathlib import Path
import numpy as np, torch
from aimass.client import trainer
from aimass.client.shards import Shard
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import TrainSettings
from aimass.proto.rows import Batch
from aimass.proto.storage import map_file
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob

class Wide(Task):
    columns = (Number(name="x", minimum=0, maximum=1),)
    schema = Schema(name="w/1", columns=columns, label=Category(name="y", values=("a", "b"), required=True))
    def __init__(self, width):
        self.width = width
    def build(self):
        layers = [torch.nn.Linear(self.width, self.width) for _ in range(8)]
        return Network(torch.nn.Linear(1, self.width), *layers, torch.nn.Linear(self.width, 2))

class Network(torch.nn.Sequential):
    def forward(self, numbers, categories):
        return super().forward(numbers)

def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

batch = Batch(np.zeros((8, 1), np.float32), np.zeros((8, 0), np.int64), None, np.zeros(8, np.int64))

def train(task, words):
    settings = TrainSettings(batch_size=8, learning_rate=0.1, steps=2, **json.loads(words))
    return trainer.train(task, Shard("a", batch, batch), Blob(map_file(path)), b"", bytes(32), settings)

def peak_of(words):
    peak, stop = 0, threading.Event()
    def watch():
        nonlocal peak
        while not stop.wait(0.002):
            peak = max(peak, own())
    before = own()
    threading.Thread(target=watch, daemon=True).start()
    made = train(Wide(1414), words)
    stop.set()
    return peak - before

path = Path(sys.argv[1])
path.write_bytes(first_model(Wide(8), 1))
for words in sys.argv[2:]:
    train(Wide(8), words)  # what torch loads with its first step
path.write_bytes(first_model(Wide(1414), 1))
for words in sys.argv[2:]:
    if not (child := os.fork()):  # each with a heap of its own
        print(peak_of(words), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def needs(**changes: Any) -> Needs:
    return estimated(msgspec.structs.replace(DRAFT, **changes), MODEL)


def test_plain_training_needs_the_model_its_gradients_and_room_for_model_and_update() -> None:
    found = needs()
    assert found.memory_bytes == PROCESS_BYTES + 200 * MB + 400
    assert found.gpu_bytes == 200 * MB + 400
    assert 200 * MB < found.disk_bytes < 200 * MB + 10_000


@pytest.mark.parametrize(
    ("changes", "memory", "disk"),
    [
        ({"train": msgspec.structs.replace(TRAIN, optimizer="adam")}, 400, 200),
        ({"train": msgspec.structs.replace(TRAIN, optimizer="adam", keep_optimizer=True)}, 600, 600),
        ({"train": msgspec.structs.replace(TRAIN, momentum=0.9, proximal_mu=0.1)}, 400, 200),
        ({"stages": (Stage(driver="scaffold"),)}, 500, 500),
        ({"compress": Compress(quantise="int8")}, 300, 400),
        ({"privacy": PRIVACY}, 500, 200),
    ],
)
def test_what_is_kept_beside_the_model_is_counted(changes: dict[str, Any], memory: int, disk: int) -> None:
    if "scaffold" in str(changes) or "privacy" in changes:
        changes |= {"train": msgspec.structs.replace(TRAIN, weight="one")}
    found = needs(**changes)
    assert round((found.memory_bytes - PROCESS_BYTES) / MB) == memory
    assert round(found.disk_bytes / MB) == disk


def test_what_the_author_states_holds_and_the_rest_is_estimated() -> None:
    found = needs(needs=Needs(memory_bytes=5 << 30))
    assert found == msgspec.structs.replace(needs(), memory_bytes=5 << 30)


def test_a_completed_plan_says_what_partners_need() -> None:
    plan, model = completed(DRAFT)
    assert plan.needs is not None
    assert plan.needs.memory_bytes > PROCESS_BYTES
    assert plan.needs.disk_bytes >= 2 * len(model) * 0.9


def test_the_estimate_is_what_training_takes(tmp_path: Path) -> None:
    model = Layout.of([TensorSpec("w", "F32", (8 * 1414 * 1415,))])
    variants: list[dict[str, Any]] = [
        {},
        {"optimizer": "adam", "proximal_mu": 0.1},
        {"optimizer": "adam", "keep_optimizer": True},
    ]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path / "model"), *map(json.dumps, variants)],
        capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words, measured in zip(variants, done.stdout.split(), strict=True):
        train = msgspec.structs.replace(TRAIN, **words)
        expected = estimated(msgspec.structs.replace(DRAFT, train=train), model).memory_bytes - PROCESS_BYTES
        assert 0.8 * expected < int(measured) < 1.25 * expected + 10 * MB, (words, measured, expected)
