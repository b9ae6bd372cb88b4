"""What is said of a private plan before it runs: figures as others compute them, alternatives that really fit."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path

import dp_accounting
import msgspec
import numpy as np
import pytest
import torch
from dp_accounting.pld import PLDAccountant

from aimass.client.plan_check import (
    Case,
    case_of,
    cohort_noise,
    figure_of,
    noise_sentences,
    prices,
    round_noise,
    step_noise,
)
from aimass.client.plan_options import options
from aimass.client.plan_problems import problems
from aimass.client.plan_report import report, trial_shards
from aimass.client.synthetic import learnable_rows
from aimass.client.tasks.heart import task as heart
from aimass.privacy.dp.events import Unit
from aimass.proto.boosting import noise_of_trees
from aimass.proto.checks import State
from aimass.proto.errors import BadInput
from aimass.proto.plan import PlanDraft, TrainSettings, planned_rounds, read_plan_draft

ROWS = """
name = "rows"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 64
learning_rate = 0.3
steps = 5
weight = "one"
[evaluate]
every = 0
[privacy]
noise_multiplier = 4.0
clip = 1.0
sampling_rate = 0.1
divisor = 60
delta = 1e-4
[cohort]
quorum = 4
[[stages]]
driver = "averaging"
options = { rounds = 20 }
"""
NOISE = """
[secure]
min_cohort = 3
[secure.noise]
multiplier = 5.0
clip = 1.0
members = 4
delta = 1e-2
"""
PARTNERS = ROWS[: ROWS.index("[privacy]")] + NOISE + ROWS[ROWS.index("[cohort]") :]
BOTH = ROWS + NOISE
TREES = (
    PARTNERS[: PARTNERS.index("[secure.noise]")]
    + """
[cohort]
quorum = 4
[[stages]]
driver = "trees"
options = { rounds = 10, depth = 3, bins = 16, grid = 64, noise_multiplier = 10.0 }
"""
)
VOTES = PARTNERS.replace("members = 4", "members = 100\nadaptive = {}").replace("min_cohort = 3", "min_cohort = 90")
VOTES = VOTES.replace("quorum = 4", "quorum = 90").replace("1e-2", "1e-3")


def draft(text: str) -> PlanDraft:
    return read_plan_draft(text)


def case(text: str = ROWS, elements: int | None = 1_314) -> Case:
    return case_of(draft(text), elements)


def found(text: str, **more: int) -> dict[str, State]:
    looked = case_of(draft(text), more.pop("elements", 1_314), **more)
    return {finding.code: finding.state for finding in problems(looked)}


def test_what_a_plan_spends_is_what_the_library_says_and_so_is_how_many_rounds_fit() -> None:
    def epsilon(rounds: int) -> float:
        accountant = PLDAccountant()
        sampled = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(4.0 / 1.001))
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, 5 * rounds))
        return float(accountant.get_epsilon(1e-4))

    (price,) = prices(case(), 0.5)
    assert price.epsilon == pytest.approx(epsilon(20), abs=1e-3)
    assert price.one_round == pytest.approx(epsilon(1), abs=1e-3)
    assert price.rounds_that_fit is not None
    assert epsilon(price.rounds_that_fit) <= 0.5 < epsilon(price.rounds_that_fit + 1)
    assert (price.fits, price.each) == (False, "example")
    assert "at delta 0.0001 for one example, add or remove one, by privacy loss distributions" in price.figure


@pytest.mark.parametrize("depth", ["", "depth = 3,"])
def test_trees_with_noise_spend_a_gaussian_for_their_bins_and_for_each_level(depth: str) -> None:
    def epsilon(rounds: int, beside: int = 1) -> float:
        accountant, levels = PLDAccountant(), 3 if depth else 6
        accountant.compose(dp_accounting.GaussianDpEvent(10.0 / 1.001), beside + levels * rounds)
        return float(accountant.get_epsilon(1e-5))

    looked = case(TREES.replace("depth = 3,", depth))
    (price,) = prices(looked, 1.0)
    assert price.epsilon == pytest.approx(epsilon(10), rel=2e-3)
    assert price.one_round == pytest.approx(epsilon(1, beside=0), rel=2e-3)
    assert price.rounds_that_fit is not None
    assert epsilon(price.rounds_that_fit) <= 1.0 < epsilon(price.rounds_that_fit + 1)
    assert (price.fits, price.each, price.rounds) == (False, "example", 10)
    (noise,) = noise_sentences(looked)
    assert f"{1 + 10 * (3 if depth else 6)} such steps: one for the bins" in noise


def test_trees_are_offered_other_noise_on_their_own_lines() -> None:
    made = options(case(TREES), 1.0)
    assert [option.what.partition(",")[0] for option in made][:2] == ["the same noise", "the same rounds"]
    assert all(noise_of_trees(option.draft) > 10.0 for option in made[1:])
    for option in made:
        assert option.epsilon <= 1.0
        assert msgspec.convert(tomllib.loads(TREES) | tomllib.loads(option.toml), PlanDraft) == option.draft


def test_a_depth_that_cannot_be_read_has_no_price() -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        case(TREES.replace("depth = 3", 'depth = "deep"'))


def test_noise_for_rows_and_for_partners_is_priced_for_each() -> None:
    rows, partners = prices(case(BOTH), 50.0)
    assert (rows.each, partners.each) == ("example", "partner")
    assert partners.epsilon == pytest.approx(prices(case(PARTNERS))[0].epsilon)
    assert rows.epsilon > prices(case(ROWS))[0].epsilon  # both are debited: more than is spent, never less


def test_rows_of_a_partner_are_those_that_the_public_divisor_stands_for() -> None:
    assert case().units == 600
    person = ROWS.replace("[privacy]", '[privacy]\nunit = "person"\nrows_per_person = 3')
    assert (case(person).rows, case(person).units) == (1_800, 600)
    assert figure_of(case(person), case(person).terms[0]).terms.unit is Unit.PERSON


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 1), (0.0, 7), (0.9, 7)])
def test_the_noise_of_a_rounds_mean_is_that_of_the_optimiser_on_noise_alone(momentum: float, steps: int) -> None:
    train = TrainSettings(batch_size=1, learning_rate=0.3, steps=steps, momentum=momentum, weight="one")
    privacy = case().draft.privacy
    assert privacy is not None
    chance, size = torch.Generator().manual_seed(1), 100_000
    value = torch.zeros(size, requires_grad=True)
    optimizer = torch.optim.SGD([value], lr=0.3, momentum=momentum)
    for _ in range(steps):
        value.grad = step_noise(privacy) * torch.randn(size, generator=chance)
        optimizer.step()
    told = round_noise(privacy, train, 9)
    assert told == pytest.approx(float(value.detach().std()) / 3, rel=0.02)
    assert round_noise(privacy, msgspec.structs.replace(train, optimizer="adam"), 9) is None


def test_a_cohort_that_noise_destroys_is_told_plainly_with_the_figure() -> None:
    sizes = cohort_noise(case(PARTNERS))
    assert sizes is not None
    ratio = 5 / math.sqrt(4 * 2) * math.sqrt(1_314)  # two honest shares are in every sum of three of four
    assert sizes.own.ratio == pytest.approx(ratio)
    assert sizes.sentence() == (
        "with 4 partners the noise on each number is 64.1 times the update: this plan destroys it"
    )
    assert found(PARTNERS)["plan.signal"] is State.WARNING
    assert "plan.signal" not in found(PARTNERS.replace("multiplier = 5.0", "multiplier = 0.1"), elements=1)


@pytest.mark.parametrize(
    ("text", "code", "state", "more"),
    [
        (ROWS.replace("delta = 1e-4", "delta = 0.01"), "dp.delta", State.FAULT, {}),
        (ROWS, "dp.delta", State.FAULT, {"rows": 20_000}),
        (ROWS, "plan.divisor", State.WARNING, {"rows": 200}),
        (ROWS.replace("every = 0", "every = 1"), "plan.metrics", State.WARNING, {}),
        (ROWS.replace("[[stages]]", '[[stages]]\ndriver = "statistics"\n[[stages]]', 1), "plan.analyses", State.WARNING, {}),
        (PARTNERS.replace("min_cohort", "bits = 2\nmin_cohort"), "secagg.E_POLICY", State.FAULT, {"elements": 1 << 20}),
        (PARTNERS.replace("[cohort]", "[cohort]\nsample = 5"), "plan.members", State.FAULT, {}),
    ],
)  # fmt: skip
def test_what_stands_in_a_plans_way_is_found_by_name(text: str, code: str, state: State, more: dict[str, int]) -> None:
    assert found(text, **more)[code] is state


def test_a_plan_in_which_nothing_is_wrong_has_no_findings() -> None:
    assert found(ROWS) == {}


@pytest.mark.parametrize(
    ("text", "epsilon"), [(ROWS, 0.5), (ROWS, 1.2), (PARTNERS, 1.5), (PARTNERS, 20.0), (VOTES, 1.5), (VOTES, 20.0)]
)
def test_alternatives_fit_differ_and_leave_little_over_where_they_are_calibrated(text: str, epsilon: float) -> None:
    written = case(text)
    made = options(written, epsilon)
    assert 2 <= len(made) <= 3
    for option in made:
        assert option.draft != written.draft
        (price,) = prices(written.of(option.draft), epsilon)
        assert price.fits
        assert price.epsilon == option.epsilon
        if "noise" in option.what.partition(",")[2]:
            assert option.epsilon > 0.99 * epsilon


def test_fewer_rounds_more_noise_and_a_smaller_rate_are_offered_with_lines_that_make_their_plans() -> None:
    made = options(case(), 0.5)
    told = [option.what.partition(",")[0] for option in made]
    assert told == ["the same noise", "the same rounds", "half the sampling rate"]
    first, second, third = (option.draft for option in made)
    assert planned_rounds(first) < 20 == planned_rounds(second)
    assert second.privacy is not None
    assert third.privacy is not None
    assert second.privacy.noise_multiplier > third.privacy.noise_multiplier > 4
    for option in made:
        plan, lines = tomllib.loads(ROWS), tomllib.loads(option.toml)
        for table in ("train", "privacy"):
            plan[table] |= lines.get(table, {})
        plan["stages"] = lines.get("stages", plan["stages"])
        assert msgspec.convert(plan, PlanDraft) == option.draft


def test_a_plan_that_spends_what_it_may_is_offered_other_shapes_and_not_itself_again() -> None:
    (price,) = prices(case(PARTNERS))
    told = [option.what.partition(",")[0] for option in options(case(PARTNERS), price.epsilon)]
    assert told == ["half the rounds (10)", "twice the rounds (40)"]


def test_of_few_rows_a_trial_has_fewer_partners_and_says_so(tmp_path: Path) -> None:
    shards, where = trial_shards(case(), heart.schema, 3, None)
    assert [len(shard.train.labels) for shard in shards] == [600] * 3
    assert where == "synthetic rows: 3 partners of 600 training rows"
    batch = learnable_rows(heart.schema, 800, 1).numbers[:, 0]
    names = [column.name for column in (*heart.schema.columns, heart.schema.label)]
    rows = "".join(f"{int(abs(np.nan_to_num(age)))}{',' * 12},yes\n" for age in batch)
    (tmp_path / "few.csv").write_text(",".join(names) + "\n" + rows)
    (one,), where = trial_shards(case(), heart.schema, 3, tmp_path / "few.csv")
    assert len(one.train.labels) == 640
    assert where == "few.csv: 1 partner of 640 training rows"
    with pytest.raises(BadInput, match="too few rows"):
        (tmp_path / "few.csv").write_text(",".join(names) + "\n" + rows[: rows.index("\n") + 1])
        trial_shards(case(), heart.schema, 3, tmp_path / "few.csv")


def test_where_nothing_can_fit_nothing_is_offered() -> None:
    assert (
        options(case(PARTNERS.replace("min_cohort", "bits = 6\nmin_cohort").replace("1e-2", "1e-6"), 1 << 20), 1e-2)
        == ()
    )


@pytest.mark.parametrize(
    "text",
    [ROWS[: ROWS.index("[privacy]")] + ROWS[ROWS.index("[cohort]") :], TREES.replace("= 10.0", "= 0")],
)
def test_a_plan_that_protects_nobody_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match="no differential privacy"):
        case(text)


def test_a_report_is_whole_and_says_whether_the_plan_fits() -> None:
    told = report(draft(ROWS), 0.5, None, None)
    assert not told.fits
    assert (told.case.elements, len(told.options)) == (1_314, 3)
    assert dataclasses.replace(told, prices=prices(told.case, 1.0)).fits
    assert not report(draft(PARTNERS.replace("[cohort]", "[cohort]\nsample = 5")), 50.0, None, None).fits


def test_of_a_task_that_is_not_here_the_figures_are_told_all_the_same() -> None:
    told = report(draft(PARTNERS.replace('task = "heart"', 'task = "elsewhere"')), None, None, None)
    assert told.task is None
    assert [finding.code for finding in told.findings] == ["task.unknown"]
    assert np.isfinite(told.prices[0].epsilon)
