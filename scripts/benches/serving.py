"""Serving a small network (13-64-64-1): requests a second and latency of `aimass serve`, and where asked for those of
MLServer, which speaks the same protocol, and of mosec, whose front is Rust.

One worker each, one thread of PyTorch for the peers, one load generator, JSON. The servers run beside each other and
take turns under load, so that what else the machine does meets all of them. Memory is what the processes of a server
have for themselves and their share of what they share (PSS), after the load. Cold is from the start of the process to
the first answer, of fresh processes one at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.proto.objects import open_objects
from scripts.benches import dense_task, serving_peers
from scripts.benches.loads import Load, Outcome, drive, generator
from scripts.benches.row import Row
from scripts.benches.serving_ours import serve
from scripts.benches.serving_peers import Served
from scripts.benches.swap_registry import Publisher, trust_file
from scripts.demos.processes import family, shared_bytes

_OURS: Final = "aimass"
_TIMES_MLSERVER: Final = 2.0
_TIMES_MOSEC: Final = 0.8


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """So many rows a request over so many connections."""

    rows: int
    connections: int

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{rows}, {self.connections} conn."


_CASES: Final = tuple(Case(rows, connections) for rows in (1, 16, 256) for connections in (1, 16))
Start = Callable[[Path], contextlib.AbstractContextManager[Served]]


def measure(*, quick: bool, peers: bool = False) -> list[Row]:
    """Each case in turns of three seconds (`quick`: one), cold starts, memory; ratios to the peers in one run."""
    seconds, turns, colds = (1.0, 3, 1) if quick else (3.0, 5, 3)
    sys.stderr.write(f"serving: the load is driven by {generator()}\n")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starts = {_OURS: _ours(folder, stack)} | (_peers() if peers else {})
        cold = {name: [_cold_s(folder / f"{name} {turn}", start) for turn in range(colds)]
                for name, start in starts.items()}  # fmt: skip
        servers = {name: stack.enter_context(start(folder / name)) for name, start in starts.items()}
        found = {case: _turns(servers, case, turns, seconds) for case in _CASES}
        memory = {name: shared_bytes(family(server.pid)) / 1e6 for name, server in servers.items()}
    rows = [row for case, outcomes in found.items() for row in _of_case(case, outcomes)]
    rows += [Row.of(f"cold start, {name}", values, "s", None, "lower") for name, values in cold.items()]
    rows += [Row.of(f"memory, {name}", [value], "MB", None, "lower") for name, value in memory.items()]
    return rows


# ---------------------------------------------------------------- servers


def _ours(folder: Path, stack: contextlib.ExitStack) -> Start:
    """Ours, from a registry in a folder with one version."""
    environment = folder / "environment"
    python = dense_task.install(environment)
    stack.enter_context(dense_task.seen(environment))
    owner = Ed25519PrivateKey.generate()
    trust, registry = folder / "trust.json", f"file://{folder}/registry"
    trust.write_bytes(trust_file(owner))
    publisher = Publisher(open_objects(registry), "dense", owner)
    publisher.promote(publisher.good(0), "the first")
    return lambda place: serve(place, python, "dense", registry, trust)


def _peers() -> dict[str, Start]:
    state = dense_task.chance_parameters(0)

    def start(peer: serving_peers.Peer) -> Start:
        return lambda place: serving_peers.served(peer, place, state)

    return {peer.name: start(peer) for peer in serving_peers.PEERS}


def _cold_s(folder: Path, start: Start) -> float:
    with start(folder) as server:
        return server.cold_s


# ---------------------------------------------------------------- figures


def _turns(servers: dict[str, Served], case: Case, turns: int, seconds: float) -> dict[str, list[Outcome]]:
    """What came of each server under the case's load, turn by turn, after one that is not counted."""
    body = dense_task.body(dense_task.some_rows(case.rows))
    found: dict[str, list[Outcome]] = {name: [] for name in servers}
    for turn in range(turns + 1):
        for name, server in servers.items():
            outcome = drive(Load(server.url, body, case.connections, seconds))
            found[name] += [outcome] if turn else []
    for name, outcomes in found.items():
        sys.stderr.write(f"serving: {case}: {name} {max(one.requests_per_s for one in outcomes):.0f}/s at most\n")
    return found


def _of_case(case: Case, outcomes: dict[str, list[Outcome]]) -> Iterator[Row]:
    rates = {name: [one.requests_per_s for one in found] for name, found in outcomes.items()}
    p99s = {name: [one.p99_us for one in found] for name, found in outcomes.items()}
    for name, found in outcomes.items():
        yield Row.of(f"{case}, {name}", rates[name], "1/s", None, "higher")
        yield Row.of(f"p50, {case}, {name}", [one.p50_us for one in found], "us", None, "lower")
        yield Row.of(f"p99, {case}, {name}", p99s[name], "us", None, "lower")
    single = case.rows == 1
    if (peer := "MLServer") in outcomes:
        aim = _TIMES_MLSERVER if single else None
        yield Row.ratio(f"{case}, aimass / {peer}", rates[_OURS], rates[peer], aim, "higher")
        yield Row.ratio(f"p99, {case}, {peer} / aimass", p99s[peer], p99s[_OURS], aim, "higher")
    for peer in ("mosec", "mosec, batching"):
        if peer in outcomes:
            aim = _TIMES_MOSEC if case == Case(1, 16) and peer == "mosec" else None
            yield Row.ratio(f"{case}, aimass / {peer}", rates[_OURS], rates[peer], aim, "higher")
