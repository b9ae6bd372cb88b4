"""One partner of ten is ten times slower: rounds that wait for it against FedBuff, by the clock of a simulation.

Handwritten digits, labels dealt unevenly (Dirichlet, 0.5), so that the slow partner's rows matter. Training takes a
partner one second and the slow one ten. Each model is measured on everybody's held-out rows; what is told is the time
at which that first reaches an accuracy. Both ways have the same plan but for the driver: in the one a round is the
work of all ten, in the other five contributions make a version.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import Shard, open_shard, resolve
from aimass.client.tasks.digits import task
from aimass.client.trainer import evaluate
from aimass.proto.plan import EvaluateSettings, read_plan_draft
from aimass.proto.rows import Batch
from aimass.proto.sharding import manifest_of, read_split, write_shards
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.server.engine import InstalledDrivers
from aimass.server.runs import Run
from aimass.server.simulation.begin import begin, completed
from aimass.server.simulation.crew import Alone
from aimass.server.simulation.folder import Committed, Folder
from aimass.server.simulation.pace import Pace
from aimass.server.simulation.shell import Simulation
from aimass.server.simulation.site import InFolder
from scripts.benches.row import Row

__all__ = ["measure"]

_PARTNERS: Final = 10
_SLOWER: Final = 10.0
_ACCURACY: Final = 0.93
_SEEDS: Final = (1, 2, 3)
_HALF: Final = 0.5
_WAYS: Final = {
    "waiting": 'driver = "averaging"\noptions = { rounds = 40 }',
    "FedBuff": 'driver = "fedbuff"\noptions = { rounds = 160, buffer = 5, max_staleness = 50 }',
}
_PLAN: Final = """
name = "async"
task = "digits"
data_schema = "digits/1"
seed = {seed}
[train]
batch_size = 16
learning_rate = 0.1
epochs = 2
[evaluate]
every = 0
[cohort]
quorum = 3
step_deadline_s = 1000.0
[[stages]]
{stage}
"""


def measure(*, quick: bool) -> list[Row]:
    """Seconds to the accuracy each way, of three seeds, and what is saved; `quick` is one seed."""
    seeds = _SEEDS[:1] if quick else _SEEDS
    curves = {way: [_curve(stage, seed) for seed in seeds] for way, stage in _WAYS.items()}
    seconds = {way: [_reached(curve) for curve in done] for way, done in curves.items()}
    title = f"digits, one of {_PARTNERS} partners {_SLOWER:g}x slower"
    return [
        *(
            Row.of(f"{title}, {way}: time to {_ACCURACY:.0%}", values, "s", None, "lower")
            for way, values in seconds.items()
        ),
        Row.ratio(f"{title}: FedBuff's time of the other", seconds["FedBuff"], seconds["waiting"], _HALF, "lower"),
    ]


def _reached(curve: Sequence[tuple[float, float]]) -> float:
    """The time of the first model that is good enough; that of the last where none is."""
    return next((at for at, accuracy in curve if accuracy >= _ACCURACY), curve[-1][0])


def _curve(stage: str, seed: int) -> list[tuple[float, float]]:
    """Time and accuracy of each model, until one is good enough."""
    with tempfile.TemporaryDirectory() as place:
        shards, folder = Path(place) / "shards", Folder(Path(place) / "run")
        files = sorted(get("digits", cache_folder())[0].glob("*.parquet"))
        split = read_split("dirichlet:0.5", _PARTNERS, seed, 10)
        names = [shard.partner for shard in write_shards(task.schema, files, split, shards, held_out=0.2).shards]
        plan = completed(read_plan_draft(_PLAN.format(seed=seed, stage=stage)), folder.blobs)
        begin(folder, plan, shards, None, Pace(slower={names[seed]: _SLOWER}))
        curve = _Curve(folder.blobs, _all_held_out(shards, names))
        with contextlib.suppress(_GoodEnough):
            Simulation(folder, Alone(InFolder(folder.path)), InstalledDrivers(), curve).run()
        return curve.points


class _GoodEnough(Exception):
    """Nothing that comes later is told."""


class _Curve:
    """Measures each model that a simulation makes."""

    def __init__(self, blobs: FileBlobs, shard: Shard) -> None:
        self._blobs, self._shard = blobs, shard
        self.points: list[tuple[float, float]] = []

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        """Nothing to tell."""

    def committed(self, step: Committed, run: Run) -> None:
        """A step is stored."""
        if not step.model:
            return
        made = evaluate(task, self._shard, Blob(self._blobs.open(step.model)), EvaluateSettings())
        metric = made.metrics["accuracy"]
        self.points.append((step.at, metric.total / metric.weight))
        if self.points[-1][1] >= _ACCURACY:
            raise _GoodEnough


def _all_held_out(shards: Path, names: Sequence[str]) -> Shard:
    """What no partner trains on, of all of them."""
    held = list(_held_out(shards, names))
    images = np.concatenate([batch.images for batch in held if batch.images is not None])
    labels = np.concatenate([batch.labels for batch in held])
    rows = len(labels)
    batch = Batch(np.zeros((rows, 0), np.float32), np.zeros((rows, 0), np.int64), images, labels)
    return Shard("all", batch, batch)


def _held_out(shards: Path, names: Sequence[str]) -> Iterator[Batch]:
    for name in names:
        manifest = manifest_of(shards, name)
        files = [path.open("rb") for path in resolve(manifest, shards / name)]
        yield open_shard(task.schema, manifest, files)[0].held_out
        for file in files:
            file.close()
