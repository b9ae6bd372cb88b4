"""A worker: locked in, one version of one model, batches from its front and nothing else.

It is forked in the nursery, holds no key, has an empty environment, and ends when its front does. Errors may quote
rows: only those of this project leave, of others no more than their names.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import mmap
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from aimass.proto.confinement import Confinement, confine
from aimass.proto.errors import AimassError, IntegrityError, InternalError, Unavailable, to_wire
from aimass.proto.frames import receive, send
from aimass.proto.servable import Array, Servable
from aimass.proto.values import canonical_json, decode_json
from aimass.server.serving.workers.awaiting import Awaiting
from aimass.server.serving.workers.memory import Written, read, write
from aimass.server.serving.workers.protocol import (
    ANSWER,
    BATCH,
    DIGEST_NAME,
    ERROR,
    TOKEN_BYTES,
    Fault,
    Open,
    Opened,
    read_token,
    token,
)

if TYPE_CHECKING:
    from aimass.proto.tensors import Blob

__all__ = ["NAME", "work"]

NAME: Final = b"aimass-worker"
_KILLED_FIRST: Final = b"1000"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def work(link: socket.socket) -> None:
    """Compute until the front closes the link."""
    try:
        data, descriptors = receive(link)
    except Unavailable:
        return
    try:
        wanted = decode_json(Open, data, "the order to open")
        _killed_first()
        servable, blob, opened = _open(wanted, descriptors[2:])
    except Exception as error:  # noqa: BLE001  (whatever a task raises becomes a fault)
        send(link, b"F" + canonical_json(Fault(error=to_wire(_told(error)).decode())))
        return
    requests, replies = (memoryview(mmap.mmap(fd, wanted.memory_bytes)) for fd in descriptors[:2])
    for descriptor in descriptors:
        os.close(descriptor)
    gc.collect()
    gc.freeze()  # no collection need look at the model and all modules again
    send(link, b"O" + canonical_json(opened))
    _serve(link, servable, blob, requests, replies)


def _serve(link: socket.socket, servable: Servable, blob: Blob, requests: memoryview, replies: memoryview) -> None:
    awaited = Awaiting(link, TOKEN_BYTES)
    while len(data := awaited()) == TOKEN_BYTES:
        kind, place = read_token(data)
        try:
            if kind == BATCH:
                answer = servable.infer(read(requests, place))
            else:
                answer = {DIGEST_NAME: np.array([_digest(servable, blob).encode()], object)}
            said, written = ANSWER, write(replies, {name: (array,) for name, array in answer.items()})
        except (Exception, SystemExit) as error:  # noqa: BLE001  (as above; code that leaves has answered nothing)
            said, written = ERROR, _put(replies, to_wire(_told(error)))
        link.sendall(token(said, written))


def _open(wanted: Open, descriptors: Sequence[int]) -> tuple[Servable, Blob, Opened]:
    """Lock in first: importing a task runs it. Then check, import, load, warm up."""
    from aimass.proto.bases import HeldBase  # noqa: PLC0415
    from aimass.proto.storage import map_descriptor  # noqa: PLC0415
    from aimass.proto.task import load, locate  # noqa: PLC0415
    from aimass.proto.tensors import Blob  # noqa: PLC0415

    source = locate(wanted.task)
    if source.digest != wanted.task_digest:
        raise IntegrityError(
            "the task that is installed here is not the one of the model",
            code="task.changed",
            value=source.digest,
            limit=wanted.task_digest,
            cure="Install the version of the task's package that the model was trained with.",
        )
    os.environ.update(TMPDIR=wanted.scratch, HOME=wanted.scratch)
    levels = confine([source.folder], Path(wanted.scratch), Path(wanted.forbidden), wanted.parent, wanted.limits)
    _on_its_own()
    blob = Blob(map_descriptor(descriptors[0]))
    if blob.digest != wanted.digest:
        raise IntegrityError(
            "the file of the parameters is not the model's",
            code="serving.parameters",
            value=blob.digest,
            limit=wanted.digest,
            cure="Delete it and let it be fetched again.",
        )
    task = load(source)
    if source.base is not None:
        task = task.on(HeldBase(source.base, map_descriptor(descriptors[1])))
    servable = task.servable(blob, wanted.device)
    _warm_up(servable, wanted.warm)
    return (
        servable,
        blob,
        Opened(
            inputs=servable.inputs,
            outputs=servable.outputs,
            confinement=tuple(level for level in get_args(Confinement) if level in levels),
        ),
    )


def _on_its_own() -> None:
    """It outlives the nursery, in which nothing stands that it needs, and has a name that lists of processes show."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, NAME, 0, 0, 0)


def _killed_first() -> None:
    """Where memory ends, a worker goes before its front does."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_KILLED_FIRST)


def _warm_up(servable: Servable, rows: Iterable[int]) -> None:
    """The first calls of a model are slow: they are made here, with examples where it has some."""
    examples: Callable[[int], Mapping[str, Array]] | None = getattr(servable, "examples", None)
    if examples is not None:
        for count in rows:
            servable.infer(examples(count))


def _digest(servable: Servable, blob: Blob) -> str:
    """Of the parameters that it computes with, where it can tell them, else of the file's as it is mapped."""
    held: Callable[[], Iterable[bytes | memoryview]] | None = getattr(servable, "held", None)
    hasher = hashlib.sha256()
    for part in (blob.data,) if held is None else held():
        hasher.update(part)
    return hasher.hexdigest()


def _told(error: BaseException) -> AimassError:
    """What may be said of it: of a fault that the task did not name, its kind and where it was raised."""
    if isinstance(error, AimassError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    return InternalError(
        "the model failed",
        code="serving.model_failed",
        value=f"{type(error).__name__} at {file.parent.name}/{file.name}:{frame.lineno}",
    )


def _put(memory: memoryview, data: bytes) -> Written:
    memory[: len(data)] = data
    return Written(0, len(data))
