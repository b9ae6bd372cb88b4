"""A real training child: what it can do, and what it cannot reach."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.client.child import ChildFailed, start_child
from aimass.client.worker_protocol import Order, seal, sealed_view
from aimass.proto.contribution import decode_contribution
from aimass.proto.errors import IntegrityError, LimitExceeded
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.support.datasets import dataset

PROBE = """
import os, socket, sys
from pathlib import Path
from aimass.client.confinement import confine
secret, other, scratch, port, inherited = sys.argv[1:6]
levels = confine([], Path(scratch), Path(secret), os.getppid())
def reads(path):
    try:
        Path(path).read_bytes()
        return True
    except OSError:
        return False
def connects():
    try:
        socket.create_connection(("127.0.0.1", int(port)), 2).close()
        return True
    except OSError:
        return False
def writes(path):
    try:
        Path(path).write_text("x")
        return True
    except OSError:
        return False
open_files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
print(sorted(levels), reads(secret), reads(other), reads(f"/proc/{os.getppid()}/environ"), connects(),
      writes(Path(other).parent / "new"), writes(Path(scratch) / "new"), int(inherited) in open_files)
"""


def order(kind: StepKind, purpose: str = "") -> Order:
    return Order(
        kind=kind, purpose=purpose, seed="11" * 32, train=TrainSettings(batch_size=32, learning_rate=0.1, epochs=1),
        evaluate=EvaluateSettings(),
    )  # fmt: skip


def manifest() -> ShardManifest:
    return ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(dataset("heart") / "cleveland.parquet"),), format="parquet",
        participant="cleveland", salt="00" * 32, held_out=0.3,
    )  # fmt: skip


def test_a_confined_process_reaches_no_key_no_other_partner_no_network(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    secret, other = tmp_path / "identity.key", tmp_path / "other.parquet"
    secret.write_text("secret")
    other.write_text("rows")
    inherited = os.open(secret, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, secret, other, tmp_path / "scratch", str(server.getsockname()[1]), str(inherited)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    os.close(inherited)
    levels, *facts = done.stdout.strip().rsplit(maxsplit=7)
    assert done.returncode == 0, done.stderr
    read_secret, read_other, read_parent, connected, wrote_outside, wrote_scratch, has_descriptor = facts
    # What is reported must hold; a machine that cannot do more reports less.
    if "files" in levels:
        assert (read_secret, read_other, read_parent, wrote_outside) == ("False",) * 4
    if "network" in levels:
        assert connected == "False"
    assert "process" in levels
    assert wrote_scratch == "True"
    assert has_descriptor == "False"


def test_a_warm_child_trains_evaluates_and_analyses_and_repeats_itself_to_the_bit(tmp_path: Path) -> None:
    async def work() -> None:
        source = locate("heart")
        secret = tmp_path / "identity.key"
        secret.write_text("secret")
        model = tmp_path / "model.safetensors"
        model.write_bytes(first_model(load(source), 1))
        child = await start_child(source, manifest(), tmp_path, secret, tmp_path)
        try:
            first, second = [
                hashlib.sha256(await child.work(order(StepKind.TRAIN), model, 1 << 20)).digest() for _ in "ab"
            ]
            assert first == second
            evaluated = decode_contribution(Blob(await child.work(order(StepKind.EVALUATE), model, 1 << 20)))
            assert evaluated.metrics["accuracy"].weight == child.opened.held_out_rows
            counted = decode_contribution(Blob(await child.work(order(StepKind.ANALYSE, "statistics"), model, 1 << 20)))
            assert counted.groups["statistics"].tensors["count"].max() == child.opened.training_rows
            with pytest.raises(ChildFailed) as caught:
                await child.work(order(StepKind.ANALYSE, "unheard-of"), model, 1 << 20)
            assert caught.value.code == "trainer.analysis"
            assert hashlib.sha256(await child.work(order(StepKind.TRAIN), model, 1 << 20)).digest() == first
        finally:
            await child.stop()
        assert [path.name for path in tmp_path.iterdir()] == ["identity.key", "model.safetensors"] or len(
            list(tmp_path.iterdir())
        ) == 2

    asyncio.run(work())


def test_bad_rows_are_told_by_place_and_never_by_content(tmp_path: Path) -> None:
    rows = (
        "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease\n"
        "Mr Miller" + ",," * 6 + ",yes\n"
    )
    (tmp_path / "rows.csv").write_text(rows)

    async def work() -> None:
        bad = ShardManifest(
            name="bad", data_schema="heart/1", uris=("rows.csv",), format="csv", participant="x", salt="00" * 32
        )
        await start_child(locate("heart"), bad, tmp_path, tmp_path / "rows.csv", tmp_path)

    with pytest.raises(ChildFailed) as caught:
        asyncio.run(work())
    assert caught.value.code == "rows.schema"
    assert "Miller" not in str(caught.value)


def test_a_result_that_the_child_could_still_change_or_that_is_too_large_is_refused() -> None:
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    with pytest.raises(IntegrityError):
        sealed_view(loose, 100)
    with pytest.raises(LimitExceeded):
        sealed_view(seal(b"0" * 101), 100)
    assert bytes(sealed_view(seal(b"0" * 100), 100)) == b"0" * 100
