"""A folder that loads with torch alone: no task, no AIMass, no pickle, the same answers."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aimass.client.tasks.digits import Digits
from aimass.client.tasks.heart import Heart, HeartTrees
from aimass.proto.errors import Refused
from aimass.proto.manifest import Schema
from aimass.proto.rows import Batch
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.server.registry.predict_alone import Model
from aimass.server.registry.torch_folder import torch_files


def written(task: Task, folder: Path, seed: int = 1) -> Blob:
    parameters = Blob(task.first(seed))
    files, parity = torch_files(task, parameters, {"aimass.model": "heart@4"})
    assert parity.worst <= 1e-6
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return parameters


def cells(schema: Schema, batch: Batch) -> list[dict[str, Any]]:
    """The rows as a person writes them."""
    rows: list[dict[str, Any]] = [{} for _ in batch.labels]
    for row, told in enumerate(rows):
        for place, number in enumerate(schema.numbers):
            value = float(batch.numbers[row, place])
            told[number.name] = None if math.isnan(value) else value
        for place, category in enumerate(schema.categories):
            code = int(batch.categories[row, place])
            told[category.name] = None if code < 0 else category.values[code]
        if batch.images is not None:
            told[schema.images[0].name] = batch.images[row].tolist()
    return rows


@pytest.mark.parametrize("task", [Heart(), Digits()], ids=["a table", "images"])
def test_cells_are_read_as_the_task_reads_them(task: Task, tmp_path: Path) -> None:
    parameters = written(task, tmp_path / "model")
    batch = synthetic_rows(task.schema, 20, 7)
    said = Model(tmp_path / "model")(cells(task.schema, batch))
    assert list(said[0]) == list(task.schema.classes)
    found = np.array([list(row.values()) for row in said])
    np.testing.assert_allclose(found, task.scored(parameters, batch), atol=1e-6)


def test_it_runs_where_nothing_of_ours_is(tmp_path: Path) -> None:
    """Isolated, with every import of `aimass`, numpy and safetensors refused."""
    task = Heart()
    parameters = written(task, tmp_path / "model")
    row = {"age": 63, "sex": "Male", "cp": "asymptomatic", "chol": 233}
    script = (
        "import sys, runpy\n"
        "for name in ('aimass', 'numpy', 'safetensors'): sys.modules[name] = None\n"
        f"sys.argv = ['predict.py', {json.dumps(json.dumps(row))}]\n"
        f"runpy.run_path({str(tmp_path / 'model' / 'predict.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    numbers = np.full((1, len(task.schema.numbers)), np.nan, np.float32)
    numbers[0, [n.name for n in task.schema.numbers].index("age")] = 63
    numbers[0, [n.name for n in task.schema.numbers].index("chol")] = 233
    categories = np.full((1, len(task.schema.categories)), -1)
    named = {category.name: place for place, category in enumerate(task.schema.categories)}
    categories[0, named["sex"]], categories[0, named["cp"]] = 1, 0
    expected = task.scored(parameters, Batch(numbers, categories, None, np.zeros(1, np.int64)))[0]
    assert json.loads(done.stdout) == pytest.approx(dict(zip(("no", "yes"), expected, strict=True)), abs=1e-6)


def test_the_folder_holds_no_pickle_and_no_path_of_this_machine() -> None:
    files, _ = torch_files(Digits(), Blob(Digits().first(1)), {})
    assert sorted(files) == ["README.txt", "model.pt2", "predict.py", "schema.json"]
    here = __file__.partition("/tests/")[0].encode()
    with zipfile.ZipFile(io.BytesIO(files["model.pt2"])) as archive:
        held = {info.filename: archive.read(info) for info in archive.infolist()}
    assert not [name for name, data in held.items() if here in data or b"aimass" in data]
    assert not [name for name, data in held.items() if data.startswith((b"\x80", b"PK"))]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ({"sex": "Unknown"}, "has to be one of Female, Male"),
        ({"age": 121}, "outside 0.0 to 120.0"),
        ({"age": math.inf}, "outside"),
    ],
)
def test_a_cell_that_does_not_fit_the_schema_is_refused(tmp_path: Path, cell: dict[str, Any], said: str) -> None:
    written(Heart(), tmp_path / "model")
    with pytest.raises(ValueError, match=said):
        Model(tmp_path / "model").tensors([cell])


class Own(Heart):
    """Makes its tensors itself."""

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        return super().inputs(batch)


@pytest.mark.parametrize(
    ("task", "code"), [(HeartTrees(), "export.no_network"), (Own(), "export.own_inputs")], ids=["trees", "own tensors"]
)
def test_what_torch_alone_cannot_run_is_refused_by_name(task: Task, code: str) -> None:
    with pytest.raises(Refused) as refused:
        torch_files(task, Blob(task.first(1)), {})
    assert refused.value.code == code
