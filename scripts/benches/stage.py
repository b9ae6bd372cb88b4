"""A stage for measuring a server: the server and its crowd as processes, and one run over them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings, encode_plan
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import decode_json
from aimass.proto.views import RunView
from aimass.proto.wire import MAX_DOCUMENT_BYTES, connect
from scripts.benches import crowd

__all__ = ["all_say", "crowded", "one_run", "served"]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A real server of a folder that `crowd.found` made, on the first core."""
    core = min(os.sched_getaffinity(0))
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "aimass.proto.commands", "server", "start", "--dir", str(folder / "server")],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    os.sched_setaffinity(process.pid, {core})
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise RuntimeError((folder / "server.log").read_text())
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def crowded(
    folder: Path, count: int, address: str, model_bytes: int, in_processes: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """The crowd, in processes on the other cores."""
    cores = os.sched_getaffinity(0) - {min(os.sched_getaffinity(0))} or os.sched_getaffinity(0)
    bounds = [count * part // in_processes for part in range(in_processes + 1)]
    processes = [
        subprocess.Popen(
            [
                sys.executable, "-m", "scripts.benches.crowd", str(folder), str(first), str(last), address,
                str(model_bytes),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for first, last in itertools.pairwise(bounds)
    ]  # fmt: skip
    for process in processes:
        os.sched_setaffinity(process.pid, cores)
    try:
        all_say(processes, "ready")
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def all_say(processes: Sequence[subprocess.Popen[str]], word: str, tell: str = "") -> float:
    """Seconds until all have said `word`, from when they were told."""
    started = time.perf_counter()
    for process in processes:
        if tell:
            assert process.stdin is not None
            process.stdin.write(f"{tell}\n")
            process.stdin.flush()
    for process in processes:
        assert process.stdout is not None
        if (said := process.stdout.readline().strip()) != word:
            raise RuntimeError(f"a process of the crowd said {said!r} in place of {word!r}")
    return time.perf_counter() - started


async def one_run(
    folder: Path,
    address: str,
    model_bytes: int,
    cohort: Cohort,
    rounds: int,
    ending: threading.Thread,
    *,
    watched: bool = False,
) -> RunView:
    """Submit as the scientist, wait until the crowd's processes have ended it, and read what came of it."""
    member, blob = msgspec.json.decode((folder / "members.json").read_bytes())["sam"], crowd.model(model_bytes)
    channel = connect(address, crowd.identity(member), MAX_DOCUMENT_BYTES)
    control = rpc.ControlStub(channel)
    header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
    await submit(channel, header, memoryview(blob))
    plan = Plan(
        name="crowd", task=TaskRef(name="crowd", digest="0" * 64), data_schema="crowd/1", seed=1, model=header.digest,
        stages=(Stage(driver="averaging", options={"rounds": rounds}),),
        train=TrainSettings(batch_size=1, learning_rate=0.1, steps=1), evaluate=EvaluateSettings(every=0),
        cohort=cohort,
    )  # fmt: skip
    key = f"crowd-{watched}"
    run = decode_json(
        RunView, (await control.SubmitRun(pb.SubmitRunRequest(plan=encode_plan(plan), key=key))).json, "the run"
    )
    request = pb.RunRequest(run_id=run.summary.run_id)
    if watched:
        async for _ in control.WatchRun(request):
            pass
    await asyncio.to_thread(ending.join)
    view = decode_json(RunView, (await control.ShowRun(request)).json, "the run")
    await channel.close()
    return view
