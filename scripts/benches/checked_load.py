"""A load that comes at a steady rate and checks each answer against the version that it names.

It runs in a process of its own, so that what the bench does besides delays no answer: started with a file of `Order`,
it says `ready`, loads the server until its input ends, and writes what it saw. A request's time counts from the moment
at which it was due, so that a server that stands still is charged with all who wait (Tene's "coordinated omission").
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from scripts.benches.http_caller import Answer, HttpCaller, request_bytes

__all__ = ["Order", "Records", "Verdict", "judge"]

_TOLERANCE: Final = 1e-4
_EXAMPLES: Final = 20
_PATIENCE_S: Final = 40.0
"""Longer than any request may take at the server: who waits so long was forgotten."""


class Verdict(enum.IntEnum):
    """What became of a request."""

    RIGHT = 0
    WRONG = 1
    UNKNOWN_VERSION = 2
    STATUS = 3
    HUNG_UP = 4


class Order(msgspec.Struct, frozen=True):
    """What to send where. `bodies` are requests; `expected` says of each version what is right for each of them."""

    host: str
    port: int
    path: str
    bodies: list[str]
    expected: dict[str, list[list[float]]]
    requests_per_s: float
    connections: int
    out: str


class _Output(msgspec.Struct, frozen=True):
    data: list[float]


class _Inferred(msgspec.Struct, frozen=True):
    model_version: str
    outputs: list[_Output]


_DECODER: Final = msgspec.json.Decoder(_Inferred)


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """One entry for each request: when it was answered (the machine's monotonic clock), how long that took from when it
    was due, the version that answered (0: none) and the verdict; and some of what was wrong, in words."""

    at_s: npt.NDArray[np.float64]
    took_s: npt.NDArray[np.float64]
    version: npt.NDArray[np.int64]
    verdict: npt.NDArray[np.int64]
    examples: Sequence[str] = ()

    def since(self, moment_s: float) -> Records:
        """The same with times counted from a moment."""
        return dataclasses.replace(self, at_s=self.at_s - moment_s)

    def save(self, path: Path) -> None:
        """Write them as one file."""
        arrays = {"at_s": self.at_s, "took_s": self.took_s, "version": self.version, "verdict": self.verdict}
        np.savez(path, **arrays, examples=np.array(list(self.examples), np.str_))  # type: ignore[arg-type]

    @staticmethod
    def load(path: Path) -> Records:
        """Read what `save` wrote."""
        with np.load(path) as found:
            examples = found["examples"].tolist()
            return Records(found["at_s"], found["took_s"], found["version"], found["verdict"], examples)


def judge(answer: Answer, expected: dict[str, list[list[float]]], request: int) -> tuple[Verdict, int]:
    """Whether an answer is what the version that it names says of that request; and which version that is."""
    if answer.status != 200:
        return Verdict.STATUS, 0
    try:
        said = _DECODER.decode(answer.body)
        version = int(said.model_version)
        found = said.outputs[0].data
    except (msgspec.MsgspecError, ValueError, IndexError):
        return Verdict.WRONG, 0
    right = expected.get(said.model_version)
    if right is None:
        return Verdict.UNKNOWN_VERSION, version
    wanted = right[request]
    same = len(found) == len(wanted) and all(
        abs(one - other) <= _TOLERANCE * (1 + abs(other)) for one, other in zip(found, wanted, strict=True)
    )
    return (Verdict.RIGHT if same else Verdict.WRONG), version


class _Seen:
    """What came of the requests so far."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, int, int]] = []
        self._examples: list[str] = []

    def add(self, due_s: float, verdict: Verdict, version: int, words: object) -> None:
        now = time.monotonic()
        self._rows.append((now, now - due_s, version, verdict))
        if verdict is not Verdict.RIGHT and len(self._examples) < _EXAMPLES:
            self._examples.append(f"{now:.3f} {verdict.name.lower()}, version {version}: {words}"[:400])

    def records(self) -> Records:
        table = np.array(self._rows, np.float64).reshape(-1, 4)
        whole = table.astype(np.int64)
        return Records(table[:, 0], table[:, 1], whole[:, 2], whole[:, 3], self._examples)


def due_times(started_s: float, requests_per_s: float, connections: int, place: int) -> Iterator[float]:
    """When one of so many connections sends, so that all together keep the rate."""
    every_s = connections / requests_per_s
    due = started_s + every_s * place / connections
    while True:
        yield due
        due += every_s


async def _one(order: Order, place: int, messages: Sequence[bytes], seen: _Seen, over: asyncio.Event) -> None:
    """A connection, and another after it where it breaks."""
    chance = random.Random(place)
    due = due_times(time.monotonic(), order.requests_per_s, order.connections, place)
    while not over.is_set():
        with contextlib.suppress(OSError):
            async with HttpCaller(order.host, order.port) as caller:
                await _calls(order, messages, due, seen, over, caller, chance)
        if not over.is_set():
            await asyncio.sleep(0.01)  # nobody listens, or the other side hung up


async def _calls(
    order: Order, messages: Sequence[bytes], due: Iterator[float], seen: _Seen, over: asyncio.Event,
    caller: HttpCaller, chance: random.Random,
) -> None:  # fmt: skip
    for due_s in due:
        if (wait_s := due_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        if over.is_set():
            return
        request = chance.randrange(len(messages))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                answer = await caller.call(messages[request])
        except OSError as error:  # the other side hung up, or says nothing
            seen.add(due_s, Verdict.HUNG_UP, 0, error)
            raise
        verdict, version = judge(answer, order.expected, request)
        seen.add(due_s, verdict, version, (answer.status, answer.body[:300]))


async def _load(order: Order) -> Records:
    seen, over = _Seen(), asyncio.Event()
    messages = [request_bytes(f"{order.host}:{order.port}", order.path, body.encode()) for body in order.bodies]
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), over.set)
    async with asyncio.TaskGroup() as group:
        for place in range(order.connections):
            group.create_task(_one(order, place, messages, seen, over))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    loop.remove_reader(sys.stdin.fileno())
    return seen.records()


def main() -> None:
    """Follow the order in the file that is named."""
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    import uvloop

    uvloop.run(_load(order)).save(Path(order.out))


if __name__ == "__main__":
    main()
