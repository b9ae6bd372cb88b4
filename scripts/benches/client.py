"""Training in the daemon's child against a bare torch loop: the FedAvg paper's network, batches of ten, one thread.

Ours is an order to a real child, confined as a partner's, from the order to the sealed contribution in the daemon's
hands. The loop is the same steps over the same rows in a process of its own with the same threads and the same
allocator, and nothing else. The two take turns. The same file, started with arguments, is that loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aimass.client.child import start_child
from aimass.client.data_get import cache_folder, cached
from aimass.client.worker_protocol import Order
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.task import first_model, load, locate
from scripts.benches.row import Row

_TASK: Final = "mnist"
_BATCH: Final = 10
_RATE: Final = 0.05
_SHARE: Final = 98.0
_SYNTHETIC_ROWS: Final = 20_000
_MAX_BYTES: Final = 1 << 30


def measure(*, quick: bool) -> list[Row]:
    """Samples a second of both, and ours as a share of the loop's, pair by pair."""
    steps, turns = (250, 5) if quick else (1_000, 9)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = mnist_rows(folder)
        manifest = ShardManifest(
            name=_TASK, data_schema="mnist/1", uris=(str(rows),), format="parquet", participant="north",
            salt="00" * 32, held_out=0.0,
        )  # fmt: skip
        with loop(rows, steps) as bare_loop:
            ours, bare = asyncio.run(_turns(folder, manifest, bare_loop, steps, turns))
    shares = [100 * mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
    return [
        Row.of("daemon's child", ours, "1/s", None, "higher"),
        Row.of("bare torch loop", bare, "1/s", None, "higher"),
        Row.of("child / loop", shares, "%", _SHARE, "higher"),
    ]


def mnist_rows(folder: Path) -> Path:
    """MNIST's training rows, or as many bytes of chance in the same form."""
    if cached(_TASK, cache_folder()) is not None:
        return cache_folder() / "data" / _TASK / "train.parquet"
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    sys.stderr.write(f"client: {_TASK} is not installed (aimass data get {_TASK}); synthetic rows of its shape\n")
    chance = np.random.default_rng(0)
    images = [chance.bytes(28 * 28) for _ in range(_SYNTHETIC_ROWS)]
    labels = [str(label) for label in chance.integers(0, 10, _SYNTHETIC_ROWS)]
    path = folder / "train.parquet"
    parquet.write_table(pa.table({"image": images, "label": labels}), path)
    return path


@contextlib.contextmanager
def loop(rows: Path, steps: int) -> Iterator[subprocess.Popen[str]]:
    """The bare loop's process, with what a child has in its environment for threads and memory."""
    loop = subprocess.Popen(
        [sys.executable, "-m", "scripts.benches.client", str(rows), str(steps)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    )  # fmt: skip
    try:
        yield loop
    finally:
        loop.kill()
        loop.communicate()


async def _turns(
    folder: Path, manifest: ShardManifest, loop: subprocess.Popen[str], steps: int, turns: int
) -> tuple[list[float], list[float]]:
    """Samples a second, turn by turn, after one turn each that is not counted."""
    source = locate(_TASK)
    model, state, secret = folder / "model.safetensors", folder / "state", folder / "secret"
    model.write_bytes(first_model(load(source), 1))
    state.touch()
    secret.touch()
    (folder / "scratch").mkdir()
    child = await start_child(source, manifest, folder, secret, folder / "scratch")
    train = TrainSettings(batch_size=_BATCH, learning_rate=_RATE, steps=steps)
    order = Order(kind=StepKind.TRAIN, purpose="", seed="11" * 32, train=train, evaluate=EvaluateSettings())
    ours, bare = [], []
    try:
        for turn in range(turns + 1):
            started = time.perf_counter()
            await child.work(order, [model], state, _MAX_BYTES)
            ours.append(steps * _BATCH / (time.perf_counter() - started))
            bare.append(steps * _BATCH / await asyncio.to_thread(loop_seconds, loop))
            sys.stderr.write(f"client: turn {turn} of {turns}\n")
    finally:
        await child.stop()
    return ours[1:], bare[1:]


def loop_seconds(loop: subprocess.Popen[str]) -> float:
    assert loop.stdin is not None
    assert loop.stdout is not None
    loop.stdin.write("go\n")
    loop.stdin.flush()
    return float(loop.stdout.readline())


def _bare(rows: Path, steps: int) -> None:
    """The loop, once for each line that comes in."""
    import numpy as np
    import torch
    from pyarrow import parquet

    from aimass.proto.networks import FedAvgCnn

    torch.set_num_threads(1)
    table = parquet.read_table(rows)
    pixels = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(-1, 1, 28, 28)
    images = torch.from_numpy(pixels.copy())
    labels = torch.tensor([int(label) for label in table["label"].to_pylist()])
    for _ in sys.stdin:
        model = FedAvgCnn()
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
        started = time.perf_counter()
        order = torch.randperm(len(labels))
        for step in range(steps):
            index = order[torch.arange(step * _BATCH, (step + 1) * _BATCH) % len(labels)]
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(images[index]), labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        sys.stdout.write(f"{time.perf_counter() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _bare(Path(sys.argv[1]), int(sys.argv[2]))
