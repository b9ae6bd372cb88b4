"""The daemon's handle on its training child: start it warm, give it orders, end it. Never blocks the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

from aimass.client.flower_source import AppSource
from aimass.client.shards import resolve
from aimass.client.worker_protocol import ChildFault, Open, Opened, Order, Result
from aimass.proto.errors import AimassError, BadInput, InternalError
from aimass.proto.frames import receive, sealed_view, send
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.task import TaskSource
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["Child", "ChildDied", "ChildFailed", "Made", "Worker", "start_child"]

log = logging.getLogger("aimass.client")
V = TypeVar("V", bound=Value)
_DEFAULT_LIMITS: Final = ChildLimits()
FAULTS: Final = "child.log"
_FAULTS_BYTES: Final = 1 << 20
_INSTALL: Final = "The child sees no PYTHONPATH: install that package into the daemon's environment with pip."
_CHECK: Final = (
    "`aimass task check NAME` says what in the task's model stands in the way, and what to put in its place."
)
_CURES: Final = {
    "task.unknown": _INSTALL,
    "child.device": "torch cannot use the GPU that child.device in client.toml names: `aimass doctor --dir DIR` looks.",
    "base.changed": "aimass client base list shows it; remove it, and add it again or let it be fetched.",
    "flower.unregistered": "The ServerApp asks for what the ClientApp has no function for: are they of one project?",
    "flower.reply": "The app must return a Message that replies to the one that it got.",
    "flower.not_finite": "A metric of the app is NaN or infinite.",
    "flower.dtype": "The app sends elements that do not travel: bfloat16 goes as float32.",
    "flower.weight": "Secret sums are weighted here: the reply's metrics need 'num-examples' above 0.",
    "flower.array_records": "Secret sums take one array record in a reply to training, and none in any other.",
    "flower.arrays": "Secret sums take the arrays that came with the message: the same names, types and shapes.",
    "flower.not_summable": "Secret sums take floats and integers to 64 bits; other arrays must stay as they came.",
    "child.ModuleNotFoundError": _INSTALL,
    **dict.fromkeys(
        (
            f"private.{what}"
            for what in ("buffers", "dtype", "gradients", "inplace", "layer", "mixed", "nothing", "rows")
        ),
        _CHECK,
    ),
}
"""What a person can do about the faults that a child tells by their codes alone."""


class ChildFailed(InternalError):
    """The child could not do it. The message holds a code and a place, never a row; the rest is in the local log."""

    kind = "internal"


class ChildDied(ChildFailed):
    """The child is gone in the middle of an order; a new one may do better."""


class Worker(Protocol):
    """What a session needs of a child."""

    @property
    def opened(self) -> Opened:
        """Device and confinement in force."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can still be given orders."""
        ...

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        """Do an order on the step's inputs, the model first, and the local state in these files."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class Made(NamedTuple):
    """What an order made: the encoded contribution, the new local state, and how many private steps were done."""

    contribution: memoryview
    state: memoryview
    private_steps: int = 0


class _Process:
    """A child process that can be killed at any time.

    Not by `Process.kill`: that looks whether the process has ended, and so may take its exit code from asyncio.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        try:
            self._handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._handle = -1

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def end(self) -> int:
        """Kill it and wait; its exit code, negative for a signal."""
        self.kill()
        code = await self._process.wait()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        return code


class Child:
    """A running child."""

    def __init__(self, process: _Process, link: socket.socket, opened: Opened, scratch: Path) -> None:
        self._process, self._link, self._opened, self._scratch = process, link, opened, scratch
        self._faults = _faults(scratch.parent)
        self._busy = asyncio.Lock()
        self._usable = True

    @property
    def opened(self) -> Opened:
        """Device and confinement in force."""
        return self._opened

    @property
    def alive(self) -> bool:
        """False once it died, or was killed in the middle of an order."""
        return self._usable and self._process.running

    async def work(self, order: Order, inputs: Sequence[Path], state: Path, max_bytes: int) -> Made:
        """One order at a time. Raises `ChildFailed` for what the task raised, `ChildDied` where the child is gone.

        Who stops waiting stops the work: a child cannot be interrupted, so it is killed.
        """
        async with self._busy:
            answer = asyncio.ensure_future(asyncio.to_thread(self._exchange, order, (*inputs, state)))
            try:
                data, descriptors = await asyncio.shield(answer)
            except (AimassError, OSError) as error:
                self._usable = False
                raise ChildDied(await self._ending(), code="child.died") from error
            except asyncio.CancelledError:
                self._usable = False
                self.kill()
                await asyncio.wait({answer})
                answer.exception()
                raise
        try:
            result = _expect(data, b"R", Result, self._faults)
            if len(descriptors) != 2:
                raise ChildFailed("the training child gave an answer out of order", code="child.protocol")
        except AimassError:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        contribution, new_state = (sealed_view(descriptor, max_bytes) for descriptor in descriptors)
        return Made(contribution, new_state, result.private_steps)

    def _exchange(self, order: Order, files: Sequence[Path]) -> tuple[bytes, tuple[int, ...]]:
        held = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in files]
        try:
            send(self._link, canonical_json(order), tuple(held))
        finally:
            for descriptor in held:
                os.close(descriptor)
        return receive(self._link)

    async def _ending(self) -> str:
        """How it ended, in words."""
        code = await self._process.end()
        if code < 0:
            name = signal.Signals(-code).name
            return f"the training child was ended by {name} (out of memory, or a crash in native code)"
        return f"the training child ended with exit code {code}"

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    async def stop(self) -> None:
        """Kill it: it holds nothing that could be lost."""
        self._usable = False
        await self._process.end()
        self._link.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _faults(scratch_parent: Path) -> Path:
    """Where the child's own words go: they may quote rows, and logs are often sent elsewhere."""
    return scratch_parent.with_name(FAULTS)


def _keep(faults: Path, fault: ChildFault) -> None:
    """Add the child's words to a file for the owner's eyes; one that grew large begins anew."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with contextlib.suppress(OSError), os.fdopen(os.open(faults, flags, 0o600), "a", encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_size > _FAULTS_BYTES:
            file.truncate(0)
        file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {fault.code} at {fault.place}\n{fault.detail}\n")


def _expect(data: bytes, tag: bytes, kind: type[V], faults: Path) -> V:
    if data[:1] == b"F":
        fault = _read(ChildFault, data)
        _keep(faults, fault)
        log.error("the training child failed at %s: state/%s has its words, which may quote rows", fault.place, FAULTS)
        cure = _CURES.get(fault.code, "")
        raise ChildFailed(f"the training child failed at {fault.place}", code=fault.code, cure=cure)
    if data[:1] != tag:
        raise ChildFailed("the training child gave an answer out of order", code="child.protocol")
    return _read(kind, data)


def _read(kind: type[V], data: bytes) -> V:
    try:
        return decode_json(kind, data[1:], "an answer of the training child")
    except BadInput as error:  # its words may be the child's, which has no other way to choose any
        raise ChildFailed("the training child gave an answer that cannot be read", code="child.protocol") from error


def _environment(scratch: Path) -> dict[str, str]:
    """All that a child's environment holds: nothing of the daemon's."""
    return {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(scratch),
        "HOME": str(scratch),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        # Models are large: with huge pages a step spends a third of the time in getting its memory.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }


def _late(limits: ChildLimits) -> ChildFailed:
    return ChildFailed(
        "the training child did not get ready in time",
        code="child.start",
        limit=f"{limits.start_s:g} s",
        cure="Raise start_s in [child] of client.toml where reading the data takes longer.",
    )


async def start_child(
    source: TaskSource | AppSource,
    manifest: ShardManifest,
    manifest_folder: Path,
    forbidden: Path,
    scratch_parent: Path,
    limits: ChildLimits = _DEFAULT_LIMITS,
    rank: int = 0,
    links: Sequence[socket.socket] = (),
    base: Path | None = None,
) -> Child:
    """Start a child on a task and a shard; `forbidden` is a file of the partner's that it must not reach;
    below `scratch_parent` it gets an empty folder of its own, and beside that lie the words of its faults. Of several
    that train together (see `child_group`) it has a `rank`, and `links` to others. A task with a base gets its file.

    An app may read the manifest's files and folders by itself; what it prints goes nowhere, as it may quote rows.
    Raises `ChildFailed` with the task's or the data's error, `NotFound` for a data file that is not there.
    """
    app = source.app if isinstance(source, AppSource) else None
    paths = resolve(manifest, manifest_folder)
    files = [path.open("rb") for path in (*paths, *([base] if base else []))] if app is None else []
    scratch = Path(tempfile.mkdtemp(dir=scratch_parent))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "aimass.client.worker",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=None if app is None else asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=_environment(scratch),
            cwd="/",
        )
        process = _Process(started)
        theirs.close()
        wanted = Open(
            task=source.name,
            digest=source.digest,
            manifest=manifest,
            scratch=str(scratch),
            forbidden=str(forbidden),
            parent=os.getpid(),
            limits=limits,
            app=app,
            readable=() if app is None else tuple(str(path.resolve()) for path in paths),
            rank=rank,
        )
        try:
            held = (*(file.fileno() for file in files), *(link.fileno() for link in links))
            await asyncio.to_thread(send, ours, canonical_json(wanted), held)
            data, _ = await asyncio.wait_for(asyncio.to_thread(receive, ours), limits.start_s)
            return Child(process, ours, _expect(data, b"O", Opened, _faults(scratch_parent)), scratch)
        except (AimassError, OSError, TimeoutError, asyncio.CancelledError) as error:
            await process.end()
            ours.close()
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, TimeoutError):
                raise _late(limits) from error
            raise
    finally:
        theirs.close()
        for file in files:
            file.close()
