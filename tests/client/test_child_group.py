"""Two confined children that train together: one contribution, that of one child and of torch's own DDP over gloo."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client import trainer
from aimass.client.child import Child, ChildDied, ChildFailed, Worker
from aimass.client.child_group import ChildGroup, start_children
from aimass.client.shards import open_shard
from aimass.client.tasks.digits import task
from aimass.proto.contribution import decode_contribution
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import PrivacySettings, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.task import first_model, locate
from aimass.proto.tensors import Array, Blob
from tests.client.test_child import order
from tests.support.datasets import dataset

TRAIN = TrainSettings(batch_size=64, learning_rate=0.1, steps=12, momentum=0.9)
LONG = TrainSettings(batch_size=2, learning_rate=1e-6, epochs=1_000_000)
WILD = msgspec.structs.replace(TRAIN, learning_rate=1000.0, weight_decay=1e6, steps=60)
START = first_model(task, 1)


def manifest() -> ShardManifest:
    return ShardManifest(
        name="digits", data_schema="digits/1", uris=(str(dataset("digits") / "digits.parquet"),), format="parquet",
        participant="a", salt="00" * 32, held_out=0.3,
    )  # fmt: skip


def update(made: memoryview | bytes) -> dict[str, Array]:
    return dict(decode_contribution(Blob(made)).groups["update"].tensors)


def alone(settings: TrainSettings = TRAIN) -> dict[str, Array]:
    with (dataset("digits") / "digits.parquet").open("rb") as file:
        shard, _ = open_shard(task.schema, manifest(), [file])
    made, _ = trainer.train(task, shard, Blob(START), b"", bytes.fromhex("11" * 32), settings)
    return update(made.encode())


def with_ranks(folder: Path, use: Callable[[Worker, list[Path], Path], Awaitable[None]], ranks: int = 2) -> None:
    """Start the children, and end them."""
    secret, model, state = (folder / name for name in ("identity.key", "model.safetensors", "state"))
    secret.write_text("secret")
    model.write_bytes(START)
    state.touch()
    (folder / "scratch").mkdir(exist_ok=True)

    async def work() -> None:
        limits = ChildLimits(ranks=ranks)
        worker = await start_children(locate("digits"), manifest(), folder, secret, folder / "scratch", limits)
        try:
            await use(worker, [model], state)
        finally:
            await worker.stop()
        assert not list((folder / "scratch").iterdir())

    asyncio.run(work())


def test_two_confined_children_give_the_update_of_one_and_repeat_it_to_the_bit(tmp_path: Path) -> None:
    levels: list[tuple[str, ...]] = []

    async def use(worker: Worker, inputs: list[Path], state: Path) -> None:
        assert isinstance(worker, ChildGroup)
        assert worker.opened.device.startswith("2 x ")
        levels.append(worker.opened.confinement)
        made, again = [await worker.work(order(StepKind.TRAIN, train=TRAIN), inputs, state, 1 << 20) for _ in "ab"]
        assert bytes(made.contribution) == bytes(again.contribution)
        together, one = update(made.contribution), alone()
        assert any((together[name] != one[name]).any() for name in one)
        for name, value in one.items():
            np.testing.assert_allclose(together[name], value, rtol=1e-3, atol=1e-5)
        evaluated = await worker.work(order(StepKind.EVALUATE), inputs, state, 1 << 20)
        metrics = decode_contribution(Blob(evaluated.contribution)).metrics
        assert metrics["accuracy"].weight == worker.opened.held_out_rows
        privacy = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.02, delta=1e-5, divisor=20.0)
        steps = TrainSettings(batch_size=32, learning_rate=0.1, steps=3, weight="one")
        private = msgspec.structs.replace(order(StepKind.TRAIN, train=steps), privacy=privacy)
        assert (await worker.work(private, inputs, state, 1 << 20)).private_steps == 3
        assert worker.alive
        with pytest.raises(ChildFailed) as caught:
            await worker.work(order(StepKind.TRAIN, train=WILD), inputs, state, 1 << 20)
        assert caught.value.code == "trainer.diverged"

    async def one_child(worker: Worker, inputs: list[Path], state: Path) -> None:
        assert isinstance(worker, Child)
        levels.append(worker.opened.confinement)

    with_ranks(tmp_path, use)
    with_ranks(tmp_path, one_child, ranks=1)
    assert levels[0] == levels[1]  # several are as confined as one


def test_a_rank_that_dies_ends_the_work_of_all_and_a_new_group_is_wanted(tmp_path: Path) -> None:
    async def use(worker: Worker, inputs: list[Path], state: Path) -> None:
        assert isinstance(worker, ChildGroup)
        working = asyncio.create_task(worker.work(order(StepKind.TRAIN, train=LONG), inputs, state, 1 << 20))
        await asyncio.wait({working}, timeout=0.5)
        worker._ranks[1].kill()
        with pytest.raises(ChildDied):
            await working
        assert not worker.alive

    with_ranks(tmp_path, use)


GLOO = """
import sys, torch, numpy
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from aimass.client.tasks.digits import task
from aimass.client.shards import open_shard
from aimass.client.trainer import _batches, optimizer_of
from aimass.proto.task import load_parameters
from aimass.proto.tensors import Blob
from tests.client.test_child_group import START, TRAIN, manifest
from tests.support.datasets import dataset

rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
with (dataset("digits") / "digits.parquet").open("rb") as file:
    shard, _ = open_shard(task.schema, manifest(), [file])
model = task.build()
load_parameters(model, Blob(START))
together = DistributedDataParallel(model)
optimizer = optimizer_of(list(model.parameters()), TRAIN)
(images,), labels = task.inputs(shard.train), torch.from_numpy(shard.train.labels)
for rows in _batches(len(labels), TRAIN, bytes.fromhex("11" * 32)):
    mine = torch.from_numpy(rows).tensor_split(2)[rank]
    optimizer.zero_grad()
    (task.loss(together(images[mine]), labels[mine]) * 2 * len(mine) / len(rows)).backward()  # DDP takes the mean
    optimizer.step()
if rank == 0:
    start = Blob(START)
    numpy.savez(out, **{n: (v - start.torch(n)).numpy() for n, v in model.state_dict().items()})
dist.destroy_process_group()
"""


def test_torchs_ddp_over_gloo_in_two_processes_gives_the_same_update(tmp_path: Path) -> None:
    out = tmp_path / "update.npz"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", GLOO, str(rank), str(tmp_path / "meeting"), str(out)],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    found, one = np.load(io.BytesIO(out.read_bytes())), alone()
    for name, value in one.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5)
