"""The first model of a run, measured in a process of its own: it is in memory once, as network or as blob."""

from __future__ import annotations

import subprocess
import sys

_MEGABYTES = 128
_FIRST = """
import sys
from pathlib import Path
import torch
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob

class Wide(Task):
    def __init__(self, elements):
        self.elements = elements
    def build(self):
        return torch.nn.ParameterList([torch.ones(self.elements // 16) for _ in range(16)])

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

first_model(Wide(16), 1)
before = peak()
blob = Blob(first_model(Wide(int(sys.argv[1]) // 4), 1))
print(len(blob.data), blob.numpy("15").sum(), peak() - before)
"""


def test_a_large_first_model_is_in_memory_once() -> None:
    size = _MEGABYTES * 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", _FIRST, str(size)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    length, total, peak = (float(word) for word in done.stdout.split())
    assert size <= length < size + 10_000
    assert total == size / 4 / 16
    assert peak < 1.5 * size
