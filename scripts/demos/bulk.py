"""A federation for measuring what size costs: a task of any size, of which a step trains next to nothing, or all.

The task is installed in an environment of its own, laid over the one that runs the benchmark, because what a partner
runs is found by entry point and the training child takes no hints from outside.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import site
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.demos.house import House

_TASK = '''"""A model of any size."""

import torch

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.task import Task


class Bulk(Task):
    schema = Schema(
        name="bulk/1",
        columns=(Number(name="x", minimum=0, maximum=1),),
        label=Category(name="y", values=("no", "yes"), required=True),
    )

    def build(self) -> torch.nn.Module:
        return Network()


{network}

task = Bulk()
'''
_FEW_ARE_TRAINED = """class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bulk = torch.nn.ParameterList([torch.zeros(n) for n in {elements}])
        self.output = torch.nn.Linear(1, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        return self.output(numbers)
"""
_ALL_ARE_TRAINED = """class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        wide = [torch.nn.Linear({side}, {side}) for _ in range({layers})]
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, {side}), *wide, torch.nn.Linear({side}, 2))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        return self.layers(numbers)
"""
_PLAN = """name = "bulk"
task = "bulk"
data_schema = "bulk/1"
seed = 1
[train]
batch_size = 100
learning_rate = 0.001
steps = 1
[evaluate]
every = 0
[cohort]
quorum = {quorum}
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""
_TENSORS = 8
_LAYERS = 16


def _network(bytes_of_model: int, *, trained: bool) -> str:
    """The network's class: of exactly so many bytes, or of layers that a step trains and of about as many."""
    elements = bytes_of_model // 4
    if trained:
        return _ALL_ARE_TRAINED.format(side=math.isqrt(elements // _LAYERS), layers=_LAYERS)
    sizes = [elements // _TENSORS] * (_TENSORS - 1)
    sizes.append(elements - sum(sizes) - 4)
    return _FEW_ARE_TRAINED.format(elements=sizes)


def _environment(folder: Path, network: str) -> str:
    """An environment with the task in it; its Python."""
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "below.pth").write_text(
        "\n".join(f"import site; site.addsitedir({p!r})" for p in site.getsitepackages())
    )
    (packages / "bulk").mkdir()
    (packages / "bulk" / "__init__.py").write_text(_TASK.format(network=network))
    facts = packages / "bulk-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: bulk\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[aimass.tasks]\nbulk = bulk:task\n")
    return str(folder / "bin" / "python")


@contextlib.contextmanager
def bulk_federation(
    folder: Path, bytes_of_model: int, partners: Sequence[str], *, trained: bool = False
) -> Iterator[House]:
    """Server and partners that are ready to train a model of so many bytes: a few numbers of it, or all (`trained`)."""
    python = _environment(folder / "environment", _network(bytes_of_model, trained=trained))
    with House(folder / "house", python=python) as house:
        house.found(partners)
        digest = house.run("task", "digest", "bulk")["digest"]
        (house.folder / "rows.csv").write_text(
            "x,y\n" + "".join(f"0.{i:02},{'yes' if i % 2 else 'no'}\n" for i in range(40))
        )
        for partner in partners:
            house.permit(partner, "bulk", digest)
            house.run(
                "client", "data", "add", "bulk", "--dir", partner, "--schema", "bulk/1", "--uri", "rows.csv",
                "--format", "csv", "--salt", "00" * 32,
            )  # fmt: skip
            house.start_partner(partner)
        yield house


def submit(house: House, rounds: int, quorum: int, *more: str) -> None:
    """Submit a run of so many rounds; `more` are other arguments."""
    (house.folder / "plan.toml").write_text(_PLAN.format(rounds=rounds, quorum=quorum))
    house.run("run", "submit", "plan.toml", "--as", "scientist", *more)


def round_seconds(house: House, rounds: int, quorum: int) -> list[float]:
    """Submit a run and wait for it; seconds from commit to commit, without the first round."""
    submit(house, rounds, quorum, "--watch")
    view = house.run("run", "show", "last", "--as", "scientist")
    committed = [step["committed_at"] for step in view["steps"]]
    return [after - before for before, after in itertools.pairwise(committed)]


if __name__ == "__main__":
    import tempfile

    size, count = int(float(sys.argv[1]) * 1e6), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as name, bulk_federation(Path(name), size, ["north", "south"]) as made:
        sys.stdout.write(json.dumps(round_seconds(made, count, 2)) + "\n")
        if len(sys.argv) > 3:
            sys.stdout.write((made.folder / f"{sys.argv[3]}.log").read_text())
        subprocess.run(["du", "-sh", str(made.folder)], check=False)
