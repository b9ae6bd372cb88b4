"""A worker process as the server holds it: started, spoken with, its output kept short, killed. No call blocks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aimass.proto.durable import make_folder
from aimass.proto.errors import AimassError, InternalError, Unavailable
from aimass.proto.frames import receive, seal, send
from aimass.proto.values import canonical_json, decode_json
from aimass.server.flower.speech import Answer, Begin, Request

__all__ = ["LOG", "WorkerProcess", "start_worker"]

log = logging.getLogger("aimass.server")
LOG: Final = "app.log"
_WORKER: Final = ("-m", "aimass.server.flower.worker")
_SCRATCH: Final = "scratch"
_HALF_LOG_BYTES: Final = 1 << 20
_BLOCK: Final = 1 << 16

Received = tuple[Request, tuple[int, ...]]


class _Process:
    """A process of a session of its own, which is not reaped before its group is killed: until then its number is no
    other's. Its output goes into a pipe of ours, so that its end is its own and not that of whoever has the pipe."""

    def __init__(self, command: Sequence[str], output: int, link: int, folder: Path, env: Mapping[str, str]) -> None:
        """In the thread of the loop: the process ends with the thread that started it."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(link,),
            cwd=folder,
            start_new_session=True,
            env=env,
        )
        self.exited = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            self._handle = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise
        self._loop.add_reader(self._handle, self._over)

    def _over(self) -> None:
        self._loop.remove_reader(self._handle)
        self.exited.set()

    async def end(self) -> int:
        """Kill it and what it started in its session, and wait; its exit code, negative for a signal."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self.exited.wait()
            if self._process.returncode is None:  # (two may wait)
                self._process.wait()
                os.close(self._handle)
        return self._process.returncode


class _Output:
    """What a process prints, into a log that is kept short; it never waits for us, whatever becomes of the log."""

    def __init__(self, path: Path) -> None:
        self._path, self._warned, self._open = path, False, True
        self._loop = asyncio.get_running_loop()
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._loop.add_reader(self._reading, self._read)

    def started(self) -> None:
        """The process has its end: ours is closed."""
        os.close(self.writing)
        self.writing = -1

    def _read(self) -> bool:
        """Whether there was something."""
        try:
            block = os.read(self._reading, _BLOCK)
        except BlockingIOError:
            return False
        if not block:
            self._loop.remove_reader(self._reading)
            return False
        try:
            self._write(block)
        except OSError as error:
            if not self._warned:
                log.warning("%s is not written, and what the app prints is lost: %s", self._path, error)
            self._warned = True
        return True

    def _write(self, block: bytes) -> None:
        """Keep the last words of an app that may print without end: a file that is full becomes `app.log.old`."""
        make_folder(self._path.parent)
        if self._path.is_file() and self._path.stat().st_size + len(block) > _HALF_LOG_BYTES:
            self._path.replace(self._path.with_name(f"{self._path.name}.old"))
        with self._path.open("ab") as file:
            file.write(block)

    def end(self) -> None:
        """Take what is in the pipe, and no more: what outlives the process may print for ever."""
        if self._open:
            self._open = False
            for _ in range(_HALF_LOG_BYTES // _BLOCK):
                if not self._read():
                    break
            self._loop.remove_reader(self._reading)
            for descriptor in (self._reading, self.writing):
                if descriptor >= 0:
                    os.close(descriptor)


class WorkerProcess:
    """A running worker. Its requests come in order; answers may be sent in any."""

    def __init__(self, process: _Process, output: _Output, link: socket.socket, scratch: Path) -> None:
        self._process, self._output, self._link, self._scratch = process, output, link, scratch
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Received | AimassError | None] = asyncio.Queue()
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="aimass-flower")
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        """In a thread of its own: a worker that says half a word holds up nobody else."""
        told: Received | AimassError | None
        while True:
            try:
                told = _received(self._link)
            except (Unavailable, OSError):
                told = None
            except AimassError as error:
                told = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(self._requests.put_nowait, told)
            if told is None or isinstance(told, AimassError):
                return

    async def requests(self) -> AsyncIterator[Received]:
        """What the worker asks, until it is gone. Descriptors are the caller's to close. Raises what is wrong with a
        request that is none."""
        while (told := await self._requests.get()) is not None:
            if isinstance(told, AimassError):
                raise told
            yield told

    async def answer(self, answer: Answer, descriptors: tuple[int, ...] = ()) -> None:
        """Say something; descriptors are closed. Where the worker is gone nothing happens: its requests end."""

        def say() -> None:
            try:
                with contextlib.suppress(OSError):
                    send(self._link, canonical_json(answer), descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

        await self._loop.run_in_executor(self._sending, say)

    async def end(self) -> int:
        """Kill it, and what it started in its session, and wait; its exit code."""
        code = await self._process.end()
        self._output.end()
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._listening.join)
        await asyncio.to_thread(self._sending.shutdown)
        while not self._requests.empty():
            if isinstance(told := self._requests.get_nowait(), tuple):
                for descriptor in told[1]:
                    os.close(descriptor)
        self._link.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        return code

    async def ended(self, patience_s: float) -> int | None:
        """Its exit code, once its log is written; None where it still runs after so many seconds."""
        try:
            async with asyncio.timeout(patience_s):
                await self._process.exited.wait()
        except TimeoutError:
            return None
        self._output.end()
        return await self._process.end()


def _received(link: socket.socket) -> Received:
    """The next request; raises `Unavailable` at the end, and what is wrong with one that is none."""
    data, descriptors = receive(link)
    try:
        return decode_json(Request, data, "a request of a worker"), descriptors  # type: ignore[arg-type]
    except AimassError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


async def start_worker(begin: Begin, model: int, folder: Path) -> WorkerProcess:
    """Start a worker, which gets the open file `model`.

    In `folder` it has an empty folder of its own, which goes with it, and its output stands in `app.log`.
    """
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        output = _Output(folder / LOG)
        try:
            command = (sys.executable, "-s", "-P", *_WORKER, str(theirs.fileno()))
            process = _Process(command, output.writing, theirs.fileno(), scratch, _environment(scratch))
        except BaseException:
            output.end()
            raise
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    output.started()
    worker = WorkerProcess(process, output, ours, scratch)
    descriptor = seal([canonical_json(begin)])
    try:
        await asyncio.to_thread(send, ours, b"{}", (descriptor, model))
    except OSError as error:
        await worker.end()
        raise InternalError("the worker of a Flower app could not be started", code="flower.start") from error
    except BaseException:
        await asyncio.shield(worker.end())
        raise
    finally:
        os.close(descriptor)
    return worker


def _environment(scratch: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",  # an app that runs again iterates over its sets in the same order
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # an installed app stays as it was installed
        "FLWR_TELEMETRY_ENABLED": "0",
    }
