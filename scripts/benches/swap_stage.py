"""Who takes part in the swap bench: a registry with good and bad versions behind a relay, a server of its champion, and
the load with what is right for each request."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.proto.objects import open_objects
from scripts.benches import dense_task
from scripts.benches.buckets import KEYS, buckets, make_bucket
from scripts.benches.checked_load import Order
from scripts.benches.relay import Relay, relayed
from scripts.benches.serving_ours import Ours, serve
from scripts.benches.swap_registry import FAULTY, FAULTY_TASK, Publisher, trust_file
from scripts.benches.swap_schedule import FAULTS, Fault

__all__ = ["Stage", "loaded", "staged"]

_MODEL: Final = "dense"
_GOOD: Final = 4
_CONNECTIONS: Final = 16
_BODIES: Final = 64
_SETTINGS: Final = """
[dispatch]
attempt_s = 0.5
[watch]
examine_s = 5.0
[watch.registry]
every_s = 0.3
slowest_s = 1.0
[watch.rollout]
canary = []
watch_s = 3.0
[watch.hold]
moves = 1000
"""
"""Versions come each second here: they go to all requests at once, and an alias may move as often as it likes."""


@dataclasses.dataclass(slots=True)
class Stage:
    """All that takes part. `promoted` says since when a version may answer."""

    server: Ours
    relay: Relay
    publisher: Publisher
    good: Sequence[int]
    bad: Mapping[Fault, int]
    expected: dict[str, list[list[float]]]
    requests_per_s: float
    promoted: dict[int, float] = dataclasses.field(default_factory=dict)

    def promote(self, number: int, reason: str) -> None:
        """Make a version the champion, as who may."""
        self.promoted.setdefault(number, time.monotonic())
        self.publisher.promote(number, reason)

    def promote_bad(self, fault: Fault) -> None:
        """Make a bad version the champion, or have a stranger do so: who may answer at first counts as promoted."""
        number = self.bad[fault]
        if fault.answers_at_first:
            self.promoted.setdefault(number, time.monotonic())
        stranger = Ed25519PrivateKey.generate() if fault is Fault.STRANGER else None
        self.publisher.promote(number, fault, stranger)


def staged(folder: Path, stack: contextlib.ExitStack, requests_per_s: float = 1_700.0) -> Stage:
    """The registry with all versions, and a server of the first; `requests_per_s` is the load that is to come."""
    environment = folder / "environment"
    python = dense_task.install(environment, {FAULTY: FAULTY_TASK})
    stack.enter_context(dense_task.seen(environment, AWS_REGION="us-east-1", **KEYS))
    endpoint = stack.enter_context(buckets())
    make_bucket(endpoint, "models")
    owner = Ed25519PrivateKey.generate()
    (folder / "trust.json").write_bytes(trust_file(owner))
    publisher = Publisher(open_objects(f"s3://models/registry?endpoint={endpoint}"), _MODEL, owner)
    good = [publisher.good(seed) for seed in range(_GOOD)]
    bad = {fault: publisher.bad(fault, _GOOD + place) for place, fault in enumerate(FAULTS)}
    relay = stack.enter_context(relayed(urlsplit(endpoint).port or 80))
    url = f"s3://models/registry?endpoint=http://127.0.0.1:{relay.port}"
    publisher.promote(good[0], "the first")
    server = stack.enter_context(serve(folder / "serve", python, _MODEL, url, folder / "trust.json", _SETTINGS))
    stage = Stage(server, relay, publisher, good, bad, _expected(good, bad), requests_per_s)
    stage.promoted[good[0]] = time.monotonic()
    return stage


def _bodies() -> list[npt.NDArray[np.float32]]:
    """Rows of requests: most of one row, some of sixteen."""
    return [dense_task.some_rows(16 if place % 8 == 0 else 1, place) for place in range(_BODIES)]


def _expected(good: Sequence[int], bad: Mapping[Fault, int]) -> dict[str, list[list[float]]]:
    """What each version says of each request, of those that may ever answer."""
    seeds = {number: seed for seed, number in enumerate(good)}
    seeds |= {bad[fault]: _GOOD + place for place, fault in enumerate(FAULTS) if fault.answers_at_first}
    said = {}
    for number, seed in seeds.items():
        state = dense_task.chance_parameters(seed)
        said[str(number)] = [dense_task.predicted(state, rows).tolist() for rows in _bodies()]
    return said


@contextlib.contextmanager
def loaded(folder: Path, stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """The load, from its first request; it ends when its input does."""
    place = urlsplit(stage.server.url)
    order = Order(
        host=place.hostname or "", port=place.port or 80, path=f"/v2/models/{_MODEL}/infer",
        bodies=[dense_task.body(rows).decode() for rows in _bodies()], expected=stage.expected,
        requests_per_s=stage.requests_per_s, connections=_CONNECTIONS, out=str(folder / "records.npz"),
    )  # fmt: skip
    (folder / "order.json").write_bytes(msgspec.json.encode(order))
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benches.checked_load", str(folder / "order.json")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the load did not start")
        yield process
    finally:
        process.kill()
        process.wait()
