"""Tries models for who runs no task itself: each time in a child process that is locked in, with a deadline."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, Stopped, from_wire
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.smoke_child import FAILED, Order

__all__ = ["ChildSmoker"]

V = TypeVar("V", bound=Value)
_DEADLINE_S: Final = 300.0
_KEPT: Final = ("HOME", "LANG", "PATH", "PYTHONPATH", "VIRTUAL_ENV", "XDG_CACHE_HOME")
"""Of the environment: credentials of stores stay here."""


class ChildSmoker:
    """See the module. All calls but `stop` block; one at a time."""

    def __init__(self, command: Sequence[str] = (), deadline_s: float = _DEADLINE_S) -> None:
        """`command` stands in for the child's, in tests."""
        self._command = tuple(command) or (sys.executable, "-m", "aimass.server.registry.smoke_child")
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the child that runs, and let no other begin: what waits for it hears of it as `Stopped`."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()

    def made(self, task: TaskRef, parameters: Path) -> SmokeInputs:
        """Smoke inputs of these parameters; raises what hinders it: the task is not here, or is another, or fails."""
        return self._run(SmokeInputs, task, parameters)

    def tried(self, task: TaskRef, parameters: Path, smoke: SmokeInputs | None) -> Smoked:
        """What became of a version's smoke inputs; raises `Stopped` alone, as not to be tried is an answer too."""
        if smoke is None:
            return Smoked(reason="it was published without any")
        try:
            return self._run(Smoked, task, parameters, smoke)
        except Stopped:
            raise
        except AimassError as error:
            return Smoked(rows=len(smoke.expected), reason=error.sentence())

    def _run(
        self,
        kind: type[V],
        task: TaskRef,
        parameters: Path,
        smoke: SmokeInputs | None = None,
    ) -> V:
        with tempfile.TemporaryDirectory(prefix="aimass-smoke-") as folder:
            scratch, forbidden = Path(folder) / "scratch", Path(folder) / "forbidden"
            scratch.mkdir()
            forbidden.write_bytes(b"out of reach")
            order = Order(
                task=task,
                parameters=str(parameters.absolute()),
                scratch=str(scratch),
                forbidden=str(forbidden),
                parent=os.getpid(),
                smoke=smoke,
            )
            done = self._answered(order)
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

    def _answered(self, order: Order) -> subprocess.CompletedProcess[bytes]:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        pipe = subprocess.PIPE
        with subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as child:
            self._child = child
            if self._stopped:  # asked after the child began, or before it: one of the two sees the other
                child.kill()
            try:
                stdout, stderr = child.communicate(canonical_json(order), self._deadline_s)
            except subprocess.TimeoutExpired:
                child.kill()
                raise DeadlinePassed(
                    "the task did not answer its smoke inputs in time",
                    code="registry.smoke_deadline",
                    value=order.task.name,
                    limit=f"{self._deadline_s:g} s",
                    cure="It hangs, or this machine is too slow for it.",
                ) from None
        if self._stopped:
            raise Stopped("the smoke test was stopped", code="registry.smoke_stopped")
        return subprocess.CompletedProcess(self._command, child.returncode, stdout, stderr)
