"""The analysis of a partner's rows: exact without noise, and with it bounded by row, whatever the model states."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimass.client.analyses import analyse, analyse_privately
from aimass.client.shards import Shard
from aimass.privacy.dp.gaussian import GRID_DEVIATION
from aimass.privacy.dp.private_terms import MOST_COLUMNS, analysis_noise
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, NotFound, Refused
from aimass.proto.plan import AnalysisNoise
from aimass.proto.rows import Batch
from aimass.proto.surveys import SURVEYS
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.noise import seeded

Numbers = npt.NDArray[np.float32]
COLUMNS = 3
SETTING = AnalysisNoise(noise_multiplier=2.0)


def shard(numbers: Numbers) -> Shard:
    rows = len(numbers)
    batch = Batch(numbers, np.empty((rows, 0), np.int64), None, np.zeros(rows, np.int64))
    return Shard("north", batch, batch)


def model(shift: object = np.zeros(COLUMNS), span: object = np.ones(COLUMNS)) -> Blob:
    return Blob(encode_numpy({"preprocess.shift": np.asarray(shift), "preprocess.span": np.asarray(span)}))


def rows(count: int, seed: int = 0) -> Numbers:
    return np.random.default_rng(seed).uniform(-1, 1, (count, COLUMNS)).astype(np.float32)


def vector(made: Contribution) -> npt.NDArray[np.float64]:
    return np.concatenate([made.groups["statistics"].tensors[name] for name in ("count", "sum", "sum_of_squares")])


def test_the_sums_are_those_of_the_numbers_that_are_there() -> None:
    numbers = rows(50)
    numbers[3:20, 1] = np.nan
    made = vector(analyse("statistics", shard(numbers), model(span=np.full(COLUMNS, 2.0))))
    z = numbers.astype(np.float64) / 2
    oracle = np.concatenate([(~np.isnan(z)).sum(axis=0), np.nansum(z, axis=0), np.nansum(z * z, axis=0)])
    np.testing.assert_allclose(made, oracle, rtol=1e-12)


@given(
    arrays(np.float32, (6, COLUMNS), elements=st.floats(width=32)),
    st.floats(-1e6, 1e6),
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, math.nan, 1e-300])),
)
def test_one_row_less_moves_the_noised_sums_by_no_more_than_they_have_noise_for(
    numbers: Numbers, shift: float, span: float
) -> None:
    """Under one stream both have the same noise, so what is left is what the row did, and the rounding to the grid."""
    stated = model(np.full(COLUMNS, shift), np.full(COLUMNS, span))
    whole, less = (
        vector(analyse_privately("statistics", shard(part), stated, SETTING, seeded("row")))
        for part in (numbers, numbers[1:])
    )
    noise = analysis_noise(SETTING, COLUMNS)
    assert noise.clip == math.sqrt(3 * COLUMNS)
    assert float(np.linalg.norm(whole - less)) <= noise.clip + 2 * math.sqrt(3 * COLUMNS) * noise.step


def test_the_noise_is_a_multiple_of_what_a_row_can_add() -> None:
    numbers, stream, repeats = rows(100), seeded("moments"), 400
    exact = vector(analyse("statistics", shard(numbers), model()))
    drawn = np.stack(
        [vector(analyse_privately("statistics", shard(numbers), model(), SETTING, stream)) for _ in range(repeats)]
    )
    chi_square = float(((drawn - exact) ** 2).sum()) / (2.0**2 * 3 * COLUMNS)
    assert abs(chi_square - drawn.size) < 5 * math.sqrt(2 * drawn.size)
    steps = drawn / (2.0 * math.sqrt(3 * COLUMNS) / GRID_DEVIATION)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)  # nothing finer than the grid


def test_a_model_of_more_dimensions_gets_no_sums_of_single_rows() -> None:
    for stated in (model(np.zeros((1, 1, COLUMNS))), model(span=np.ones((1, COLUMNS))), model(np.zeros(1))):
        with pytest.raises(BadInput) as refused:
            analyse("statistics", shard(rows(4)), stated)
        assert refused.value.code == "trainer.columns"
        with pytest.raises(BadInput):
            analyse_privately("statistics", shard(rows(4)), stated, SETTING, seeded("shape"))


@pytest.mark.parametrize("name", ["unheard-of", *SURVEYS])
def test_no_sums_are_made_under_another_name(name: str) -> None:
    with pytest.raises(NotFound):
        analyse(name, shard(rows(4)), model())
    with pytest.raises(NotFound):
        analyse_privately(name, shard(rows(4)), model(), SETTING, seeded("name"))


def test_an_analysis_that_has_no_price_is_refused() -> None:
    with pytest.raises(Refused):
        analysis_noise(SETTING, MOST_COLUMNS + 1)
