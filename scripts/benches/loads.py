"""A closed-loop load of one HTTP request over keep-alive connections, and what came of it.

Each connection sends its next request as soon as it has the answer to the last. `wrk` drives where it is installed;
elsewhere a loop of our own, which takes a processor several times as long a request: figures of the two do not compare.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scripts.benches.http_caller import HttpCaller, request_bytes

__all__ = ["Load", "Outcome", "drive", "generator", "quantile"]

_SCRIPT: Final = """
local file = io.open(os.getenv("LOAD_BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*all")
file:close()
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %d, "us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """One request, posted again and again."""

    url: str
    body: bytes
    connections: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Requests answered a second, and how long an answer took."""

    requests_per_s: float
    p50_us: float
    p99_us: float


def generator() -> str:
    """What drives loads here."""
    return "wrk" if shutil.which("wrk") else "own"


def drive(load: Load) -> Outcome:
    """Load a server; raises `RuntimeError` where a request failed or none was answered."""
    found = _by_wrk(load) if generator() == "wrk" else asyncio.run(_by_own(load))
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"of {found['requests']} requests to {load.url} {found['failed']} failed")
    return Outcome(found["requests"] / found["us"] * 1e6, found["p50_us"], found["p99_us"])


def _by_wrk(load: Load) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as name:
        script, body = Path(name) / "load.lua", Path(name) / "body"
        script.write_text(_SCRIPT)
        body.write_bytes(load.body)
        command = [
            "wrk", "--threads", "1", "--connections", str(load.connections), "--duration",
            f"{math.ceil(load.seconds)}s", "--script", str(script), load.url,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LOAD_BODY": str(body)})
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stderr.strip()}")
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


async def _by_own(load: Load) -> dict[str, int]:
    sys.stderr.write("loads: wrk is not installed (apt install wrk); a slower loop of our own drives\n")
    parts = urlsplit(load.url)
    message = request_bytes(parts.netloc, parts.path, load.body)
    took: list[float] = []
    failed = 0
    started = time.perf_counter()

    async def one() -> None:
        nonlocal failed
        async with HttpCaller(parts.hostname or "", parts.port or 80) as caller:
            while (sent := time.perf_counter()) < started + load.seconds:
                answer = await caller.call(message)
                took.append(time.perf_counter() - sent)
                failed += answer.status != 200

    async with asyncio.TaskGroup() as group:
        for _ in range(load.connections):
            group.create_task(one())
    seconds = time.perf_counter() - started
    took.sort()
    return {
        "requests": len(took), "us": round(seconds * 1e6), "failed": failed,
        "p50_us": round(quantile(took, 0.5) * 1e6), "p99_us": round(quantile(took, 0.99) * 1e6),
    }  # fmt: skip


def quantile(ordered: list[float], share: float) -> float:
    """The smallest of the ordered values that so large a share of them does not exceed; 0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
