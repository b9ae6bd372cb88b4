"""Flower apps for tests: server code in a folder, installed at a server; partners whose half is a function here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aimass.proto.apps import App, install, read_app
from aimass.proto.flower.names import Array, ArrayRecord, Grid, Message, MetricRecord, RecordDict
from aimass.proto.flower.records import EMPTY_MODEL, node_id_of, pack_reply, unpack
from aimass.proto.plan import Plan, encode_plan
from aimass.proto.tensors import Blob
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.views import SlotState
from aimass.server import runs
from tests.support.clock import ManualClock
from tests.support.engines import Bench
from tests.support.flower import FOUR, flower_plan

__all__ = ["FEDAVG", "Apps", "LocalGrid", "adding", "app_of", "serving_app"]

Answer = Callable[[str, str, RecordDict], RecordDict]
"""A partner's half: name, message type and content; the content of its reply. What it raises is a failure."""

FEDAVG = """
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedAdam, FedYogi, FedMedian, Krum

app = ServerApp()

@app.main()
def main(grid, context):
    strategy = globals()[context.run_config["strategy"]](min_available_nodes=context.run_config["nodes"])
    strategy.start(grid, ArrayRecord([np.zeros(3)]), num_rounds=context.run_config["num-server-rounds"])
"""
"""A strategy of flwr's over a model of three zeros."""


def app_of(folder: Path, code: str, name: str = "adder", config: Mapping[str, object] | None = None) -> App:
    """An app with this server code, installed below `folder`."""
    source = folder / "source" / name
    source.mkdir(parents=True, exist_ok=True)
    values = {"num-server-rounds": 2, "strategy": "FedAvg", "nodes": 2, **(config or {})}
    told = "\n".join(
        f"{key} = {value!r}" if isinstance(value, str) else f"{key} = {value}" for key, value in values.items()
    )
    (source / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\n[tool.flwr.app.components]\n'
        f'serverapp = "{name}_server:app"\nclientapp = "{name}_client:app"\n[tool.flwr.app.config]\n{told}\n'
    )
    (source / f"{name}_server.py").write_text(textwrap.dedent(code))
    (source / f"{name}_client.py").write_text("app = None\n")
    return install(read_app(source), folder)


def adding(name: str, kind: str, content: RecordDict) -> RecordDict:
    """Conformance case 1: the nth partner of n weighs 10 n and adds n; evaluation gives its number as accuracy."""
    number = FOUR.index(name) + 1
    (arrays,) = content.array_records.values()
    metrics = MetricRecord({"num-examples": 10 * number, "accuracy": float(number)})
    if kind.startswith("evaluate"):
        return RecordDict({"metrics": metrics})
    made = ArrayRecord({key: Array(np.asarray(array.numpy() + number)) for key, array in arrays.items()})
    return RecordDict({"arrays": made, "metrics": metrics})


class Apps:
    """A bench whose partners answer with a function."""

    def __init__(self, bench: Bench, answer: Answer) -> None:
        self.bench, self.answer = bench, answer
        self.steps: list[tuple[int, str, tuple[str, ...]]] = []

    async def submit(self, app: App, plan: Plan | None = None, **terms: Any) -> str:
        """Submit a plan of the app; its id. Everybody joins."""
        plan = plan or flower_plan(app=app.name, digest=app.digest, **terms)
        await asyncio.to_thread(self.bench.blobs.put, [EMPTY_MODEL])
        run_id = await self.bench.submission.submit(
            encode_plan(plan), hashlib.sha256(encode_plan(plan)).hexdigest(), "anna"
        )
        await self.bench.join(run_id, *(plan.cohort.partners or FOUR))
        return run_id

    async def serve(self, run_id: str, *, until: Callable[[runs.Run], bool] = lambda run: run.state.final) -> runs.Run:
        """Answer each step, one partner after the other, until something holds."""
        done: set[int] = set()

        def something(run: runs.Run) -> bool:
            return until(run) or any(int(index) not in done for index in run.open)

        while True:
            run = await self.bench.until(run_id, something)
            if until(run):
                return run
            for index in sorted(int(index) for index in run.open):
                done.add(index)
                await self.step(run_id, index)

    async def step(self, run_id: str, index: int) -> None:
        """Everybody's answer to a step."""
        step = self.bench.engine.live(run_id).row.run.open[str(index)].step
        self.steps.append((index, str(step.kind), step.participants))
        for name in step.participants:
            run = self.bench.engine.live(run_id).row.run
            state = run.open.get(str(index))
            if state is None or state.slots[name].state is not SlotState.ASKED:
                continue
            model, records = (Blob(self.bench.blobs.open(digest)) for digest in step.inputs_of(name))
            try:
                data = pack_reply(self.answer(name, *unpack(model, records)[:2])).encode()
            except Exception as error:  # noqa: BLE001  (whatever a partner's half raises)
                fault = pb.Fault(
                    kind="internal", code=f"child.{type(error).__name__}", what="failed at app/client.py:1"
                )
                await self.bench.desk.step_failed(name, pb.StepFailed(run_id=run_id, step=index, fault=fault))
            else:
                await self.bench.send_bytes(run_id, name, index, data)

    def model(self, run_id: str) -> dict[str, np.ndarray[Any, Any]]:
        """The run's model."""
        return {
            name: np.array(array)
            for name, array in Blob(self.bench.blobs.open(self.bench.engine.live(run_id).row.run.model))
            .arrays()
            .items()
        }


@contextlib.asynccontextmanager
async def serving_app(
    folder: Path, answer: Answer = adding, partners: tuple[str, ...] = FOUR, **more: Any
) -> AsyncIterator[Apps]:
    """A server with partners, until the block ends."""
    bench = await Bench.start(folder, ManualClock(), partners, home=folder, **more)
    try:
        yield Apps(bench, answer)
    finally:
        await bench.stop()


class LocalGrid(Grid):  # type: ignore[misc]
    """flwr alone, in one process, over the same partners: the oracle."""

    run = None

    def __init__(self, answer: Answer = adding, partners: tuple[str, ...] = FOUR) -> None:
        self._answer, self._names = answer, {node_id_of(name): name for name in partners}

    def set_run(self, run: Any) -> None:
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise AssertionError

    def get_node_ids(self) -> list[int]:
        return list(self._names)

    def push_messages(self, messages: Any) -> list[str]:
        raise AssertionError

    def pull_messages(self, message_ids: Any) -> list[Message]:
        raise AssertionError

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = []
        for message in messages:
            about = message.metadata
            made = self._answer(self._names[about.dst_node_id], about.message_type, message.content)
            replies.append(Message(made, reply_to=message))
        return replies
