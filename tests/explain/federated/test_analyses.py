"""Every analysis: what four hospitals add up is what their rows say pooled, whoever of them is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from aimass.explain.federated import ale, confusion, pdp, permutation, prim, shapley, slices
from aimass.explain.federated.background import synthetic_background
from aimass.proto.analysis import Analysis, Summed
from aimass.proto.asks import Ask, phase_at
from aimass.proto.values import Scalar
from tests.explain.federated.hospitals import TASK, Hospital, at, hospitals, pooled
from tests.explain.federated.together import largest_rows, together

SHARED = synthetic_background(TASK.schema, rows=6, seed=5)


def ask(options: Mapping[str, Scalar], *, shared: bool = False) -> Ask:
    return Ask(schema=TASK.schema, options=dict(options), seed=7, shared=SHARED if shared else None)


ALL: dict[str, tuple[Analysis, Ask]] = {
    "confusion": (confusion.analysis, ask({"bins": 10})),
    "shapley": (shapley.analysis, ask({}, shared=True)),
    "permutation": (permutation.analysis, ask({"shuffles": 2})),
    "ale": (ale.analysis, ask({"steps": 6})),
    "pdp": (pdp.analysis, ask({"points": 4})),
    "prim": (prim.analysis, ask({"target": "label", "boxes": 1, "support": 0.2})),
    "prim of predictions": (prim.analysis, ask({"boxes": 1, "support": 0.2, "steps": 8})),
    "slices": (slices.analysis, ask({"depth": 2, "cuts": 3, "least": 0.2})),
    "slices by loss": (slices.analysis, ask({"loss": "log_loss", "cuts": 2, "least": 0.2, "at_once": 256})),
    "permutation of a background": (permutation.analysis, ask({"shuffles": 2, "loss": "brier"}, shared=True)),
}


def few(counts: int = 25) -> tuple[Hospital, ...]:
    """The hospitals, of each the first rows."""
    return tuple(dataclasses.replace(one, rows=one.rows.take(slice(counts))) for one in hospitals())


def assert_equal(analysis: Analysis, question: Ask, found: list[Summed], whole: list[Summed], rows: int) -> None:
    assert len(found) == len(whole)
    for number, (apart, pool) in enumerate(zip(found, whole, strict=True)):
        for cells in phase_at(analysis.phases(question), number).cells:
            if cells.counts:
                np.testing.assert_array_equal(apart.sums[cells.name], pool.sums[cells.name])
            else:
                difference = np.abs(apart.sums[cells.name] - pool.sums[cells.name]).max()
                assert difference / rows <= 1e-9 * max(1.0, cells.row_norm), cells.name


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("lost", [(), (1,)], ids=["all", "one lost"])
def test_the_sums_of_the_hospitals_are_those_of_their_rows_pooled(name: str, lost: tuple[int, ...]) -> None:
    analysis, question = ALL[name]
    counted = tuple(one for place, one in enumerate(few()) if place not in lost)
    found = together(analysis, question, at(counted))
    whole = together(analysis, question, at((pooled(counted),)))
    assert_equal(analysis, question, found, whole, sum(len(one.rows) for one in counted))


@pytest.mark.parametrize("name", ALL)
def test_no_row_adds_more_than_the_plan_states(name: str) -> None:
    analysis, question = ALL[name]
    found = together(analysis, question, at(few(8)))
    single = tuple(
        dataclasses.replace(one, rows=one.rows.take(slice(place, place + 1))) for one in hospitals() for place in (0, 7)
    )
    for cells, most in largest_rows(analysis, question, found, at(single)):
        assert most <= cells.norm * (1 + 1e-12), cells.name


@pytest.mark.parametrize("name", ALL)
def test_a_partner_without_rows_adds_nothing(name: str) -> None:
    analysis, question = ALL[name]
    counted = few(8)
    nobody = dataclasses.replace(counted[0], rows=counted[0].rows.take(slice(0)))
    with_nobody = together(analysis, question, at((*counted, nobody)))
    for one, other in zip(with_nobody, together(analysis, question, at(counted)), strict=True):
        for tensor, sums in one.sums.items():
            np.testing.assert_array_equal(sums, other.sums[tensor])
