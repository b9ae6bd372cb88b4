"""A survey of a partner's rows: one row changes its numbers by no more than they have noise for, and has its price."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.surveys import surveyed, surveyed_privately
from aimass.client.tasks.heart import task
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of, survey_in
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Gaussian, Terms, Unit
from aimass.privacy.dp.private_terms import analysis_events, planned_events, step_events, survey_noise
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import AnalysisNoise, Plan
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.surveys import MOST_CELLS, SURVEYS, Survey, SurveyOptions, survey_of
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.noise import seeded
from tests.support.patients import shard_of
from tests.support.surveys import SCHEMA, batch, plan_of, private

SETTING = AnalysisNoise(noise_multiplier=2.0)
ASKED = [(name, False) for name in SURVEYS] + [("quantiles", True)]
CHOSEN = Blob(encode_numpy({"bins": np.array([[7.0, 7.0, 8.0], [0.0, 10.0, 19.0]])}))


def survey(name: str, *, refined: bool = False) -> Survey:
    return survey_of(plan_of(name, **({"refine": True} if refined else {})), name, refined=refined)


def vector(made: Contribution) -> npt.NDArray[np.float64]:
    (group,) = made.groups.values()
    return np.concatenate(list(group.tensors.values()))


def less(rows: Batch) -> Batch:
    """The same without the first row."""
    return Batch(rows.numbers[1:], rows.categories[1:], None, rows.labels[1:])


@pytest.mark.parametrize(("name", "refined"), ASKED)
@settings(max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_one_row_changes_a_survey_by_no_more_than_its_row_norm(name: str, refined: bool, seed: int, wild: bool) -> None:
    asked, rows = survey(name, refined=refined), batch(9, seed)
    if wild:  # beyond the schema's bounds, whatever let it through
        rows.numbers[0] = np.random.default_rng(seed).choice([-1e30, 1e30, np.inf, -np.inf], 2)
    chosen = CHOSEN if refined else None
    whole, part = (vector(surveyed(asked, some, chosen)) for some in (rows, less(rows)))
    assert float(np.linalg.norm(whole - part)) <= asked.row_norm + 1e-9
    # Under one stream both have the same noise, so what is left is what the row did, and the rounding to the grid.
    stream = (vector(surveyed_privately(asked, some, SETTING, seeded("row"), chosen)) for some in (rows, less(rows)))
    noise = survey_noise(SETTING, asked)
    moved = float(np.linalg.norm(np.subtract(*stream)))
    assert moved <= noise.clip + 2 * math.sqrt(asked.cells) * noise.step


@pytest.mark.parametrize(("name", "refined"), ASKED)
def test_a_row_that_counts_everywhere_reaches_the_row_norm(name: str, refined: bool) -> None:
    """The bound is no larger than it has to be: noise is a multiple of it."""
    asked = survey(name, refined=refined)
    low = np.array([[column.minimum for column in SCHEMA.numbers]], np.float32)
    chosen = Blob(encode_numpy({"bins": np.zeros((2, 3))})) if refined else None
    made = vector(surveyed(asked, Batch(low, np.zeros((1, 2), np.int64), None, np.zeros(1, np.int64)), chosen))
    assert float(np.linalg.norm(made)) == pytest.approx(asked.row_norm)


@pytest.mark.parametrize(("name", "refined"), ASKED)
def test_the_noise_of_a_survey_is_a_multiple_of_its_row_norm(name: str, refined: bool) -> None:
    asked, rows, stream = survey(name, refined=refined), batch(50, 1), seeded("moments", name, refined)
    chosen = CHOSEN if refined else None
    exact = vector(surveyed(asked, rows, chosen))
    drawn = np.stack([vector(surveyed_privately(asked, rows, SETTING, stream, chosen)) for _ in range(80)]) - exact
    chi_square = float((drawn**2).sum()) / (2.0 * asked.row_norm) ** 2
    assert abs(chi_square - drawn.size) < 5 * math.sqrt(2 * drawn.size)


def test_a_survey_costs_a_gaussian_of_no_more_noise_than_it_has_as_often_as_it_is_asked() -> None:
    for name in SURVEYS:
        plan = private(plan_of(name), 4.0)
        (event,) = step_events(plan, StepKind.ANALYSE, None, 1, purpose=name)
        assert isinstance(event.mechanism, Gaussian)
        assert (event.unit, event.times) == (Unit.EXAMPLE, 1)
        accounted = survey_noise(AnalysisNoise(noise_multiplier=4.0), survey(name)).accounted
        assert 3.99 < event.mechanism.sigma <= accounted
    twice = private(plan_of("quantiles", refine=True), 4.0)
    assert [event.times for event in planned_events(twice, None, 1)] == [2]
    assert [event.times for event in analysis_events(twice)] == [2]
    assert analysis_events(private(plan_of("averaging", rounds=9), 4.0)) == ()
    cost = Accountant().figure(Terms.usual(Unit.EXAMPLE, 1e-5), planned_events(twice, None, 1))
    # Two Gaussians of 4 are one of 4 / sqrt(2): the library's own figure for it.
    one = private(plan_of("counts"), 4.0 / math.sqrt(2))
    oracle = Accountant().figure(Terms.usual(Unit.EXAMPLE, 1e-5), planned_events(one, None, 1))
    assert cost.epsilon == pytest.approx(oracle.epsilon, rel=2e-3)


def test_a_survey_of_more_numbers_than_have_a_price_is_refused() -> None:
    shares = ", ".join(f"{share / 50}" for share in range(1, 50))
    large = Survey(
        name="quantiles", schema=SCHEMA, options=SurveyOptions(bins=1000, quantiles=shares), refined=True
    )  # fmt: skip
    assert large.cells > MOST_CELLS
    with pytest.raises(Refused):
        survey_noise(SETTING, large)


def test_nothing_finer_than_the_plans_bins_is_divided() -> None:
    asked, rows = survey("quantiles", refined=True), batch(9, 0)
    for bins in (np.full((2, 3), 20.0), np.full((2, 3), 0.5), np.full((2, 3), -1.0), np.zeros((2, 4)), np.zeros(6)):
        with pytest.raises(BadInput) as refused:
            surveyed(asked, rows, Blob(encode_numpy({"bins": bins})))
        assert refused.value.code == "trainer.bins"
    with pytest.raises(BadInput):
        surveyed(asked, rows, None)


def test_bins_to_divide_are_refused_where_the_plan_refines_none() -> None:
    """The server chooses them, and less noise is enough for the second step of quantiles, which counts a row once."""
    step = Step(
        index=0, kind=StepKind.ANALYSE, purpose="quantiles", round=0, participants=("a",), inputs=("0" * 64, "1" * 64),
        quorum=1, deadline_s=1.0,
    )  # fmt: skip
    asked = survey_in(plan_of("quantiles", refine=True), step)
    assert asked is not None
    assert asked.refined
    for name in SURVEYS:
        with pytest.raises(BadInput) as refused:
            survey_in(plan_of(name), msgspec.structs.replace(step, purpose=name))
        assert refused.value.code == "plan.refine"


def test_a_child_surveys_the_columns_of_its_own_task_alone() -> None:
    plan = plan_of("counts")
    heart = msgspec.structs.replace(plan, schema=task.schema, data_schema="heart/1")
    step = Step(
        index=0, kind=StepKind.ANALYSE, purpose="counts", round=0, participants=("a",), inputs=("0" * 64,), quorum=1,
        deadline_s=1.0,
    )  # fmt: skip
    model, trainee, shard = Blob(encode_numpy({"w": np.zeros(1)})), Trainee(task), shard_of([2, 3])
    done = trainee.do(order_of(heart, step, "a"), shard, [model], b"")
    assert done.contribution.groups["counts"].tensors["numbers"].tolist() == [5.0, 0.0] * len(task.schema.numbers)
    assert done.private_steps == 0
    assert trainee.do(order_of(_private(heart), step, "a"), shard, [model], b"").private_steps == 1
    with pytest.raises(BadInput) as refused:
        trainee.do(order_of(plan, step, "a"), shard, [model], b"")
    assert refused.value.code == "trainer.schema"


def _private(plan: Plan) -> Plan:
    return private(plan, 1.0)
