"""Offline training: rounds against a bare torch loop on the same cores, memory against the size of the data, stores.

The FedAvg paper's network over Fashion-MNIST, four shards, two trainers of one thread. The loop is two processes with
the same steps over the same rows and nothing else: no gate, no sum, no commit (see `client`). Loops and runs take
turns; processor time is told beside, because it hears less of what else a machine does. For memory the rows are made
many (`aimass data generate`) and each shard trains a few steps: what is measured is what streams through. Peaks are
what the kernel counts as resident at most in one trainer.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from aimass.client.data_get import cache_folder, get
from aimass.proto.data_sets import DataSetName, shard_key
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.catalogue import Catalogue
from scripts.benches import client
from scripts.benches.buckets import KEYS, buckets, make_bucket
from scripts.benches.row import Row
from scripts.demos.processes import cpu_seconds, family, peak_bytes

_SHARDS: Final = 4
_TRAINERS: Final = 2
_SHARE: Final = 90.0
_SPARK: Final = ("--master", f"local[{_TRAINERS}]")
_OWN: Final = ("--workers", str(_TRAINERS))
_OVERHEAD_S: Final = 1.4
"""Of a round on `local[2]` beyond its training, as first tried."""
_FLAT_MB: Final = 512
_PLAN: Final = """
name = "bench"
task = "fashion"
data_schema = "fashion/1"
seed = 1
[train]
batch_size = 10
learning_rate = 0.05
steps = {steps}
[evaluate]
every = 0
[cohort]
quorum = 1
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""


class _Cost(NamedTuple):
    """Seconds, and seconds of processor time."""

    s: float
    cpu_s: float


def measure(*, quick: bool, full: bool = False) -> list[Row]:
    """Rounds of 30 s or so (`quick`: 5), memory at 2 GB of decoded rows (`quick`: 200 MB) and at a tenth; `full`: at
    30 GB, alone."""
    if full:
        return _memory(30_000)
    rounds = _rounds(250, 2) if quick else _rounds(1_500, 3)
    return [*rounds, *_stores(), *_memory(200 if quick else 2_000)]


# ---------------------------------------------------------------- rounds


def _rounds(steps: int, rounds: int) -> list[Row]:
    """Seconds of rounds in which each shard trains so many steps, as a share of the loop's; and of rounds of one step,
    which are all overhead. The first round of a run is not counted: processes start in it."""
    rows = get("fashion", cache_folder())[0] / "train.parquet"
    bare: list[_Cost] = []
    runs: dict[str, list[_Cost]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        store = _split(folder, "fashion", [rows], f"stratified:{_SHARDS}")
        loops = [stack.enter_context(client.loop(rows, steps * _SHARDS // _TRAINERS)) for _ in range(_TRAINERS)]
        _together(loops)  # not counted: threads and caches begin
        for kind, workers in _ways():
            bare.append(_together(loops))
            runs[kind] = _costs(_run(folder, store, kind, steps, rounds + 1, *workers))
            sys.stderr.write(f"offline: {kind}, {runs[kind][-1].s:.1f} s a round, {bare[-1].s:.1f} s in the loop\n")
        bare.append(_together(loops))
        idle = {kind: _costs(_run(folder, store, f"idle-{kind}", 1, 6, *workers))[1:] for kind, workers in _ways()}
    shares, aims = [], {"local[2]": _OVERHEAD_S}
    for kind, costs in runs.items():
        pairs = [(one, of) for one in bare for of in costs]
        shares.append(Row.of(f"loop / {kind}", [100 * one.s / of.s for one, of in pairs], "%", _SHARE, "higher"))
        cpu = [100 * one.cpu_s / of.cpu_s for one, of in pairs]
        shares.append(Row.of(f"processor time, loop / {kind}", cpu, "%", None, "higher"))
    return [
        Row.of("bare loop", [one.s for one in bare], "s", None, "lower"),
        *(Row.of(f"round, {kind}", [one.s for one in costs], "s", None, "lower") for kind, costs in runs.items()),
        *shares,
        *(
            Row.of(f"round of one step, {kind}", [one.s for one in idle[kind]], "s", aims.get(kind), "lower")
            for kind in idle
        ),
    ]


def _ways() -> tuple[tuple[str, tuple[str, str]], ...]:
    return ("local[2]", _SPARK), ("processes", _OWN)


def _together(loops: Sequence[subprocess.Popen[str]]) -> _Cost:
    """What it takes until the last of the loops has done its steps."""
    before = cpu_seconds([loop.pid for loop in loops])
    done = [0.0] * len(loops)

    def one(place: int) -> None:
        done[place] = client.loop_seconds(loops[place])

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(loops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _Cost(max(done), cpu_seconds([loop.pid for loop in loops]) - before)


# ---------------------------------------------------------------- memory


def _memory(megabytes: int) -> list[Row]:
    """A trainer's peak over so many MB of decoded rows, and over a tenth of them."""
    peaks: dict[int, list[float]] = {}
    seconds: dict[int, float] = {}
    for size in (megabytes // 10, megabytes):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generated = folder / "rows"
            _aimass(folder, "data", "generate", "fashion", "--bytes", f"{size}MB", "--out", str(generated))
            store = _split(folder, "large", sorted(generated.glob("*.parquet")), "size:32MB")
            peaks[size] = []
            for kind, workers in _ways():
                started = time.perf_counter()
                run = _run(folder, store, kind, 2, 1, *workers, data="large")
                peaks[size].append(run["peak_mb"])
                seconds[size] = time.perf_counter() - started
                sys.stderr.write(f"offline: {size} MB, {kind}, a trainer's peak {run['peak_mb']:.0f} MB\n")
    rows = [Row.of(f"trainer, {size / 1000:g} GB", peaks[size], "MB", None, "lower") for size in peaks]
    beyond = [large - small for small, large in zip(*peaks.values(), strict=True)]
    return [*rows, Row.of("beyond the tenth", beyond, "MB", _FLAT_MB, "lower")]


# ---------------------------------------------------------------- stores


def _stores() -> list[Row]:
    """Reading the shards of Fashion from a bucket, and from this disk."""
    rows = get("fashion", cache_folder())[0] / "train.parquet"
    with tempfile.TemporaryDirectory() as name, buckets() as endpoint:
        folder = Path(name)
        make_bucket(endpoint, "bench")
        os.environ.update(KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"})
        disk = _split(folder, "fashion", [rows], f"stratified:{_SHARDS}")
        bucket = _split(
            folder, "fashion", [rows], f"stratified:{_SHARDS}", store=f"s3://bench/sets?endpoint={endpoint}"
        )
        speeds = {what: [_read(open_objects(url)) for _ in range(5)] for what, url in (("disk", disk), ("S3", bucket))}
    return [Row.of(f"read from {what}", found, "MB/s", None, "higher") for what, found in speeds.items()]


def _read(store: ObjectStore) -> float:
    """MB of shards a second."""
    shards = Catalogue(store).open(DataSetName(name="fashion")).shards
    started = time.perf_counter()
    size = sum(len(chunk) for shard in shards for chunk in store.stream(shard_key("fashion", shard.sha256)))
    return size / 1e6 / (time.perf_counter() - started)


# ---------------------------------------------------------------- commands


def _aimass(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "aimass.proto.commands", *words, "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _split(folder: Path, name: str, rows: Sequence[Path], rule: str, store: str = "") -> str:
    """The URL of a store with this data set."""
    url = store or f"file://{folder}/store"
    files = [str(path) for path in rows]
    _aimass(folder, "data", "split", name, *files, "--task", "fashion", "--split", rule, "--store", url)
    return url


def _run(
    folder: Path, store: str, out: str, steps: int, rounds: int, *workers: str, data: str = "fashion"
) -> Mapping[str, Any]:
    """The moments at which rounds ended, by this process's clock, and the largest trainer's peak in MB."""
    plan = folder / "plan.toml"
    plan.write_text(_PLAN.format(steps=steps, rounds=rounds))
    words = ["offline", "run", str(plan), "--data", data, "--store", store, "--out", f"file://{folder}/{out}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "aimass.proto.commands", *words, "--work", str(folder / f"work-{out}"), *workers],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    with _trainers(process.pid) as peaks:
        ended, last = [], ""
        for last in process.stderr:
            if last.startswith("round "):
                ended.append(_now(process.pid))
    if process.wait() != 0:
        raise RuntimeError(f"the run {out} failed: {last.strip()}")
    return {"ended": ended, "peak_mb": max(peaks.values(), default=0) / 1e6}


def _now(pid: int) -> _Cost:
    """By this process's clock, and what a driver and all that it started have taken so far."""
    return _Cost(time.perf_counter(), cpu_seconds(family(pid)))


def _costs(run: Mapping[str, Any]) -> list[_Cost]:
    """From the end of each round to the end of the next."""
    ended = run["ended"]
    return [_Cost(after.s - before.s, after.cpu_s - before.cpu_s) for before, after in itertools.pairwise(ended)]


@contextlib.contextmanager
def _trainers(pid: int, every_s: float = 0.1) -> Iterator[dict[int, int]]:
    """Peaks, by process, of the Python processes that a driver has started."""
    peaks: dict[int, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            for one in family(pid) - {pid}:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                    if b"python" in Path(f"/proc/{one}/cmdline").read_bytes():
                        peaks[one] = peak_bytes(one)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
