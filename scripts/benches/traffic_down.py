"""The MNIST CNN (McMahan et al. 2017, section 3) down as its difference to the round before: what it spares, and costs.

Two partners train on a few hundred rows each. A mask of a tenth of the coordinates is what the last round would have
left under one.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.proto.difference import decode, encode
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.step import Step
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.simulate import simulate
from scripts.benches.mnist import mnist_batch
from scripts.benches.row import Row

__all__ = ["measure"]

_ROWS: Final = 300
_REPEATS: Final = 3
_KEPT: Final = 0.1


def measure(*, quick: bool) -> list[Row]:
    """Times smaller than the model, and megabytes of it a second of processor time, after a round and a masked one."""
    before, after = _models(rounds=2 if quick else 8)
    plain, masked = _costs("every weight moved", before, after), _costs("a tenth moved", before, _masked(before, after))
    return plain + masked


def _models(rounds: int) -> Sequence[Blob]:
    """The last two models of a run."""
    train, test = mnist_batch("train", 2 * _ROWS), mnist_batch("test", 20)
    shards = [
        Shard(f"p{place}", train.take(np.arange(place * _ROWS, (place + 1) * _ROWS)), test.take(np.arange(10)))
        for place in range(2)
    ]
    used: list[str] = []

    def told(step: Step) -> None:
        used.extend(digest for digest in step.inputs if digest not in used)

    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder))
        plan = Plan(
            name="down", task=TaskRef(name="mnist", digest="0" * 64), data_schema="mnist/1", seed=1,
            model=blobs.put([first_model(task, 1)]),
            stages=(Stage(driver="averaging", options={"rounds": rounds + 1}),),
            train=TrainSettings(batch_size=10, learning_rate=0.1, epochs=1),
            evaluate=EvaluateSettings(every=rounds + 1), cohort=Cohort(quorum=2),
        )  # fmt: skip
        simulate(plan, task, shards, blobs, told)
        return [Blob(bytes(blobs.open(digest))) for digest in used[-2:]]


def _masked(before: Blob, after: Blob) -> Blob:
    """`after` in a share of the coordinates, `before` in the others."""
    draw = np.random.default_rng(1)
    arrays = {
        name: np.where(draw.random(old.shape) < _KEPT, after.numpy(name), old) for name, old in before.arrays().items()
    }
    return Blob(encode_numpy(arrays))


def _costs(what: str, before: Blob, after: Blob) -> list[Row]:
    size, encoding, decoding, difference = len(after.data), [], [], b""
    for _ in range(_REPEATS):
        since = time.process_time()
        difference = b"".join(encode(before, after))
        encoded = time.process_time()
        for _part in decode(before, io.BytesIO(difference)):
            pass
        decoding.append(size / 1e6 / (time.process_time() - encoded))
        encoding.append(size / 1e6 / (encoded - since))
    title = f"MNIST CNN, difference down, {what}"
    return [
        Row.of(f"{title}: smaller by", [size / len(difference)], "x", None, "higher"),
        Row.of(f"{title}: made at", encoding, "MB/s", None, "higher"),
        Row.of(f"{title}: applied at", decoding, "MB/s", None, "higher"),
    ]
