"""The installed task that a model is of, and no other code under its name."""

from __future__ import annotations

from aimass.proto.errors import IntegrityError
from aimass.proto.task import Task, load, locate

__all__ = ["task_of"]


def task_of(name: str, digest: str) -> Task:
    """The installed task, if it is this very one; raises `IntegrityError` as `registry.other_task` for another."""
    source = locate(name)
    if source.digest != digest:
        raise IntegrityError(
            "another code of the task is installed here than the model is of",
            code="registry.other_task",
            value=f"{name} {source.digest}",
            limit=digest,
            cure="Install the version of the task's package that the run used.",
        )
    return load(source)
