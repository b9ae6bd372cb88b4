"""The demo's end: the trained model is published, promoted and served, and while it answers its successor takes over.

The first version is the model of an earlier round, the second the last one's: both were made by the run before.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from scripts.benches.http_caller import HttpCaller, request_bytes
from scripts.demos.house import House

__all__ = [
    "TRUST", "Counter", "command", "curl", "promote", "publish_both", "registry_of", "serving", "swap_under_load",
]  # fmt: skip

PATIENT: Final[Mapping[str, Any]] = {
    "age": 63, "sex": "Male", "cp": "asymptomatic", "trestbps": 145, "chol": 233, "fbs": "true",
    "restecg": "lv hypertrophy", "thalch": 150, "exang": "false", "oldpeak": 2.3, "slope": "downsloping", "ca": 0,
    "thal": "fixed defect",
}  # fmt: skip
"""Nobody: the values are plausible."""
_MODEL: Final = "heart"
TRUST: Final = "trust.json"
_SETTINGS: Final = "serve.toml"
_HASTE: Final = """# A demo does not wait: the registry is asked each half second, and a version is tried for seconds.
[watch.registry]
every_s = 0.5
[watch.rollout]
canary = [0.2]
canary_s = 1.0
canary_requests = 50
watch_s = 10.0
"""
_CONNECTIONS: Final = 4
_LONGEST_S: Final = 60.0


def curl(port: int) -> list[str]:
    """The command that asks for the patient."""
    url = f"http://127.0.0.1:{port}/predict/{_MODEL}"
    return ["curl", "-s", url, "-H", "Content-Type: application/json", "-d", json.dumps(PATIENT)]


def publish_both(house: House, earlier: Path) -> None:
    """A registry in the house's folder: the earlier model is version 1 and the champion, the run's is version 2."""
    house.run("model", "trust", "add", "scientist", "--from", "scientist", "--trust", TRUST)
    into = ("--as", "scientist", "--registry", registry_of(house), "--trust", TRUST)
    house.run("model", "publish", str(earlier), "--task", _MODEL, *into)
    house.run("model", "publish", "last", *into)
    promote(house, 1, "an earlier round's model, to begin with")


def promote(house: House, number: int, reason: str) -> None:
    """Make a version the champion."""
    house.run(
        "model", "promote", f"{_MODEL}@{number}", "--as", "scientist", "--registry", registry_of(house), "--trust",
        TRUST, "--reason", reason,
    )  # fmt: skip


def registry_of(house: House) -> str:
    """Its URL."""
    return f"file://{house.folder / 'registry'}"


@contextmanager
def serving(house: House, port: int) -> Iterator[None]:
    """A server of the champion, as long as the context."""
    (house.folder / _SETTINGS).write_text(_HASTE)
    house.start("serve", *_served(house, port))
    try:
        yield
    finally:
        house.stop("serve")


def command(house: House, port: int) -> str:
    """What serves the model again, as a line to type in the house's folder."""
    return shlex.join(["aimass", *_served(house, port)])


def _served(house: House, port: int) -> list[str]:
    return [
        "serve", _MODEL, "--registry", registry_of(house), "--trust", TRUST, "--cache", "serving", "--http",
        f"127.0.0.1:{port}", "--settings", _SETTINGS,
    ]  # fmt: skip


# ---------------------------------------------------------------- load


@dataclasses.dataclass(slots=True)
class Counter:
    """Answers so far by version, and requests that failed."""

    by_version: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    failed: int = 0

    def add(self, status: int, body: bytes) -> None:
        """Count one answer."""
        if status == 200:
            self.by_version[json.loads(body)["version"]] += 1
        else:
            self.failed += 1


def swap_under_load(port: int, swap: Callable[[], None], enough: int = 500) -> Counter:
    """Ask without a pause; `swap` once enough were answered, and go on until the next version has answered as many."""
    counter = Counter()

    async def load() -> None:
        due = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(_swapped(due, swap))
            for _ in range(_CONNECTIONS):
                group.create_task(_ask(port, counter, due, enough))

    asyncio.run(asyncio.wait_for(load(), _LONGEST_S))
    return counter


async def _swapped(due: asyncio.Event, swap: Callable[[], None]) -> None:
    await due.wait()
    await asyncio.to_thread(swap)


async def _ask(port: int, counter: Counter, due: asyncio.Event, enough: int) -> None:
    message = request_bytes("127.0.0.1", f"/predict/{_MODEL}", json.dumps(PATIENT).encode())
    async with HttpCaller("127.0.0.1", port) as caller:
        while counter.by_version[2] < enough:
            answer = await caller.call(message)
            counter.add(answer.status, answer.body)
            if counter.by_version[1] >= enough:
                due.set()
