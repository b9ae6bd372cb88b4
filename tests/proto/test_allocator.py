"""The one arena of a process's memory, tried in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_MANY_THREADS = """
import ctypes, threading
from aimass.proto.allocator import one_arena
print(one_arena())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
together, held = threading.Barrier(8), []
def take():
    together.wait()
    for _ in range(100):
        held.append(libc.malloc(1000))
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len({address >> 32 for address in held}))
"""


def _say(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _MANY_THREADS],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_all_threads_take_memory_from_one_arena_unless_the_operator_says_otherwise() -> None:
    assert _say() == ["True", "1"]
    assert _say(MALLOC_ARENA_MAX="4")[0] == "False"
