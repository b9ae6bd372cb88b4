"""The training child: locked in, one task or app, one shard, orders from the daemon and nothing else.

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

from aimass.client.worker_protocol import APP_DEVICE, ChildFault, FlowerApp, Open, Opened, Order, Result
from aimass.proto.confinement import confine
from aimass.proto.errors import AimassError, IntegrityError
from aimass.proto.frames import given_away, receive, seal, send
from aimass.proto.values import canonical_json, decode_json

if TYPE_CHECKING:
    from aimass.proto.tensors import Blob

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
        send(link, b"F" + canonical_json(_fault(error, wanted.app)))
        return
    send(link, b"O" + canonical_json(opened))
    while True:
        try:
            data, descriptors = receive(link)
        except AimassError:
            return
        try:
            _answer(link, work, decode_json(Order, data, "an order"), descriptors)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (as above; code that leaves has not done its work)
            send(link, b"F" + canonical_json(_fault(error, wanted.app)))


def _answer(link: socket.socket, work: Work, order: Order, descriptors: Sequence[int]) -> None:
    """Do an order; nothing of what was made stays here, where the next one needs the room."""
    started = time.monotonic()
    *made, steps = work(order, descriptors)
    sealed = [seal(given_away(parts)) for parts in made]
    result = Result(seconds=time.monotonic() - started, private_steps=steps)
    send(link, b"R" + canonical_json(result), tuple(sealed))
    for descriptor in sealed:
        os.close(descriptor)


def _open(wanted: Open, descriptors: tuple[int, ...]) -> tuple[Work, Opened]:
    """Lock in first: importing a task or an app runs it. Then check, import, read."""
    return _open_task(wanted, descriptors) if wanted.app is None else _open_app(wanted, wanted.app)


def _open_app(wanted: Open, app: FlowerApp) -> tuple[Work, Opened]:
    from aimass.proto.apps import read_app  # noqa: PLC0415

    folder = Path(app.folder)
    if (found := read_app(folder).digest) != wanted.digest:
        raise IntegrityError("the app's files have changed", code="app.changed", value=found, limit=wanted.digest)
    readable = [folder, *(Path(path) for path in wanted.readable)]
    levels = confine(readable, Path(wanted.scratch), Path(wanted.forbidden), wanted.parent, wanted.limits)
    os.chdir(wanted.scratch)  # the one folder that it may write, for who names files without one
    from aimass.client.flower_app import Node  # noqa: PLC0415

    node = Node(app, wanted.manifest.node_config)

    def do(order: Order, inputs: Sequence[Blob], state: memoryview) -> tuple[Parts, Parts, int]:
        contribution, kept = node.do(order, inputs, state)
        return contribution.parts(), kept, 0

    opened = Opened(device=APP_DEVICE, confinement=tuple(sorted(levels)), training_rows=0, held_out_rows=0)
    return _worker(do), opened


def _open_task(wanted: Open, descriptors: tuple[int, ...]) -> tuple[Work, Opened]:
    from aimass.proto.analysis import analysis_folders  # noqa: PLC0415
    from aimass.proto.task import load, locate  # noqa: PLC0415

    source = locate(wanted.task)
    if source.digest != wanted.digest:
        raise IntegrityError(
            "the task's files have changed", code="task.changed", value=source.digest, limit=wanted.digest
        )
    levels = confine(
        [source.folder, *analysis_folders()], Path(wanted.scratch), Path(wanted.forbidden), wanted.parent, wanted.limits
    )
    from aimass.client.capacity import capacity_of  # noqa: PLC0415
    from aimass.client.ranks import LinkedRanks  # noqa: PLC0415
    from aimass.client.shards import open_shard  # noqa: PLC0415
    from aimass.client.trainer import warm_up  # noqa: PLC0415
    from aimass.proto.bases import HeldBase  # noqa: PLC0415
    from aimass.proto.storage import map_descriptor  # noqa: PLC0415

    task, rest = load(source), list(descriptors)
    links = [socket.socket(fileno=rest.pop()) for _ in range(wanted.links)][::-1]
    if source.base is not None:
        base = rest.pop()
        task = task.on(HeldBase(source.base, map_descriptor(base)))
        os.close(base)
    files = [os.fdopen(descriptor, "rb") for descriptor in rest]
    shard, _ = open_shard(task.schema, wanted.manifest, files)
    for file in files:
        file.close()
    capacity = capacity_of(wanted.limits, LinkedRanks(wanted.rank, wanted.limits.ranks, links))
    warm_up()
    opened = Opened(
        device=capacity.described,
        confinement=tuple(sorted(levels)),
        training_rows=len(shard.train.labels),
        held_out_rows=len(shard.held_out.labels),
        persons=shard.person_count,
        gpu_bytes=capacity.gpu_bytes,
    )
    from aimass.client.trainee import Trainee  # noqa: PLC0415  (torch loads after the child is locked in)

    trainee = Trainee(task, capacity)

    def do(order: Order, inputs: Sequence[Blob], state: memoryview) -> tuple[Parts, Parts, int]:
        done = trainee.do(order, shard, inputs, state)
        if capacity.ranks.rank:
            return [], [], 0  # the first rank speaks for all
        return done.contribution.parts(), [done.personal or done.state], done.private_steps

    return _worker(do), opened


def _worker(do: Callable[[Order, Sequence[Blob], memoryview], tuple[Parts, Parts, int]]) -> Work:
    """The same on descriptors."""
    from aimass.proto.storage import map_descriptor  # noqa: PLC0415
    from aimass.proto.tensors import Blob  # noqa: PLC0415

    def work(order: Order, descriptors: Sequence[int]) -> tuple[Parts, Parts, int]:
        *inputs, state = [map_descriptor(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.close(descriptor)
        return do(order, [Blob(data) for data in inputs], state)

    return work


def _fault(error: BaseException, app: FlowerApp | None = None) -> ChildFault:
    """Code and place without a word of the message: it may quote rows. Of an app the place is its own, if there is one
    on the way to where it was raised."""
    code = error.code if isinstance(error, AimassError) else f"child.{_letters(type(error).__name__)}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if app is not None and Path(frame.filename).is_relative_to(app.folder)]
    frame = (own or frames)[-1]
    file = Path(frame.filename)
    folder = "app" if app is not None and file.parent == Path(app.folder) else file.parent.name
    place = f"{_letters(folder)}/{_letters(file.stem)}.py:{frame.lineno}"
    return ChildFault(code=code, place=place, detail="".join(traceback.format_exception(error))[-20_000:])


def _letters(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalpha() else "_" for letter in name)[:40] or "_"


if __name__ == "__main__":
    main()
