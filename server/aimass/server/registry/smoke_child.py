"""Runs a task's code over smoke inputs in a process of its own, which locks itself in before it loads any of it.

    python -m aimass.server.registry.smoke_child < ORDER

It has no keys and no descriptors but its three, reaches no network, and its answer is believed no further than it can
be checked. It answers with one JSON object: smoke inputs, or what became of them. So is an error, as it crosses every
wire, with the exit code `FAILED`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from aimass.proto.bases import HeldBase, own_bases
from aimass.proto.confinement import confine
from aimass.proto.errors import AimassError, BadInput, to_wire
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.smoke import smoke_inputs, table_of, worst_difference
from aimass.proto.storage import map_file
from aimass.proto.task import Task, load
from aimass.proto.tensors import Blob
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.proto.very_task import source_of
from aimass.server.registry.promotion import Smoked

__all__ = ["FAILED", "Order", "main", "tried"]

FAILED: Final = 65
"""No exit code of an interpreter that dies."""


class Order(Value, frozen=True):
    """Make smoke inputs of the model whose file is `parameters`, or try the `smoke` inputs that are given.

    `scratch` is an empty folder that may be written, `forbidden` a file that must be out of reach, `parent` the process
    that waits for the answer.
    """

    task: TaskRef
    parameters: str
    scratch: str
    forbidden: str
    parent: int
    smoke: SmokeInputs | None = None


def tried(task: Task, parameters: Blob, smoke: SmokeInputs) -> Smoked:
    """How far the model's answers are from what is expected."""
    said = task.predict(parameters, table_of(task.schema, smoke.columns))
    worst, rows = worst_difference(smoke, said), len(smoke.expected)
    if not math.isfinite(worst):
        return Smoked(rows=rows, reason="it answered with something else than numbers of the expected shape")
    return Smoked(worst=worst, tolerance=smoke.tolerance, rows=rows)


def main(stdin: IO[bytes], stdout: IO[bytes], lock_in: Callable[[Order, Path], object]) -> int:
    """One order; the exit code. `lock_in` confines this process to the task's folder, before any of its code runs."""
    try:
        stdout.write(canonical_json(_done(decode_json(Order, stdin.read(), "the order"), lock_in)))
    except AimassError as error:
        stdout.write(to_wire(error))
        return FAILED
    except Exception as error:  # noqa: BLE001  (a task's code may raise anything, and its words may quote anything)
        what = f"the task failed with {type(error).__name__}"
        stdout.write(to_wire(BadInput(what, code="registry.task_failed", cure="Run `aimass task check` on it.")))
        return FAILED
    return 0


def _done(order: Order, lock_in: Callable[[Order, Path], object]) -> Value:
    source = source_of(order.task)
    parameters = Blob(map_file(Path(order.parameters)))
    base = None if source.base is None else HeldBase(source.base, own_bases().open(source.base).data)
    lock_in(order, source.folder)
    task = load(source, base)
    return smoke_inputs(task, parameters) if order.smoke is None else tried(task, parameters, order.smoke)


def _lock_in(order: Order, folder: Path) -> None:
    os.environ.update(TMPDIR=order.scratch, HOME=order.scratch)
    confine([folder], Path(order.scratch), Path(order.forbidden), order.parent)


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer, _lock_in))
