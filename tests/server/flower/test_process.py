"""The server's hold on a worker, with other programs in a worker's place: it ends, and nobody waits for more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aimass.proto.errors import BadInput
from aimass.server.flower import process
from aimass.server.flower.journal import State
from aimass.server.flower.process import WorkerProcess, start_worker
from aimass.server.flower.speech import Begin

BEGIN = Begin(
    folder="/nowhere",
    server_app="a:b",
    run_id="0" * 32,
    seed=1,
    config={},
    rounds=1,
    partners=(),
    secure=False,
    parent=0,
    state=State(model="0" * 64),
)
WITH_A_CHILD = """
import subprocess, sys, time, os
child = subprocess.Popen(["sleep", "60"], start_new_session={own})
print(child.pid, flush=True)
{then}
"""


def held(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, use: Callable[[WorkerProcess], Awaitable[None]]
) -> None:
    """Do something with a process that runs `code`; no descriptor is left."""
    monkeypatch.setattr(process, "_WORKER", ("-c", code))

    async def scenario() -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        model = os.open(os.devnull, os.O_RDONLY)
        try:
            worker = await start_worker(BEGIN, model, folder)
        finally:
            os.close(model)
        try:
            await use(worker)
        finally:
            await worker.end()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    asyncio.run(asyncio.wait_for(scenario(), 20))


async def printed(folder: Path) -> int:
    log = folder / "app.log"
    while not (log.is_file() and log.read_text().endswith("\n")):  # noqa: ASYNC110  (files tell nobody)
        await asyncio.sleep(0.01)
    return int(log.read_text())


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_end_waits_for_no_process_that_left_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(worker: WorkerProcess) -> None:
        child = await printed(tmp_path)
        try:
            async with asyncio.timeout(5):
                assert await worker.end() == -signal.SIGKILL
            assert running(child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    held(tmp_path, monkeypatch, WITH_A_CHILD.format(own=True, then="time.sleep(60)"), use)


@pytest.mark.parametrize("then", ["time.sleep(60)", "os._exit(3)"])
def test_what_stays_in_the_session_ends_with_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    async def use(worker: WorkerProcess) -> None:
        child = await printed(tmp_path)
        if "exit" in then:
            assert await worker.ended(5) == 3
        await worker.end()
        while running(child):  # noqa: ASYNC110  (killed, and going)
            await asyncio.sleep(0.01)

    held(tmp_path, monkeypatch, WITH_A_CHILD.format(own=False, then=then), use)


def test_the_last_words_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(worker: WorkerProcess) -> None:
        assert await worker.ended(10) == 7
        assert (tmp_path / "app.log").read_text() == "x" * 300_000 + "last\n"

    held(tmp_path, monkeypatch, "import os; print('x' * 300_000 + 'last', flush=True); os._exit(7)", use)


def test_a_log_that_cannot_be_written_holds_up_no_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "app.log").mkdir()

    async def use(worker: WorkerProcess) -> None:
        with caplog.at_level(logging.WARNING):
            assert await worker.ended(10) == 0
        (told,) = [record.getMessage() for record in caplog.records if "app.log" in record.getMessage()]
        assert "what the app prints is lost" in told

    held(tmp_path, monkeypatch, "print('x' * 1_000_000)", use)


def test_a_request_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import socket, sys\nfrom aimass.proto.frames import send\n"
        'send(socket.socket(fileno=int(sys.argv[1])), b\'{"type": "fetch"}\')'
    )

    async def use(worker: WorkerProcess) -> None:
        with pytest.raises(BadInput, match="a request of a worker"):
            async for _ in worker.requests():
                raise AssertionError

    held(tmp_path, monkeypatch, code, use)
