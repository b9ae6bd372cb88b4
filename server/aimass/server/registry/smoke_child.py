"""Runs a task's code over smoke inputs in a process of its own: without keys, and of no more trust than its answer.

    python -m aimass.server.registry.smoke_child make|try TASK DIGEST PARAMETERS

`make` writes the smoke inputs of these parameters, `try` reads such from stdin and writes how far the answers are off.
Either writes one JSON object; so is an error, as it crosses every wire, with the exit code `FAILED`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Final

from aimass.proto.errors import AimassError, BadInput, to_wire
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.smoke import smoke_inputs, table_of, worst_difference
from aimass.proto.storage import map_file
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.very_task import task_of

__all__ = ["FAILED", "main", "make", "tried"]

FAILED: Final = 65
"""No exit code of an interpreter that dies."""


def make(task: Task, parameters: Blob) -> SmokeInputs:
    """Rows that are nobody's with what the model says of them."""
    return smoke_inputs(task, parameters)


def tried(task: Task, parameters: Blob, smoke: SmokeInputs) -> Smoked:
    """How far the model's answers are from what is expected."""
    said = task.predict(parameters, table_of(task.schema, smoke.columns))
    worst, rows = worst_difference(smoke, said), len(smoke.expected)
    if not worst < float("inf"):
        return Smoked(rows=rows, reason="it answered with something else than numbers of the expected shape")
    return Smoked(worst=worst, tolerance=smoke.tolerance, rows=rows)


def main(arguments: list[str], stdin: IO[bytes], stdout: IO[bytes]) -> int:
    """One errand; the exit code."""
    try:
        verb, name, digest, path = arguments
        task, parameters = task_of(name, digest), Blob(map_file(Path(path)))
        done: Value = (
            make(task, parameters)
            if verb == "make"
            else tried(task, parameters, decode_json(SmokeInputs, stdin.read(), "the smoke inputs"))
        )
        stdout.write(canonical_json(done))
    except AimassError as error:
        stdout.write(to_wire(error))
        return FAILED
    except Exception as error:  # noqa: BLE001  (a task's code may raise anything, and its words may quote anything)
        what = f"the task failed with {type(error).__name__}"
        stdout.write(to_wire(BadInput(what, code="registry.task_failed", cure="Run `aimass task check` on it.")))
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
