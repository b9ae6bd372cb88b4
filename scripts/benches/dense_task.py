"""The small network that serving is measured with: 13 numbers, two hidden layers of 64, one number. As a task that is
installed for real processes, as plain arithmetic that answers are checked against, and as one that goes wrong."""

from __future__ import annotations

import contextlib
import itertools
import os
import site
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["COLUMNS", "TASK", "WIDTHS", "body", "chance_parameters", "install", "predicted", "seen", "some_rows"]

TASK: Final = "dense"
COLUMNS: Final = tuple(f"x{number}" for number in range(13))
WIDTHS: Final = (13, 64, 64, 1)

_SOURCE: Final = '''"""Thirteen numbers to one, by a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.proto.manifest import Number, Schema
from aimass.proto.task import Task

if TYPE_CHECKING:
    import torch


class Dense(Task):
    schema = Schema(
        name="dense/1",
        columns=tuple(Number(name=f"x{number}", minimum=-10, maximum=10, required=True) for number in range(13)),
        label=Number(name="y", minimum=-1000, maximum=1000, required=True),
    )

    def build(self) -> torch.nn.Module:
        from dense.network import Network

        return Network()


task = Dense()
'''
_NETWORK: Final = '''"""Its network."""

import torch


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        relu, linear = torch.nn.ReLU, torch.nn.Linear
        self.layers = torch.nn.Sequential(linear(13, 64), relu(), linear(64, 64), relu(), linear(64, 1))

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        return self.layers(numbers)
'''


def install(folder: Path, packages: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Make an environment below `folder`, over the one that runs, with the task and with other packages of tasks
    ({name: {file: text}}); its Python."""
    venv.create(folder, with_pip=False)
    place = next(folder.glob("lib/python*/site-packages"))
    below = "\n".join(f"import site; site.addsitedir({path!r})" for path in site.getsitepackages())
    (place / "below.pth").write_text(below)
    ours = {TASK: {"__init__.py": _SOURCE, "network.py": _NETWORK}}
    for name, files in {**ours, **(packages or {})}.items():
        _write(place / name, files)
        facts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            "entry_points.txt": f"[aimass.tasks]\n{name} = {name}:task\n",
        }
        _write(place / f"{name}-1.dist-info", facts)
    return str(folder / "bin" / "python")


@contextlib.contextmanager
def seen(folder: Path, **environment: str) -> Iterator[None]:
    """Let this process and those that it starts find what was installed there, and have more in their environment."""
    place = str(next(folder.glob("lib/python*/site-packages")))
    before = dict(os.environ)
    sys.path.insert(0, place)
    os.environ.update(environment | {"PYTHONPATH": place})
    try:
        yield
    finally:
        sys.path.remove(place)
        os.environ.clear()
        os.environ.update(before)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


# ---------------------------------------------------------------- the network as arithmetic


def chance_parameters(seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """A network's state, drawn so that two seeds answer the same row differently."""
    chance = np.random.default_rng(seed)
    state: dict[str, npt.NDArray[np.float32]] = {}
    for place, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        scale = np.float32(np.sqrt(2.0 / fan_in))
        state[f"layers.{2 * place}.weight"] = chance.standard_normal((fan_out, fan_in), np.float32) * scale
        state[f"layers.{2 * place}.bias"] = chance.standard_normal(fan_out, np.float32)
    return state


def predicted(state: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What the network says of rows [n, 13], in float64: [n]."""
    last = len(WIDTHS) - 2
    hidden = rows.astype(np.float64)
    for place in range(last + 1):
        weight, bias = (state[f"layers.{2 * place}.{part}"].astype(np.float64) for part in ("weight", "bias"))
        hidden = hidden @ weight.T + bias
        hidden = hidden if place == last else np.maximum(hidden, 0.0)
    return hidden[:, 0]


# ---------------------------------------------------------------- requests


def some_rows(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Rows [count, 13] of a few decimals, as people send them."""
    return np.random.default_rng(seed).uniform(-2, 2, (count, WIDTHS[0])).round(3).astype(np.float32)


def body(rows: npt.NDArray[np.float32]) -> bytes:
    """A V2 request for rows, in JSON."""
    numbers = ",".join(f"{value:.3f}" for value in rows.ravel().tolist())
    shape = f"[{len(rows)},{WIDTHS[0]}]"
    return f'{{"inputs":[{{"name":"rows","shape":{shape},"datatype":"FP32","data":[{numbers}]}}]}}'.encode()
