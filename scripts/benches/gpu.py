"""Training in the daemon's child on a GPU against the same child on a CPU core: the FedAvg paper's network.

Both are confined as a partner's, and are timed from the order to the sealed contribution in the daemon's hands. They
take turns over the same rows. What the two updates differ by is told as a share of what the model moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from aimass.client.child import Child, start_child
from aimass.client.worker_protocol import Order
from aimass.proto.contribution import decode_contribution
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, PrivacySettings, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from scripts.benches.client import mnist_rows
from scripts.benches.row import Row

_TASK: Final = "mnist"
_RATE: Final = 0.05
_MAX_BYTES: Final = 1 << 30
_KINDS: Final = ((10, 200, "plain"), (64, 100, "plain"), (512, 25, "plain"), (512, 25, "bfloat16"), (64, 40, "private"))
"""Rows of a batch, steps, and how."""


def measure(*, quick: bool) -> list[Row]:
    """Rows a second of both, and how many times as fast the GPU is; needs a GPU that torch can use."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu: torch sees no GPU here")
    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(_measure(Path(name), 2 if quick else 5))


async def _measure(folder: Path, turns: int) -> list[Row]:
    rows: list[Row] = []
    async with _child(folder, "cpu") as core, _child(folder, "cuda") as gpu:
        for batch, steps, how in _KINDS:
            taken: dict[str, list[float]] = {"core": [], "GPU": []}
            for turn in range(turns + 1):
                for who, child in (("core", core), ("GPU", gpu)):
                    part = steps if who == "GPU" else max(5, steps // 5)
                    seconds, _ = await _work(folder, child, _train(batch, part, how), how)
                    if turn:  # the first loads and looks
                        taken[who].append(batch * part / seconds)
                sys.stderr.write(f"gpu: {how}, {batch} rows, turn {turn} of {turns}\n")
            what = f"{how}, batches of {batch}"
            rows += [Row.of(f"{who}: {what}", values, "1/s", None, "higher") for who, values in taken.items()]
            rows.append(Row.ratio(f"GPU / core: {what}", taken["GPU"], taken["core"], None, "higher"))
        rows.append(Row.of("updates differ by", [await _difference(folder, core, gpu)], "%", 1.0, "lower"))
    return rows


def _train(batch: int, steps: int, how: str) -> TrainSettings:
    """Of private training the batch is a bound, twice what is drawn on average."""
    drawn = 2 * batch if how == "private" else batch
    weight: Literal["one", "rows"] = "one" if how == "private" else "rows"
    return TrainSettings(
        batch_size=drawn, learning_rate=_RATE, steps=steps, weight=weight, mixed_precision=how == "bfloat16"
    )


@contextlib.asynccontextmanager
async def _child(folder: Path, device: str) -> AsyncIterator[Child]:
    """A confined child that computes there."""
    home = Path(tempfile.mkdtemp(dir=folder))
    (home / "scratch").mkdir()
    manifest = ShardManifest(
        name=_TASK, data_schema="mnist/1", uris=(str(mnist_rows(folder)),), format="parquet", participant="north",
        salt="00" * 32, held_out=0.0,
    )  # fmt: skip
    source = locate(_TASK)
    for name, content in (("model", first_model(load(source), 1)), ("state", b""), ("secret", b"")):
        (folder / name).write_bytes(content)
    limits = ChildLimits(device=device, mixed_precision=True)
    child = await start_child(source, manifest, folder, folder / "secret", home / "scratch", limits)
    try:
        sys.stderr.write(f"gpu: {child.opened.device}, confined: {', '.join(child.opened.confinement)}\n")
        yield child
    finally:
        await child.stop()


async def _work(folder: Path, child: Child, train: TrainSettings, how: str) -> tuple[float, memoryview]:
    """Seconds, and the contribution."""
    privacy = None
    if how == "private":
        average = train.batch_size // 2
        privacy = PrivacySettings(
            noise_multiplier=1.0, clip=1.0, sampling_rate=average / child.opened.training_rows, delta=1e-5,
            divisor=float(average),
        )  # fmt: skip
    order = Order(
        kind=StepKind.TRAIN, purpose="", seed="11" * 32, train=train, evaluate=EvaluateSettings(), privacy=privacy
    )
    started = time.perf_counter()
    made = await child.work(order, [folder / "model"], folder / "state", _MAX_BYTES)
    return time.perf_counter() - started, made.contribution


async def _difference(folder: Path, core: Child, gpu: Child) -> float:
    """The largest difference of an element of both updates, in percent of the largest movement."""
    found = []
    for child in (core, gpu):
        _, contribution = await _work(folder, child, _train(64, 20, "plain"), "plain")
        tensors = decode_contribution(Blob(bytes(contribution))).groups["update"].tensors
        found.append(np.concatenate([np.asarray(array).ravel() for _, array in sorted(tensors.items())]))
    return float(100 * np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())
