"""The installed task that a model is of, and no other code under its name."""

from __future__ import annotations

from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.plan import TaskRef
from aimass.proto.task import TaskSource, locate

__all__ = ["source_of"]


def source_of(wanted: TaskRef) -> TaskSource:
    """Where the task is, if it is this very one; none of it runs.

    Raises `NotFound` where none of the name is installed, `IntegrityError` as `registry.other_task` where other code
    is, `BadInput` as `registry.app` for a Flower app.
    """
    if wanted.kind != "task":
        raise BadInput(
            "a Flower app's model answers no rows: it cannot be tried, served or exported",
            code="registry.app",
            value=wanted.name,
        )
    source = locate(wanted.name)
    if source.digest != wanted.digest:
        raise IntegrityError(
            "another code of the task is installed here than the model is of",
            code="registry.other_task",
            value=f"{wanted.name} {source.digest}",
            limit=wanted.digest,
            cure="Install the version of the task's package that the run used.",
        )
    return source
