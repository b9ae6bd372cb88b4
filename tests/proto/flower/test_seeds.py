"""The randomness of apps, with torch and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SEED = bytes(range(32))
BEGIN = f"""
import random, sys
import numpy as np
from aimass.proto.flower.seeds import Seeds
seeds = Seeds()
SEED = {SEED!r}
def drawn():
    import torch
    return random.random(), float(np.random.random()), float(torch.rand(()))
"""


def printed(code: str) -> str:
    """What a process of its own says: a child is one, and here torch may be loaded long since."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    ).stdout


def test_the_same_seed_gives_the_same_draws_whenever_torch_is_loaded() -> None:
    late = printed("seeds.start(SEED); print(drawn())")
    early = printed("import torch; torch.rand(9); seeds.start(SEED); print(drawn())")
    before = printed("import torch; seeds = Seeds(); torch.rand(9); seeds.start(SEED); print(drawn())")
    again = printed("seeds.start(bytes(32)); drawn(); seeds.start(SEED); print(drawn())")
    assert late == early == before == again
    assert printed("seeds.start(bytes(32)); print(drawn())") != late


@pytest.mark.parametrize("code", ["", "seeds.start(SEED); "])
def test_torch_is_not_loaded_for_an_app_that_does_not_load_it(code: str) -> None:
    assert printed(f"{code}print('torch' in sys.modules)") == "False\n"


def test_the_loader_leaves_no_trace_once_torch_is_there() -> None:
    assert printed("import torch; print(seeds in sys.meta_path, torch.__spec__.name)") == "False torch\n"
