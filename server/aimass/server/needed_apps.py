"""Installed Flower apps that runs of a server need: a run that goes on begins its app again after every restart."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.errors import WrongState
from aimass.server.store_copy import inspecting

__all__ = ["spare"]


def spare(folder: Path, name: str, digest: str) -> None:
    """Raise `WrongState` where a run that has not ended is of this app ("": any version of it); the server may run."""
    path = folder / "data" / "runs.sqlite"
    if not path.is_file():
        return
    with inspecting(path) as store:
        runs = [row.run for row in store.runs() if not row.run.state.final]
    needed = [
        run.run_id[:8]
        for run in runs
        if run.plan.task.kind == "app" and run.plan.task.name == name and digest in ("", run.plan.task.digest)
    ]
    if needed:
        raise WrongState(
            f"runs that go on need the app {name}",
            code="app.needed",
            value=", ".join(needed),
            cure="Wait for their end, or stop them: aimass run stop. --digest removes another version alone.",
        )
