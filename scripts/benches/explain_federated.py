"""How far a federation's answer is from the pooled one: four hospitals, one lost in the middle, plain and secure.

Every analysis goes through the server's driver, the partners' own code and gate, and secure aggregation's lanes. Each
of its steps is held against the same step over all rows of who was counted, in one place.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from tests.explain.federated.hospitals import heart_blob
from tests.support.explanations import asked, found_in, hospital_shards, pooled, run_phases, task

from aimass.explain.federated.background import synthetic_background
from aimass.explain.federation import view_named
from aimass.proto.analysis import AtPartner
from aimass.proto.asking import ask_of
from aimass.proto.plan import SecureSettings
from aimass.proto.statistics import PhaseSums
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.proto.values import Scalar
from scripts.benches.row import Row

__all__ = ["measure"]

_LOST: Final = "hungarian"
_SECURE: Final = SecureSettings(min_cohort=3, colluders=0.0, bits=32, real_bound=65_536.0)
_ASKED: Final[Mapping[str, Mapping[str, Scalar]]] = {
    "confusion": {},
    "shapley": {},
    "permutation": {},
    "pdp": {},
    "ale": {},
    "prim": {},
    "slices": {},
}
_SEARCHES: Final = ("prim", "slices")
"""Which no partner gives in plain sums."""
_SAME: Final = 1e-9
_PICO: Final = 1e12


def measure(*, quick: bool = False) -> list[Row]:
    """Of each analysis, with its own options, how far its sums are off at most, and how long it takes."""
    return [row for name in _ASKED for row in _of(name, references=4 if quick else 20)]


def _of(name: str, references: int) -> list[Row]:
    """Differences in 1e-12: 1,000 are allowed, and in secret sums the rounding that the answer states."""
    secure, quantum, seconds = _apart(name, _SECURE, references)
    allowed = [(at + _SAME) * _PICO for at in (0.0, quantum)]
    rows = []
    if name not in _SEARCHES:
        plain, _, seconds = _apart(name, None, references)
        rows = [Row.of(f"{name}: largest difference of a sum, plain", [plain * _PICO], "1e-12", allowed[0], "lower")]
    return [
        *rows,
        Row.of(f"{name}: largest difference of a sum, secure", [secure * _PICO], "1e-12", allowed[1], "lower"),
        Row.of(f"{name}: all steps at four hospitals", [seconds], "s", None, "lower"),
    ]


def _apart(name: str, secure: SecureSettings | None, references: int) -> tuple[float, float, float]:
    """The largest difference, the largest rounding that is stated, and the seconds of the federated steps."""
    shared = synthetic_background(task.schema, rows=references) if name == "shapley" else None
    plan, model = asked(name, _ASKED[name], model=encode_numpy(heart_blob().arrays()), shared=shared, secure=secure)
    view, ask = view_named(name), ask_of(plan)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        phases = run_phases(plan, model, Path(folder), lost={len(view.phases(ask)) - 1: {_LOST}})
        seconds = time.perf_counter() - began
    found, inputs = [found_in(one) for one in phases], dict[str, Array]()
    most = quantum = 0.0
    for number, (statistics, summed) in enumerate(zip(phases, found, strict=True)):
        rows = pooled([shard for shard in hospital_shards() if shard.participant in summed.partners])
        whole = view.compute(ask, number, AtPartner.of(task, Blob(model), rows, inputs))
        quantum = max(quantum, statistics.found.quantum if isinstance(statistics.found, PhaseSums) else 0.0)
        most = max(most, *(float(np.abs(summed.sums[cell] - one).max()) for cell, one in whole.items()))
        inputs = dict(view.next(ask, found[: number + 1]) or {})
    return most, quantum, seconds
