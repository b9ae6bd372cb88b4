"""The training child: locked in, one task, one shard, orders from the daemon and nothing else.

Started as `python -m aimass.client.worker FD`. It holds no key and no ledger, and its environment is empty.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.client.confinement import confine
from aimass.client.worker_protocol import ChildFault, Open, Opened, Order, Result
from aimass.proto.errors import AimassError, IntegrityError
from aimass.proto.frames import receive, seal, send
from aimass.proto.values import canonical_json, decode_json

if TYPE_CHECKING:
    from aimass.client.capacity import Capacity
    from aimass.client.shards import Shard
    from aimass.proto.task import Task

__all__ = ["main"]

Parts = list[bytes | memoryview]
Work = Callable[[Order, Sequence[int]], tuple[Parts, Parts, int]]
"""An order with descriptors of the step's inputs and, last, of the local state; the contribution, the new local state,
and how many private steps were done."""


def main() -> None:
    """Serve orders until the daemon closes the link."""
    link = socket.socket(fileno=int(sys.argv[1]))
    data, descriptors = receive(link)
    wanted = decode_json(Open, data, "the order to open")
    try:
        work, opened = _open(wanted, descriptors)
    except Exception as error:  # noqa: BLE001  (whatever a task raises becomes a fault with a code and a place)
        send(link, b"F" + canonical_json(_fault(error)))
        return
    send(link, b"O" + canonical_json(opened))
    while True:
        try:
            data, descriptors = receive(link)
        except AimassError:
            return
        try:
            started = time.monotonic()
            *parts, steps = work(decode_json(Order, data, "an order"), descriptors)
            made = [seal(part) for part in parts]
            result = Result(seconds=time.monotonic() - started, private_steps=steps)
            send(link, b"R" + canonical_json(result), tuple(made))
            for descriptor in made:
                os.close(descriptor)
        except Exception as error:  # noqa: BLE001  (as above)
            send(link, b"F" + canonical_json(_fault(error)))


def _open(wanted: Open, descriptors: tuple[int, ...]) -> tuple[Work, Opened]:
    """Lock in first: importing a task runs it. Then check, import, read."""
    from aimass.proto.task import load, locate  # noqa: PLC0415

    source = locate(wanted.task)
    if source.digest != wanted.digest:
        raise IntegrityError(
            "the task's files have changed", code="task.changed", value=source.digest, limit=wanted.digest
        )
    levels = confine([source.folder], Path(wanted.scratch), Path(wanted.forbidden), wanted.parent, wanted.limits)
    from aimass.client.capacity import capacity_of  # noqa: PLC0415
    from aimass.client.shards import open_shard  # noqa: PLC0415
    from aimass.client.trainer import warm_up  # noqa: PLC0415

    task = load(source)
    files = [os.fdopen(descriptor, "rb") for descriptor in descriptors]
    shard, _ = open_shard(task.schema, wanted.manifest, files)
    for file in files:
        file.close()
    capacity = capacity_of(wanted.limits)
    warm_up()
    opened = Opened(
        device=capacity.described,
        confinement=tuple(sorted(levels)),
        training_rows=len(shard.train.labels),
        held_out_rows=len(shard.held_out.labels),
        persons=shard.person_count,
    )
    return _worker(task, shard, capacity), opened


def _worker(task: Task, shard: Shard, capacity: Capacity) -> Work:
    from aimass.client.trainee import Trainee  # noqa: PLC0415  (torch loads after the child is locked in)
    from aimass.proto.storage import map_descriptor  # noqa: PLC0415
    from aimass.proto.tensors import Blob  # noqa: PLC0415

    trainee = Trainee(task, capacity)

    def work(order: Order, descriptors: Sequence[int]) -> tuple[Parts, Parts, int]:
        *inputs, state = [map_descriptor(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.close(descriptor)
        done = trainee.do(order, shard, [Blob(data) for data in inputs], bytes(state))
        return done.contribution.parts(), [done.state], done.private_steps

    return work


def _fault(error: Exception) -> ChildFault:
    """Code and place without a word of the message: it may quote rows."""
    code = error.code if isinstance(error, AimassError) else f"child.{_letters(type(error).__name__)}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    place = f"{_letters(file.parent.name)}/{_letters(file.stem)}.py:{frame.lineno}"
    return ChildFault(code=code, place=place, detail="".join(traceback.format_exception(error))[-20_000:])


def _letters(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalpha() else "_" for letter in name)[:40] or "_"


if __name__ == "__main__":
    main()
