"""`aimass serve` as a process, for benches: from its start to its first answer, and the workers that it has then."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benches.serving_peers import Served, started
from scripts.demos.house import free_port
from scripts.demos.processes import family

__all__ = ["Ours", "serve", "workers_of"]

Ours = Served
_WORKER: Final = "aimass-worker"


@contextlib.contextmanager
def serve(folder: Path, python: str, model: str, registry: str, trust: Path, settings: str = "") -> Iterator[Ours]:
    """A server of a model's champion, from its first answer on."""
    folder.mkdir(parents=True)
    (folder / "serve.toml").write_text(settings)
    address = f"127.0.0.1:{free_port()}"
    command = [
        python, "-m", "aimass.proto.commands", "serve", model, "--registry", registry, "--trust", str(trust),
        "--http", address, "--settings", str(folder / "serve.toml"), "--cache", str(folder / "cache"),
    ]  # fmt: skip
    url = f"http://{address}/v2/models/{model}/infer"
    with (folder / "log").open("w") as log, started(command, url, folder, os.environ, log.fileno()) as one:
        yield one


def workers_of(pid: int) -> list[int]:
    """The worker processes of a server, in order; not the one that they are forked from."""
    return sorted(one for one in family(pid) - {pid} if _name(one) == _WORKER)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
