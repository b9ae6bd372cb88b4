"""An uploaded file is read in a process of its own first: what reading it takes, the file itself cannot say.

A file of a few kilobytes may hold gigabytes once it is unpacked, and lie about that in its own footer. So the whole
read, down to the task's columns, is tried under a limit of memory and of time. Who survives the trial is read again by
the app, in the same way and so within the same memory. Of whom does not, the app reads nothing.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from aimass.proto.confinement import forbid_core_files
from aimass.proto.errors import AimassError, InternalError, LimitExceeded, from_wire, to_wire
from aimass.proto.manifest import Schema
from aimass.proto.rows import read_table
from aimass.proto.values import canonical_json, decode_json

__all__ = ["PATIENCE_S", "too_much", "tried_rows"]

PATIENCE_S: Final = 60
"""How long a trial may take, in seconds."""
_READ: Final = b"rows "
_MEMORY: Final = b"memory"
_MIB: Final = 1 << 20
_ENVIRONMENT: Final = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Nothing of the app's own, in which tokens may stand. Memory that is let go of is given back at once, and so does not
count: without that a table of 45 MiB needs three times as much."""


def too_much(value: str, limit: str) -> LimitExceeded:
    """What is said of a file that is more than one session may have."""
    return LimitExceeded(
        "the file is more than may be uploaded",
        code="app.upload",
        value=value,
        limit=limit,
        cure="Ask about a part of it, or have it named with --rows when the app is started.",
    )


def tried_rows(schema: Schema, data: bytes, format_: str, memory_bytes: int) -> int:
    """How many rows the file has, of which nothing is checked but that it can be read with `memory_bytes`.

    Raises `LimitExceeded` where that takes more memory or time, and what `read_table` raises of the file.
    """
    command = [sys.executable, "-I", "-m", "aimass.explain.app.upload_trial", format_, str(memory_bytes)]
    told = canonical_json(schema) + b"\n" + data
    places = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a reader that fails may quote the file
            env=_ENVIRONMENT | places,
            cwd="/",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise too_much(f"more than {PATIENCE_S} s to read", f"{PATIENCE_S} s") from error
    return _judged(done.returncode, done.stdout, memory_bytes)


def _judged(code: int, said: bytes, memory_bytes: int) -> int:
    """What a trial that ended so says of the file. A reader whose memory ends may take its process with it."""
    if code == 0 and said.startswith(_READ):
        return int(said.removeprefix(_READ))
    limit = f"{memory_bytes / _MIB:.0f} MiB"
    if said == _MEMORY:
        raise too_much(f"more than {limit} of memory to read", limit)
    if code < 0:
        raise too_much(f"a file that ends its reader, or takes more than {limit} of memory", limit)
    if code == 0:
        raise from_wire(said)
    raise InternalError("an uploaded file could not be tried", code="app.upload_trial", value=f"exit code {code}")


def _answer(format_: str, memory_bytes: int) -> bytes:
    """The process's own part: read what comes in, within the limits, and say how that ended."""
    import pyarrow.csv  # noqa: PLC0415
    import pyarrow.parquet  # noqa: F401, PLC0415  (before the limit, so that it counts the file alone)

    schema = decode_json(Schema, sys.stdin.buffer.readline(), "schema")
    forbid_core_files()
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE_S, PATIENCE_S))  # also where the app is gone
    most = _held_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        source = io.BytesIO(sys.stdin.buffer.read())
        return _READ + str(read_table(schema, [source], format_, unlabelled=True).rows).encode()
    except MemoryError:
        return _MEMORY
    except AimassError as error:
        return _MEMORY if isinstance(error.__cause__, MemoryError) else to_wire(error)


def _held_bytes() -> int:
    """What this process has allocated, as the limit counts it."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(sys.argv[1], int(sys.argv[2])))
