"""Tries models for the training service, which runs no task itself: each time in a child process, with a deadline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, from_wire
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.smoke_child import FAILED

__all__ = ["ChildSmoker"]

V = TypeVar("V", bound=Value)
_DEADLINE_S: Final = 300.0
_KEPT: Final = ("HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV", "XDG_CACHE_HOME", "XDG_DATA_HOME")
"""Of the environment: credentials of stores stay here."""


class ChildSmoker:
    """See the module. All calls block."""

    def __init__(self, command: Sequence[str] = (), deadline_s: float = _DEADLINE_S) -> None:
        """`command` stands in for the child's, in tests."""
        self._command = tuple(command) or (sys.executable, "-m", "aimass.server.registry.smoke_child")
        self._deadline_s = deadline_s

    def made(self, task: TaskRef, parameters: Path) -> SmokeInputs:
        """Smoke inputs of these parameters; raises what hinders it: the task is not here, or is another, or fails."""
        return self._run(SmokeInputs, "make", task, parameters)

    def tried(self, task: TaskRef, parameters: Path, smoke: SmokeInputs | None) -> Smoked:
        """What became of a version's smoke inputs; it never raises, as not to be tried is an answer too."""
        if smoke is None:
            return Smoked(reason="it was published without any")
        try:
            return self._run(Smoked, "try", task, parameters, canonical_json(smoke))
        except AimassError as error:
            return Smoked(rows=len(smoke.expected), reason=error.sentence())

    def _run(self, kind: type[V], verb: str, task: TaskRef, parameters: Path, said: bytes = b"") -> V:
        if task.kind != "task":
            raise BadInput("a Flower app makes no model that could be served", code="registry.app", value=task.name)
        command = [*self._command, verb, task.name, task.digest, str(parameters)]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            done = subprocess.run(
                command, input=said, capture_output=True, timeout=self._deadline_s, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise DeadlinePassed(
                "the task did not answer its smoke inputs in time",
                code="registry.smoke_deadline",
                value=task.name,
                limit=f"{self._deadline_s:g} s",
                cure="It hangs, or this machine is too slow for it.",
            ) from None
        if done.returncode == 0:
            return decode_json(kind, done.stdout, "what the smoke test wrote")
        if done.returncode == FAILED:
            raise from_wire(done.stdout)
        raise BadInput(
            "the process that ran the task's code died",
            code="registry.task_died",
            value=f"exit code {done.returncode}",
            cure="Run `aimass task check` on it.",
        )
