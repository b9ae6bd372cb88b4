"""Workers as real processes, locked in, over memory that is shared with them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import select
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from aimass.client.tasks import heart
from aimass.proto.errors import AimassError, BadInput, IntegrityError, InternalError, Unavailable
from aimass.proto.home import ChildLimits
from aimass.proto.predictors import examples
from aimass.proto.rows_servable import RowsServable
from aimass.proto.servable import DTYPES
from aimass.proto.task import locate
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.serving.dispatch.dispatcher import Dispatcher
from aimass.server.serving.dispatch.opened import dispatching
from aimass.server.serving.dispatch.requests import Answer, Request, WorkerLost
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.workers.nursery import Nursery, Starting
from tests.support.installed import install_task, see_too
from tests.support.serving import turns

TASK = """
import os, socket, sys, time
import numpy as np
from aimass.proto.manifest import Number, Schema
from aimass.proto.servable import DTYPES, TensorSpec
from aimass.proto.task import Task

SPECS = tuple(TensorSpec(name, name, (-1, -1), optional=True) for name in DTYPES)

class Unruly:
    '''Gives back what it gets, plus a thousand for each version after the first; what an INT64 above 10 asks for it does.'''
    inputs = SPECS

    def __init__(self, parameters):
        self._parameters = parameters
        self.forbidden = os.environ["HOME"] + "/../forbidden"

    def examples(self, rows):
        if self._parameters.numpy("plain")[0] == 7:
            raise ValueError("cannot be warmed up")
        return {"FP64": np.zeros((rows, 1))}

    @property
    def outputs(self):
        return (TensorSpec("same", "FP64", (-1, -1)),) if self._parameters.numpy("plain")[0] else ()

    def infer(self, tensors):
        wish = int(tensors["INT64"].max()) - 10 if "INT64" in tensors else 0
        if wish == 1:
            os._exit(3)
        if wish == 2:
            print("a secret row", file=sys.stderr, flush=True)
            raise ValueError("a secret row")
        if wish == 3:
            socket.socket()
        if wish == 4:
            return {"same": np.full((len(tensors["INT64"]), 1), np.nan)}
        if wish == 5:
            time.sleep(600)
        if wish == 6:
            return {"same": os.environ.get("AIMASS_SECRET", "none")}
        if wish == 7:
            open(self.forbidden).read()
        if wish == 8:
            return {"same": np.ones((1 << 27, 1))}
        return {"same": next(iter(tensors.values())).astype(np.float64) + 1000 * (self._parameters.numpy("plain")[0] - 1)}

class Answers(Task):
    schema = Schema(name="unruly/1", columns=(Number(name="x", minimum=0, maximum=1),), label=Number(name="y", minimum=0, maximum=1))

    def first(self, seed):
        raise NotImplementedError

    def servable(self, parameters, device="cpu"):
        if parameters.numpy("plain")[0] == 2:
            raise ValueError("cannot be loaded")
        if parameters.numpy("plain")[0] == 3:
            time.sleep(600)
        return Unruly(parameters)

task = Answers()
"""


class Place:
    """Where a task and its parameters are, and workers are started."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.starting = Starting(folder, python=str(python), batch_bytes=1 << 20, preload=())

    def source(self, plain: int = 1, **changed: str) -> Source:
        blob = encode_numpy({"plain": np.array([plain])})
        path = self.folder / f"{plain}.safetensors"
        path.write_bytes(blob)
        digest = changed.get("digest", hashlib.sha256(blob).hexdigest())
        task = changed.get("task_digest", locate("unruly").digest)
        return Source("unruly", plain, "unruly", task, path, digest)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    python = install_task(tmp_path / "installed", "unruly", {"__init__.py": TASK})
    see_too(tmp_path / "installed", monkeypatch)
    monkeypatch.setenv("AIMASS_SECRET", "a key")
    return Place(tmp_path, python)


def serving(place: Place, test: Callable[[Dispatcher], Awaitable[None]], **settings: float) -> None:
    async def run() -> None:
        async with dispatching(place.starting, DispatchSettings(**settings)) as dispatcher:  # type: ignore[arg-type]
            await dispatcher.load(place.source())
            dispatcher.share("unruly", {1: 1.0})
            await test(dispatcher)

    asyncio.run(run())


def wish(number: int) -> Request:
    return Request("unruly", {"INT64": np.array([[number + 10 if number > 0 else number]])})


def test_tensors_of_every_datatype_reach_a_worker_and_come_back(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        for name, dtype in DTYPES.items():
            if name != "BYTES":
                sent = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
                answer = await dispatcher.infer(Request("unruly", {name: sent}))
                assert answer.tensors["same"].tolist() == sent.astype(float).tolist()
        texts = np.array([[b"1.5", b"-2"]], object)
        answer = await dispatcher.infer(Request("unruly", {"BYTES": texts}))
        assert answer.tensors["same"].tolist() == [[1.5, -2.0]]

    serving(place, test)


def test_a_worker_is_locked_in_and_knows_nothing_of_its_front(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        loaded = dispatcher.loaded("unruly")
        assert "process" in loaded.confinement
        if "calls" in loaded.confinement:
            with pytest.raises(InternalError, match="PermissionError"):
                await dispatcher.infer(wish(3))
        if "files" in loaded.confinement:
            with pytest.raises(InternalError, match="PermissionError"):
                await dispatcher.infer(wish(7))
        with pytest.raises(InternalError, match="AttributeError"):
            await dispatcher.infer(wish(6))
        assert await dispatcher.digest("unruly", 1) == loaded.digest
        assert loaded.resident_bytes > 1 << 20

    serving(place, test)


def test_a_worker_takes_no_more_memory_than_it_may(place: Place) -> None:
    place.starting = dataclasses.replace(place.starting, limits=ChildLimits(memory_bytes=512 << 20))

    async def test(dispatcher: Dispatcher) -> None:
        with pytest.raises(InternalError, match="MemoryError"):
            await dispatcher.infer(wish(8))
        assert isinstance(await dispatcher.infer(wish(0)), Answer)

    serving(place, test)


def test_what_a_model_raises_is_told_without_its_words(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        with pytest.raises(InternalError) as caught:
            await dispatcher.infer(wish(2))
        assert caught.value.code == "serving.model_failed"
        assert (caught.value.value or "").startswith("ValueError at unruly/__init__.py:")
        assert "secret" not in str(caught.value)
        assert "secret" not in capfd.readouterr().err
        with pytest.raises(InternalError) as caught:
            await dispatcher.infer(wish(4))
        assert caught.value.code == "serving.invalid_output"
        assert isinstance(await dispatcher.infer(wish(0)), Answer)

    serving(place, test)


def test_no_request_is_lost_when_a_worker_is_killed(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        asked = [asyncio.create_task(dispatcher.infer(wish(-number))) for number in range(100)]
        await turns(2)
        os.kill(_pid(dispatcher), signal.SIGKILL)
        answers = await asyncio.gather(*asked)
        assert [answer.tensors["same"].tolist() for answer in answers] == [[[-number]] for number in range(100)]

    serving(place, test)


def test_workers_outlive_the_nursery_and_another_bears_those_to_come(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        worker = _pid(dispatcher)
        nursery = os.pidfd_open(_parent(worker))
        signal.pidfd_send_signal(nursery, signal.SIGKILL)
        assert select.select([nursery], [], [], 10.0)[0]
        os.close(nursery)
        assert isinstance(await dispatcher.infer(wish(0)), Answer)
        assert _pid(dispatcher) == worker
        os.kill(worker, signal.SIGKILL)
        assert isinstance(await dispatcher.infer(wish(0)), Answer)
        assert _pid(dispatcher) != worker

    serving(place, test)


FRONT = """
import asyncio, os, sys
from pathlib import Path
from aimass.server.serving.dispatch.opened import dispatching
from aimass.server.serving.dispatch.requests import Request
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.workers.nursery import Starting
import numpy as np

async def main(folder, python, path, task_digest, digest):
    starting = Starting(Path(folder), python=python, batch_bytes=1 << 20, preload=())
    async with dispatching(starting, DispatchSettings()) as dispatcher:
        source = Source("unruly", 1, "unruly", task_digest, Path(path), digest)
        await dispatcher.load(source)
        hangs = dispatcher.infer(Request("unruly", {"INT64": np.array([[15]])}, version=1))
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, hangs)
        await asyncio.to_thread(os.sched_yield)
        print(dispatcher._models["unruly"].lanes[1].workers[0].pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def test_workers_end_when_their_front_is_killed_even_those_that_hang(place: Place) -> None:
    source, python = place.source(), place.starting.python
    command = [
        python,
        "-c",
        FRONT,
        str(place.folder),
        python,
        str(source.parameters),
        source.task_digest,
        source.digest,
    ]
    front = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert front.stdout is not None
    handle = os.pidfd_open(int(front.stdout.readline()))
    front.kill()
    front.communicate()
    assert select.select([handle], [], [], 10.0)[0], "the worker lives on"
    os.close(handle)


def test_versions_are_swapped_under_load_and_each_answer_is_that_of_the_version_it_names(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        stop, answers = asyncio.Event(), 0

        async def ask() -> None:
            nonlocal answers
            while not stop.is_set():
                answer = await dispatcher.infer(Request("unruly", {"FP32": np.array([[7.0]], np.float32)}))
                assert answer.tensors["same"].tolist() == [[7.0 + 1000 * (answer.version - 1)]]
                answers += 1

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        former = 1
        for version in (4, 5, 6):
            await dispatcher.load(place.source(version))
            dispatcher.share("unruly", {version: 0.5, former: 0.5}, fallback=former)
            os.kill(_pid(dispatcher, version), signal.SIGKILL)
            dispatcher.share("unruly", {version: 1.0}, fallback=former)
            await dispatcher.unload("unruly", former)
            former = version
        stop.set()
        await asyncio.gather(*asking)
        assert answers > 100

    serving(place, test)


def test_workers_that_ended_leave_no_trace_in_the_nursery(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        former = _pid(dispatcher)
        nursery = _parent(former)
        await dispatcher.load(place.source(4))
        os.kill(former, signal.SIGKILL)
        assert isinstance(await dispatcher.infer(wish(0)), Answer)
        assert not Path(f"/proc/{former}").exists()
        children = Path(f"/proc/{nursery}/task/{nursery}/children").read_text().split()
        assert sorted(map(int, children)) == sorted(_pid(dispatcher, version) for version in (1, 4))

    serving(place, test)


def test_a_request_that_kills_its_worker_fails_and_no_other_does(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        outcomes = await asyncio.gather(
            *(dispatcher.infer(wish(number)) for number in (0, 1, -1)), return_exceptions=True
        )
        assert isinstance(outcomes[1], WorkerLost)
        assert all(isinstance(outcomes[place], Answer) for place in (0, 2))

    serving(place, test)


def test_a_worker_that_hangs_is_killed(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        with pytest.raises(WorkerLost):
            await dispatcher.infer(wish(5))
        assert isinstance(await dispatcher.infer(wish(0)), Answer)

    serving(place, test, hang_s=0.2, most_attempts=1)


def test_a_batch_that_does_not_fit_is_refused(place: Place) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        with pytest.raises(AimassError) as caught:
            await dispatcher.infer(Request("unruly", {"FP64": np.zeros((1, 1 << 18))}))
        assert caught.value.code == "serving.batch_bytes"

    serving(place, test)


def _pid(dispatcher: Dispatcher, version: int = 1) -> int:
    return dispatcher._models["unruly"].lanes[version].workers[0].pid  # type: ignore[attr-defined,no-any-return]


def test_what_a_worker_serves_is_what_was_trained(place: Place, tmp_path: Path) -> None:
    parameters, batch = heart.task.first(1), examples(heart.task.schema, 24)
    path = tmp_path / "heart.safetensors"
    path.write_bytes(parameters)
    found = locate("heart")
    source = Source("heart", 1, "heart", found.digest, path, hashlib.sha256(parameters).hexdigest())
    tensors = RowsServable(heart.task.schema, heart.task.predictor(Blob(parameters))).examples(24)

    async def test(dispatcher: Dispatcher) -> None:
        loaded = await dispatcher.load(source)
        assert await dispatcher.digest("heart", 1) == loaded.digest
        together, *alone = await asyncio.gather(
            dispatcher.infer(Request("heart", tensors, version=1)),
            *(
                dispatcher.infer(Request("heart", {n: t[row : row + 1] for n, t in tensors.items()}, version=1))
                for row in range(24)
            ),
        )
        trained = heart.task.scored(Blob(parameters), batch)
        np.testing.assert_allclose(together.tensors["probabilities"], trained, rtol=0, atol=1e-6)
        each = np.concatenate([answer.tensors["probabilities"] for answer in alone])
        np.testing.assert_allclose(each, trained, rtol=0, atol=1e-6)

    serving(place, test)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


def start(source: Source, starting: Starting) -> None:
    async def run() -> None:
        nursery = Nursery(starting)
        try:
            await (await nursery.start(source)).end()
        finally:
            nursery.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("plain", "changed", "error", "code"),
    [
        (1, {"digest": "0" * 64}, IntegrityError, "serving.parameters"),
        (1, {"task_digest": "0" * 64}, IntegrityError, "task.changed"),
        (2, {}, InternalError, "serving.model_failed"),
        (3, {}, AimassError, "serving.start"),
        (7, {}, InternalError, "serving.model_failed"),
    ],
)
def test_what_cannot_be_loaded_is_named_and_leaves_nothing(
    place: Place, plain: int, changed: dict[str, str], error: type[AimassError], code: str
) -> None:
    starting = dataclasses.replace(place.starting, start_s=1.0 if plain == 3 else 60.0)
    before = {path.name for path in place.folder.iterdir()}
    source = place.source(plain, **changed)
    with pytest.raises(error) as caught:
        start(source, starting)
    assert caught.value.code == code
    assert {path.name for path in place.folder.iterdir()} - before <= {source.parameters.name, "forbidden"}


def test_half_a_file_is_not_loaded(place: Place) -> None:
    source = place.source()
    source.parameters.write_bytes(source.parameters.read_bytes()[:-1])
    with pytest.raises((IntegrityError, BadInput)):
        start(source, place.starting)


def test_a_worker_that_dies_while_it_loads_is_named(place: Place) -> None:
    starting = dataclasses.replace(place.starting, python="/bin/false")
    with pytest.raises(Unavailable) as caught:
        start(place.source(), starting)
    assert caught.value.code == "serving.start_died"
