"""Every analysis through the server's driver and the partners' gate, plain and secure, one partner lost in the middle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from aimass.explain.federated.background import synthetic_background
from aimass.explain.federated.seam import FederatedView
from aimass.explain.federated.sums import Release
from aimass.explain.federation import view_named
from aimass.explain.lineage import Lineage
from aimass.proto.analysis import AtPartner
from aimass.proto.asking import ask_of
from aimass.proto.asks import Ask, phase_at
from aimass.proto.plan import Plan, SecureSettings
from aimass.proto.statistics import PhaseSums
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.proto.values import Scalar
from tests.explain.federated.hospitals import heart_blob
from tests.support.explanations import asked, found_in, hospital_shards, pooled, run_phases, task

LOST = "hungarian"
SECURE = SecureSettings(min_cohort=3, colluders=0.0, bits=32, real_bound=65_536.0)
SHARED = synthetic_background(task.schema, rows=3, seed=2)
MODEL = encode_numpy(heart_blob().arrays())
ALL: dict[str, Mapping[str, Scalar]] = {
    "shapley": {},
    "permutation": {"shuffles": 2, "loss": "brier"},
    "pdp": {"points": 3},
    "ale": {"steps": 6},
    "prim": {"target": "label", "boxes": 1, "support": 0.2, "bins": 16},
    "slices": {"depth": 2, "cuts": 2, "least": 0.2, "at_once": 256},
}


SEARCHES = ("prim", "slices")
"""No partner gives these in plain sums."""
PLAIN = [(name, None) for name in ALL if name not in SEARCHES]


def plan_of(name: str, secure: SecureSettings | None = None, noise: float = 0.0) -> tuple[Plan, bytes]:
    shared = SHARED if name == "shapley" else None
    return asked(name, ALL[name], model=MODEL, shared=shared, secure=secure, noise=noise)


def over_pooled(
    view: FederatedView, ask: Ask, model: bytes, number: int, inputs: Mapping[str, Array], who: tuple[str, ...]
) -> Mapping[str, Array]:
    rows = pooled([shard for shard in hospital_shards() if shard.participant in who])
    return view.compute(ask, number, AtPartner.of(task, Blob(model), rows, inputs))


@pytest.mark.parametrize(("name", "secure"), [*PLAIN, *((name, SECURE) for name in ALL)])
def test_each_step_is_the_pooled_one_over_who_was_counted(
    name: str, secure: SecureSettings | None, tmp_path: Path
) -> None:
    """The partner is lost in the last step, or in the second where there are many."""
    plan, model = plan_of(name, secure)
    view, ask, last = view_named(name), ask_of(plan), len(view_named(name).phases(ask_of(plan))) - 1
    phases = run_phases(plan, model, tmp_path, lost={last: {LOST}})
    inputs: Mapping[str, Array] = {}
    for number, statistics in enumerate(phases):
        found = found_in(statistics)
        assert (LOST in found.partners) is (number != last)
        whole = over_pooled(view, ask, model, number, inputs, found.partners)
        quantum = statistics.found.quantum if isinstance(statistics.found, PhaseSums) else 0.0
        assert (quantum > 0) is (secure is not None)
        for cells in phase_at(view.phases(ask), number).cells:
            if cells.counts:
                np.testing.assert_array_equal(found.sums[cells.name], whole[cells.name])
            else:
                np.testing.assert_allclose(found.sums[cells.name], whole[cells.name], rtol=0, atol=1e-9 + quantum)
        inputs = view.next(ask, [found_in(one) for one in phases[: number + 1]]) or {}
    read = view.read(ask, [found_in(one) for one in phases], Lineage(model="heart"), Release(partners=3))
    assert read.describe()


@pytest.mark.parametrize("name", ALL)
def test_noise_is_unbiased_and_as_large_as_is_stated(name: str, tmp_path: Path) -> None:
    plan, model = plan_of(name, noise=0.5)
    view, ask = view_named(name), ask_of(plan)
    phases = run_phases(plan, model, tmp_path)
    found, off, inputs = [found_in(one) for one in phases], [], dict[str, Array]()
    noises: dict[str, float] = {}
    for number, (statistics, summed) in enumerate(zip(phases, found, strict=True)):
        whole = over_pooled(view, ask, model, number, inputs, summed.partners)
        assert isinstance(statistics.found, PhaseSums)
        noises = {one.name: one.noise for one in statistics.found.sums}
        assert all(noises.values())
        off += [((summed.sums[cell] - whole[cell]) / noises[cell]).reshape(-1) for cell in noises]
        inputs = dict(view.next(ask, found[: number + 1]) or {})
    scaled = np.concatenate(off)
    assert abs(scaled.mean()) < 5 / np.sqrt(scaled.size)
    assert scaled.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * scaled.size))
    read = view.read(ask, found, Lineage(model="heart"), Release(partners=4, noise=noises))
    assert any("Gaussian noise" in line for line in read.caveats)
    assert type(read).from_json(read.to_json()) == read
