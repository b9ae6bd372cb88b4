"""The training child: locked in, one task, one shard, orders from the daemon and nothing else.

Started as `python -m aimass.client.worker FD`. It holds no key and no ledger, and its environment is empty.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.client.confinement import confine
from aimass.client.worker_protocol import ChildFault, Open, Opened, Order, Result, receive, seal, send
from aimass.proto.errors import AimassError, IntegrityError
from aimass.proto.values import canonical_json, decode_json

if TYPE_CHECKING:
    from aimass.client.private_trainer import PrivateTrainer
    from aimass.client.shards import Shard
    from aimass.proto.contribution import Contribution
    from aimass.proto.task import Task
    from aimass.proto.tensors import Blob

__all__ = ["main"]

Parts = list[bytes | memoryview]
Work = Callable[[Order, int, int], tuple[Parts, Parts, int]]
"""An order with descriptors of the model and of the local state; the contribution, the new local state, and how many
private steps were done."""


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
            *parts, steps = work(decode_json(Order, data, "an order"), *descriptors)
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
    from aimass.client.shards import open_shard  # noqa: PLC0415
    from aimass.client.trainer import choose_device, warm_up  # noqa: PLC0415

    task = load(source)
    files = [os.fdopen(descriptor, "rb") for descriptor in descriptors]
    shard, _ = open_shard(task.schema, wanted.manifest, files)
    for file in files:
        file.close()
    device = choose_device()
    warm_up()
    opened = Opened(
        device=device.described,
        confinement=tuple(sorted(levels)),
        training_rows=len(shard.train.labels),
        held_out_rows=len(shard.held_out.labels),
        persons=shard.person_count,
    )
    return _worker(task, shard, device.name), opened


def _worker(task: Task, shard: Shard, device: str) -> Work:
    from aimass.client import analyses, trainer  # noqa: PLC0415  (torch loads after the child is locked in)
    from aimass.privacy.dp.streams import NoiseStream  # noqa: PLC0415
    from aimass.proto.step import StepKind  # noqa: PLC0415
    from aimass.proto.storage import map_descriptor  # noqa: PLC0415
    from aimass.proto.tensors import Blob  # noqa: PLC0415

    private: PrivateTrainer | None = None

    def privately() -> PrivateTrainer:
        from aimass.client.private_trainer import PrivateTrainer  # noqa: PLC0415  (Opacus: seconds, for who needs it)

        nonlocal private
        private = private or PrivateTrainer(task, device)
        return private

    def made(order: Order, model: Blob, state: bytes) -> tuple[Contribution, bytes, int]:
        """Without a privacy of its kind an order is done without, and says so: no private step."""
        privacy = order.privacy
        match order.kind:
            case StepKind.TRAIN if privacy is not None:
                done = privately().train(shard, model, state, order.train, privacy)
                return done.contribution, done.state, done.steps
            case StepKind.TRAIN:
                seed = bytes.fromhex(order.seed)
                return *trainer.train(task, shard, model, state, seed, order.train, device), 0
            case StepKind.EVALUATE if privacy is not None and privacy.metrics is not None:
                return privately().evaluate(shard, model, privacy.metrics), state, 1
            case StepKind.EVALUATE:
                return trainer.evaluate(task, shard, model, order.evaluate, device), state, 0
            case _ if privacy is not None and privacy.analyses is not None:
                return (
                    analyses.analyse_privately(order.purpose, shard, model, privacy.analyses, NoiseStream()),
                    state,
                    1,
                )
            case _:
                return analyses.analyse(order.purpose, shard, model), state, 0

    def work(order: Order, model_descriptor: int, state_descriptor: int) -> tuple[Parts, Parts, int]:
        model, state = Blob(map_descriptor(model_descriptor)), bytes(map_descriptor(state_descriptor))
        os.close(model_descriptor)
        os.close(state_descriptor)
        contribution, kept, steps = made(order, model, state)
        return contribution.parts(), [kept], steps

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
