"""Breast cancer from thirty measurements of cell nuclei (scikit-learn's set), as a task that is installed for real
processes, and its rows dealt to partners."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from aimass.client.data_get import cache_folder, get
from scripts.benches import dense_task

__all__ = ["PLAN", "SPACE", "install", "shards"]

_SOURCE: Final = '''"""Malignant or benign, from thirty measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.task import Task

if TYPE_CHECKING:
    import torch


class Tumours(Task):
    schema = Schema(
        name="tumours/1",
        columns=tuple(Number(name=f"f{place:02d}", minimum=0, maximum=100_000) for place in range(30)),
        label=Category(name="diagnosis", values=("benign", "malignant"), required=True),
    )

    def build(self) -> torch.nn.Module:
        from aimass.proto.preprocess import Tabular
        from tumours.network import Network

        return Network(Tabular(self.schema))


task = Tumours()
'''
_NETWORK: Final = '''"""Its network."""

import torch


class Network(torch.nn.Module):
    def __init__(self, preprocess):
        super().__init__()
        self.preprocess = preprocess
        self.hidden = torch.nn.Linear(preprocess.width, 16)
        self.output = torch.nn.Linear(16, 2)

    def forward(self, numbers, categories):
        return self.output(torch.relu(self.hidden(self.preprocess(numbers, categories))))
'''
PLAN: Final = """
name = "tumours"
task = "tumours"
data_schema = "tumours/1"
seed = 11
[train]
batch_size = 32
learning_rate = 0.001
epochs = 1
[evaluate]
every = 1
[cohort]
quorum = 3
[[stages]]
driver = "statistics"
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""
SPACE: Final = """
metric = "loss"
[settings]
train.learning_rate = { low = 0.0003, high = 1.0, log = true }
train.batch_size = { choices = [8, 16, 64] }
evaluate.batch_size = { low = 64, high = 4096, log = true }
"""
"""The learning rate decides nearly all, and the batch of the evaluation nothing at all: it changes no figure."""


def install(folder: Path) -> str:
    """An environment below `folder` in which the task is installed; its Python."""
    return dense_task.install(folder, {"tumours": {"__init__.py": _SOURCE, "network.py": _NETWORK}})


def shards(python: str, folder: Path, partners: int = 3) -> Path:
    """The rows, dealt to so many partners."""
    rows = get("breast_cancer", cache_folder())[0] / "breast_cancer.parquet"
    command = [python, "-m", "aimass.proto.commands", "data", "partition", str(rows), "--task", "tumours"]
    subprocess.run(
        [*command, "--partners", str(partners), "--out", str(folder), "--quiet"], check=True, stdout=subprocess.DEVNULL
    )
    return folder
