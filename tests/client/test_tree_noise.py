"""Histograms of trees with noise: what one row adds is bounded, the noise is what is stated, and a ledger pays for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.budget import Budgets
from aimass.client.policy import Admit, DataBudget, Refuse, decide, read_policy, rules
from aimass.client.release import Facts, release
from aimass.client.shards import Shard
from aimass.client.trainee import Trainee
from aimass.client.trees import counted, derivatives, grounded, noisy, summed
from aimass.client.worker_protocol import order_of
from aimass.privacy.dp.events import Gaussian, Unit
from aimass.privacy.dp.private_terms import planned_events, step_events, tree_noise
from aimass.proto.boosting import Boosting, BoostingOptions, boosting_of, noise_of_trees
from aimass.proto.clock import SystemClock
from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Number, Schema
from aimass.proto.plan import DistributedNoise, Plan, PrivacySettings, Stage
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.trees import Objective, encode
from aimass.server.simulation.partner import open_policy
from tests.client.test_tree_attacks import TWO
from tests.support.boosting import SCHEMA, SECURE, Grove, chance, dealt, grow, plan_of
from tests.support.noise import seeded

PLAN = plan_of(Grove(), secure=SECURE, rounds=5, depth=3, bins=8, grid=64, noise_multiplier=12.0)
STEP = Step(
    index=0, kind=StepKind.ANALYSE, purpose="trees", round=0, participants=("a",), inputs=("1" * 64,), quorum=1,
    deadline_s=1.0,
)  # fmt: skip


def _boosting(labels: int, noise: float = 1.0) -> Boosting:
    options = BoostingOptions(rounds=1, depth=2, bins=8, grid=64, noise_multiplier=noise)
    return Boosting(schema=TWO if labels == 2 else SCHEMA, options=options)


def _sums(boosting: Boosting, rows: Batch, base: list[float], level: int | None) -> np.ndarray:
    """All numbers of a step: of the counts, or of a level whose node all rows are in."""
    if level is None:
        made = counted(boosting, rows)
    else:
        task = Grove(boosting.schema)
        model = dataclasses.replace(task.empty(), base=np.array(base, np.float32))
        edges = Blob(encode_numpy({"edges": np.ascontiguousarray(boosting.grid()[:, ::8])}))
        made = summed(grounded(boosting, rows, (Blob(encode(model)), edges)), (), bytes(16))
    return np.concatenate([tensor.reshape(-1) for tensor in made.groups["trees"].tensors.values()])


Margins = st.lists(st.floats(-30, 30), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(Margins, st.integers(0, 39), st.sampled_from([2, 3]), st.sampled_from([0, None]))
def test_no_row_adds_more_than_its_norm(base: list[float], row: int, labels: int, level: int | None) -> None:
    boosting, rows = _boosting(labels), chance(40, 7, labels=labels)
    outputs = 1 if labels == 2 else 3
    whole = _sums(boosting, rows, base[:outputs], level)
    without = _sums(boosting, rows.take(np.arange(40) != row), base[:outputs], level)
    norm = float(np.linalg.norm(whole - without))
    noise = tree_noise(boosting, outputs, level)
    assert norm <= noise.clip * (1 + noise.slack)
    if level is None and not np.isnan(rows.numbers[row]).any():
        assert norm == pytest.approx(noise.clip)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-12, 12), min_size=3, max_size=3), st.integers(0, 2))
def test_derivatives_of_a_row_have_a_norm_of_two_at_most_and_of_one_output_of_one(
    margin: list[float], label: int
) -> None:
    gradients, hessians = derivatives(Objective.SOFTMAX, np.array([margin]), np.array([label]))
    assert (gradients**2 + hessians**2).sum() <= 2 + 1e-9
    gradients, hessians = derivatives(Objective.LOGISTIC, np.array([margin[:1]]), np.array([label % 2]))
    assert (gradients**2 + hessians**2).sum() <= 1 + 1e-9


def test_a_row_that_the_model_is_wrong_about_reaches_its_norm() -> None:
    for labels, base in ((2, [-30.0]), (3, [0.0, -30.0, -30.0])):
        boosting, rows = _boosting(labels), chance(40, 7, labels=labels)
        row = int(np.flatnonzero(rows.labels == 1)[0])
        whole, rest = (_sums(boosting, part, base, 0) for part in (rows, rows.take(np.arange(40) != row)))
        assert np.linalg.norm(whole - rest) == pytest.approx(boosting.row_norm(len(base), 0), rel=1e-4)


def test_the_noise_has_the_deviation_that_is_stated_on_every_number() -> None:
    boosting = _boosting(3, noise=12.0)
    shapes = boosting.shapes(3, 1)
    zeros = {name: np.zeros(shape) for name, (_, shape) in shapes.items()}
    made = Contribution({"trees": Group(1.0, zeros)}, {}, {})
    noise = tree_noise(boosting, 3, 1)
    found = noisy(made, noise, Objective.SOFTMAX, seeded(3)).groups["trees"].tensors
    assert set(found) == {"gradients", "hessians"}
    for sums in found.values():
        assert sums.std() == pytest.approx(12.0 * np.sqrt(2 * 4), rel=0.1)
    with pytest.raises(BadInput, match="without a bound"):
        noisy(made, noise, Objective.SQUARED_ERROR, seeded(3))


def test_the_gate_lets_out_noised_counts_as_they_are_and_none_that_say_they_are_not() -> None:
    shard = Shard("a", chance(60, 1), chance(60, 2))
    done = Trainee(Grove()).do(order_of(PLAN, STEP, "a"), shard, [Blob(Grove().first(0))], b"")
    assert done.private_steps == 1
    grid = done.contribution.groups["trees"].tensors["grid"]
    assert (grid != np.rint(grid)).all()
    plain = msgspec.structs.replace(PLAN, secure=None)
    policy = read_policy(open_policy(plain), "the policy")
    layout = Blob(Grove().first(0)).layout

    def left(steps: int) -> Contribution:
        data, facts = memoryview(done.contribution.encode()), Facts(accounted=True)
        freed = release(data, plain, STEP, layout, policy, facts=facts, private_steps=steps)
        assert freed.mechanisms[0] == "noised histograms of trees (noise 12)"
        assert not freed.repeatable
        return decode_contribution(Blob(b"".join(freed.parts)))

    assert (left(1).groups["trees"].tensors["grid"] == grid).all()
    with pytest.raises(Refused) as error:
        left(0)
    assert error.value.code == "release.private"


def test_a_ledger_pays_for_each_level_and_for_the_counts(tmp_path: Path) -> None:
    (event,) = step_events(PLAN, StepKind.ANALYSE, 0, 0, purpose="trees")
    assert event.unit is Unit.EXAMPLE
    assert isinstance(event.mechanism, Gaussian)
    for boosting, level in ((boosting_of(PLAN), None), (boosting_of(PLAN), 2)):
        assert event.mechanism.sigma <= tree_noise(boosting, 3, level).accounted
    assert event.mechanism.sigma == pytest.approx(12.0, rel=1e-3)
    planned = list(planned_events(PLAN, 0, 0))
    assert [one.times for one in planned] == [1 + 5 * 3]
    policy = msgspec.structs.replace(
        read_policy(open_policy(PLAN), "the policy"),
        budgets=(DataBudget(data_set="ward", epsilon=2.0, delta=1e-5),),
    )
    budgets = Budgets(tmp_path / "ledgers", UNINTERRUPTED, SystemClock())
    budgets.check(policy, "ward", PLAN, 1_000, {})
    with pytest.raises(Refused):
        budgets.check(policy, "ward", _with(PLAN, noise_multiplier=2.0), 1_000, {})
    debit = budgets.debit(policy, "ward", PLAN, "ab" * 16, STEP, 0, 1_000)
    assert debit is not None
    assert debit.private
    debit.settle(1, "1" * 64)
    budgets.close()


@pytest.mark.parametrize("rows", [0.5, 0.999])
def test_a_partner_draws_no_rows_where_there_is_noise_whatever_a_server_asks(rows: float) -> None:
    """One row more draws others: what moves is many times the norm that the noise is for."""
    drawn = msgspec.structs.replace(
        _boosting(2), options=BoostingOptions(rounds=1, depth=2, bins=8, grid=64, subsample=rows)
    )
    found = chance(2_000, 7, labels=2)
    whole, rest = (_sums(drawn, part, [0.0], 0) for part in (found, found.take(np.arange(2_000) != 3)))
    noise = tree_noise(_boosting(2), 1, 0)
    assert np.linalg.norm(whole - rest) > 1.2 * noise.clip
    with pytest.raises(BadInput, match="takes all"):
        order_of(_with(PLAN, subsample=rows), STEP, "a")
    order_of(_with(PLAN, subsample=rows, noise_multiplier=0.0), STEP, "a")


def test_a_partner_orders_no_noise_for_a_label_that_is_a_number() -> None:
    days = Schema(name="stay/1", columns=SCHEMA.columns, label=Number(name="days", minimum=0, maximum=60))
    with pytest.raises(BadInput, match="category"):
        order_of(msgspec.structs.replace(PLAN, schema=days, data_schema=days.name), STEP, "a")


def _with(plan: Plan, **options: Any) -> Plan:
    (stage,) = plan.stages
    return msgspec.structs.replace(plan, stages=(msgspec.structs.replace(stage, options={**stage.options, **options}),))


@pytest.mark.parametrize(
    ("unit", "noise", "smallest", "code"),
    [
        ("example", 12.0, 0.0, None),
        ("example", 12.0, 12.5, "policy.noise_multiplier"),
        ("example", 0.0, 0.0, "policy.privacy"),
        ("person", 12.0, 0.0, "policy.privacy"),
        ("partner", 12.0, 0.0, "policy.privacy"),
    ],
)
def test_a_data_set_with_a_budget_for_rows_lets_trees_with_noise_in(
    unit: str, noise: float, smallest: float, code: str | None
) -> None:
    policy = read_policy(
        open_policy(PLAN) + f"[bounds]\nsmallest_noise = {smallest}\n"
        f'[[budgets]]\ndata_set = "ward"\nepsilon = 8.0\ndelta = 1e-5\nunit = "{unit}"\n',
        "the policy",
    )
    found = decide(policy, _with(PLAN, noise_multiplier=noise), 3, frozenset())
    assert isinstance(found, Admit) if code is None else (isinstance(found, Refuse) and found.code == code)


@pytest.mark.parametrize(
    ("beside", "noise", "code"),
    [
        ("averaging", None, "policy.privacy"),
        ("averaging", 9.0, None),
        ("statistics", None, None),
    ],
)
def test_noise_on_trees_does_not_stand_for_a_network_that_the_plan_trains_too(
    beside: str, noise: float | None, code: str | None
) -> None:
    """No honest server begins such a plan; one that is not would have its partners fail step by step."""
    privacy = noise and PrivacySettings(noise_multiplier=noise, clip=1.0, sampling_rate=0.1, divisor=60, delta=1e-5)
    stages = (*PLAN.stages, Stage(driver=beside, options={"rounds": 1}))
    plan = msgspec.structs.replace(PLAN, stages=stages, privacy=privacy)
    budget = '[[budgets]]\ndata_set = "ward"\nepsilon = 8.0\ndelta = 1e-5\n'
    found = decide(read_policy(open_policy(PLAN) + budget, "the policy"), plan, 3, frozenset())
    assert isinstance(found, Admit) if code is None else (isinstance(found, Refuse) and found.code == code)


@pytest.mark.parametrize(("noise", "holds"), [(12.0, True), (2.0, False), (0.0, False)])
def test_noise_beside_trees_does_not_stand_for_theirs(noise: float, holds: bool) -> None:
    """Of a plan that adds noise to surveys, or inside sums of updates, trees may have less, or none."""
    beside = DistributedNoise(multiplier=12.0, clip=1.0, delta=1e-5, members=10)
    plan = msgspec.structs.replace(PLAN, secure=msgspec.structs.replace(SECURE, noise=beside))
    policy = read_policy(open_policy(PLAN) + "[bounds]\nsmallest_noise = 10.0\n", "the policy")
    (rule,) = (
        one
        for one in rules(policy, _with(plan, noise_multiplier=noise), 3, frozenset())
        if one.name == "noise_multiplier"
    )
    assert rule.holds is holds


def test_a_plan_says_its_noise() -> None:
    assert noise_of_trees(PLAN) == 12.0
    assert noise_of_trees(plan_of(Grove(), rounds=1)) == 0.0


def test_noise_that_drowns_the_rows_makes_a_model_all_the_same(tmp_path: Path) -> None:
    task = Grove(TWO)
    plan = plan_of(task, noise_multiplier=200.0, rounds=12, depth=2, bins=4, grid=16, min_child_weight=20.0)
    model = grow(plan, task, dealt(chance(60, 3, labels=2), 3), tmp_path)
    assert len(model.trees) == 12
    assert min(tree.cover.min() for tree in model.trees) == 0.0, "some sum of Hessians was below 0"


def test_trees_that_are_grown_by_noised_sums_learn_all_the_same(tmp_path: Path) -> None:
    task = Grove(TWO)
    rows = chance(20_000, 3, labels=2)
    options: dict[str, Any] = {"rounds": 6, "depth": 2, "bins": 8, "grid": 64, "min_child_weight": 100.0}
    model = grow(plan_of(task, rate=0.5, noise_multiplier=10.0, **options), task, dealt(rows, 3), tmp_path, least=5)
    ages = {round(float(tree.threshold[0])) for tree in model.trees if tree.feature[0] == 0}
    assert ages, "what follows an age of 55 the most"
    assert min(abs(age - 55) for age in ages) <= 8
