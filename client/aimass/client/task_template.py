"""A new task to start from: a package of one module, its entry point, and a test that trains it."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from typing import Final

from aimass.privacy.roster import NAME
from aimass.proto.durable import make_folder
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.task import installed_tasks

__all__ = ["write_task"]

_MODULE: Final = '''"""@TITLE@: say here what is predicted from what."""

import torch

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.preprocess import Tabular
from aimass.proto.task import Task


class @CLASS@(Task):
    """Rows of the schema below -> probabilities of the label's values."""

    schema = Schema(
        name="@NAME@/1",
        columns=(
            Number(name="age", minimum=0, maximum=120, unit="years"),
            Number(name="temperature", minimum=30, maximum=45, unit="C"),
            Category(name="ward", values=("a", "b", "c")),
        ),
        label=Category(name="outcome", values=("no", "yes"), required=True),
    )

    def build(self) -> torch.nn.Module:
        """A fresh model. What is called `preprocess` is learnt by the statistics stage."""
        return Network(Tabular(self.schema))


class Network(torch.nn.Module):
    """One hidden layer."""

    def __init__(self, preprocess: Tabular) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.hidden = torch.nn.Linear(preprocess.width, 16)
        self.output = torch.nn.Linear(16, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Logits [rows, 2]."""
        return self.output(torch.relu(self.hidden(self.preprocess(numbers, categories))))


task = @CLASS@()
'''

_PROJECT: Final = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "@NAME@-task"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["aimass[client]"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points."aimass.tasks"]
@NAME@ = "@MODULE@:task"

[tool.hatch.build.targets.wheel]
packages = ["@MODULE@"]
"""

_TEST: Final = '''"""The task trains: its loss falls on rows that follow a rule."""

import io

from @MODULE@ import task

from aimass.client.shards import make_shard
from aimass.client.trainer import evaluate, train
from aimass.proto.manifest import Column, Number, ShardManifest, Text
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.rows import read_table, require
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, encode_numpy


def rows(count: int) -> str:
    """CSV of the task's own columns, whatever they are; each cell follows the label."""
    label = task.schema.label
    lines = [",".join(column.name for column in (*task.schema.columns, label))]
    for row in range(count):
        part = row % len(label.values) / len(label.values)
        said = label.values[row % len(label.values)]
        lines.append(",".join([*(cell(column, part, said) for column in task.schema.columns), said]))
    return "\\n".join(lines) + "\\n"


def cell(column: Column, part: float, said: str) -> str:
    """What follows the label in a column of any kind but images."""
    if isinstance(column, Number):
        return f"{column.minimum + (column.maximum - column.minimum) * (0.2 + 0.6 * part)}"
    return said if isinstance(column, Text) else column.values[int(part * len(column.values))]


def test_training_lowers_the_loss() -> None:
    table = require(read_table(task.schema, [io.BytesIO(rows(300).encode())], "csv"))
    manifest = ShardManifest(name="rows", data_schema=task.schema.name, uris=("rows.csv",), format="csv",
                             participant="here", salt="00" * 32, held_out=0.2)
    shard = make_shard(table, manifest)
    start = Blob(first_model(task, seed=1))
    made, _ = train(task, shard, start, b"", bytes(32), TrainSettings(batch_size=16, learning_rate=0.1, epochs=20))
    update = made.groups["update"].tensors
    moved = Blob(encode_numpy({name: old + update.get(name, 0) for name, old in start.arrays().items()}))
    before, after = (evaluate(task, shard, model, EvaluateSettings()).metrics["loss"].total for model in (start, moved))
    assert after < before
'''


_PLAN: Final = """# Submit it: aimass run submit plan.toml --as YOUR-FOLDER
name = "@NAME@-first"
task = "@NAME@"
data_schema = "@NAME@/1"
seed = 1

[train]
batch_size = 32
learning_rate = 0.05
epochs = 1

[cohort]
quorum = 2                 # fewest partners in the run, and in each step's sum

[[stages]]
driver = "statistics"      # learns how to standardise, from sums

[[stages]]
driver = "averaging"
options = { rounds = 10 }
"""


def write_task(name: str, parent: Path) -> Path:
    """Write the project for task `name` into `parent/name`; raises `Conflict` where that exists."""
    if not NAME.fullmatch(name) or not name[0].isalpha():
        raise BadInput(
            "a task's name is lower-case letters, digits and dashes, a letter first", code="task.name", value=name
        )
    folder, module = parent / name, name.replace("-", "_")
    if folder.exists():
        raise Conflict("this folder exists", code="task.exists", value=folder)
    if keyword.iskeyword(module) or name in installed_tasks() or importlib.util.find_spec(module) is not None:
        raise Conflict(
            "this name is a word of Python, an installed task or an installed package",
            code="task.name_taken",
            value=name,
            cure="Choose another: the task becomes a package of its name.",
        )
    title = name.replace("-", " ").capitalize()
    names = {
        "@NAME@": name,
        "@MODULE@": module,
        "@CLASS@": "".join(part.capitalize() for part in name.split("-")),
        "@TITLE@": title,
    }
    files = {
        f"{module}/__init__.py": _MODULE,
        f"{module}/requirements.txt": "aimass>=0.1,<0.2\ntorch>=2.6,<3\n",
        "pyproject.toml": _PROJECT,
        "plan.toml": _PLAN,
        f"tests/test_{module}.py": _TEST,
    }
    for path, text in files.items():
        for placeholder, value in names.items():
            text = text.replace(placeholder, value)  # noqa: PLW2901  (each placeholder in turn)
        make_folder((folder / path).parent)
        (folder / path).write_text(text, "utf-8")
    return folder
