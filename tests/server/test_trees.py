"""Boosted trees against XGBoost's `hist` on the pooled rows with the same bins; and the driver's own rules."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import xgboost

from aimass.client.shards import Shard
from aimass.client.tasks.digits import task as digits
from aimass.client.tasks.heart import trees as heart
from aimass.proto.boosting import boosting_of, options_of
from aimass.proto.compression import Compress
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import (
    AnalysisNoise,
    Cohort,
    DistributedNoise,
    EarlyStop,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TrainSettings,
    planned_steps,
)
from aimass.proto.rows import Batch
from aimass.proto.step import Step, StepKind
from aimass.proto.task import auc
from aimass.proto.tensors import Blob, encode_numpy, read_layout
from aimass.proto.tree_scores import features, leaves, margins
from aimass.proto.trees import LEAF, Ensemble, Objective, encode
from aimass.server.drivers.base import Context, Sums
from aimass.server.drivers.tree_bins import chosen_edges
from aimass.server.drivers.trees import driver
from tests.support.boosting import (
    SCHEMA,
    SECURE,
    Grove,
    chance,
    dealt,
    edges_of,
    grow,
    hospitals,
    plan_of,
    pooled,
)

TWO = msgspec.structs.replace(SCHEMA, label=Category(name="outcome", values=("no", "yes"), required=True))


def _boosted(plan: Plan, rows: Batch, edges: np.ndarray[Any, Any], model: Ensemble, rounds: int) -> xgboost.Booster:
    """XGBoost's on the bins' numbers in the place of the values, so that its own bins are the same ones."""
    boosting, options = boosting_of(plan), boosting_of(plan).options
    values = features(rows)
    values[:, : len(edges)] = np.where(np.isnan(rows.numbers), np.nan, boosting.binned(rows.numbers, edges))
    kinds = ["c" if size else "q" for size in model.sizes]
    data = xgboost.QuantileDMatrix(
        values, label=rows.labels, feature_types=kinds, enable_categorical=True, max_bin=1_024, nthread=1
    )
    base = model.base.astype(np.float64)
    settings: dict[str, Any] = {
        "objective": model.objective.value, "tree_method": "hist", "max_bin": 1_024, "nthread": 1,
        "max_depth": options.depth, "eta": plan.train.learning_rate, "lambda": options.penalty, "gamma": options.gamma,
        "min_child_weight": options.min_child_weight,
    }  # fmt: skip
    match model.objective:
        case Objective.LOGISTIC:
            settings["base_score"] = float(1 / (1 + np.exp(-base[0])))
        case Objective.SQUARED_ERROR:
            settings["base_score"] = float(base[0])
        case Objective.SOFTMAX:
            settings["num_class"] = len(base)
            data.set_base_margin(np.tile(base, (len(rows.labels), 1)))
    return xgboost.train(settings, data, rounds)


def _check_same(
    plan: Plan, model: Ensemble, rows: Batch, edges: np.ndarray[Any, Any], booster: xgboost.Booster
) -> None:
    """Every node splits by the same column and edge, sends what is missing and every row the same way, and gains and
    adds the same. Categories that no row of a node has may lie on either side."""
    found = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    assert len(found) == len(model.trees)
    values, boosting = features(rows), boosting_of(plan)
    binned = values.copy()
    binned[:, : len(edges)] = np.where(np.isnan(rows.numbers), np.nan, boosting.binned(rows.numbers, edges))
    data = xgboost.DMatrix(binned, feature_types=["c" if s else "q" for s in model.sizes], enable_categorical=True)
    reached, ends = leaves(model, values), booster.predict(data, pred_leaf=True).reshape(len(values), -1).T
    for number, (ours, theirs) in enumerate(zip(model.trees, found, strict=True)):
        feature = np.where(np.array(theirs["left_children"]) < 0, LEAF, theirs["split_indices"])
        assert ours.feature.tolist() == feature.tolist()
        splits = feature != LEAF
        assert ours.default_left[splits].tolist() == np.array(theirs["default_left"], bool)[splits].tolist()
        for node in np.flatnonzero(splits & (feature < len(edges))):
            edge = min(int(theirs["split_conditions"][node]), edges.shape[1] - 1)  # its last one is far beyond
            threshold = edges[feature[node], edge]
            assert (ours.threshold[node], node) == (threshold, node)
        assert (reached[number] == ends[number]).all()
        np.testing.assert_allclose(ours.value[~splits], np.array(theirs["split_conditions"])[~splits], 1e-4, 1e-6)
        np.testing.assert_allclose(ours.gain[splits], np.array(theirs["loss_changes"])[splits], 1e-4, 1e-4)


def _check_oracle(plan: Plan, task: Any, shards: Sequence[Shard], folder: Path, rounds: int = 3) -> None:
    steps: list[Step] = []
    model = grow(plan, task, shards, folder, seen=lambda step, _: steps.append(step))
    rows, edges = pooled([shard.train for shard in shards]), edges_of(folder, steps)
    booster = _boosted(plan, rows, edges, model, rounds)
    _check_same(plan, model, rows, edges, booster)
    assert len(model.trees) == rounds * len(model.base)


def test_the_first_three_trees_of_four_hospitals_are_xgboosts_on_their_pooled_rows_split_by_split(
    tmp_path: Path,
) -> None:
    _check_oracle(plan_of(heart, rounds=3, depth=6, bins=64), heart, hospitals(), tmp_path)


@pytest.mark.parametrize("options", [{"penalty": 0.1}, {"gamma": 3.0}, {"min_child_weight": 8.0}, {"bins": 4}])
def test_so_they_are_under_other_penalties(options: dict[str, Any], tmp_path: Path) -> None:
    task = Grove(TWO)
    _check_oracle(plan_of(task, rounds=3, depth=4, **options), task, dealt(chance(600, 3, labels=2), 3), tmp_path)


@pytest.mark.parametrize("objective", [Objective.SOFTMAX, Objective.SQUARED_ERROR])
def test_so_they_are_of_three_labels_and_of_the_squared_error(objective: Objective, tmp_path: Path) -> None:
    task = Grove(SCHEMA, objective if objective is Objective.SQUARED_ERROR else None)
    _check_oracle(plan_of(task, rounds=3, depth=4, bins=32), task, dealt(chance(600, 4), 4), tmp_path)


def _stays() -> tuple[Grove, Batch]:
    """A label that is a number: days of stay."""
    rows = chance(600, 5)
    days = 3.0 * rows.labels + np.random.default_rng(6).gamma(2.0, 2.0, len(rows.labels))
    label = Number(name="days", minimum=0, maximum=60)
    return Grove(Schema(name="stay/1", columns=SCHEMA.columns, label=label)), dataclasses.replace(rows, labels=days)


def test_so_they_are_of_a_number_also_in_secret_and_begin_at_its_mean(tmp_path: Path) -> None:
    task, rows = _stays()
    plain, secret = (plan_of(task, secure=secure, rounds=3, depth=4, bins=32) for secure in (None, SECURE))
    _check_oracle(plain, task, dealt(rows, 4), tmp_path)
    model = grow(plain, task, dealt(rows, 4), tmp_path)
    assert encode(grow(secret, task, dealt(rows, 7), tmp_path)) == encode(model)
    assert model.base == pytest.approx([rows.labels.mean()], abs=60 / 4096)


def test_the_mean_of_a_number_is_about_right_where_small_counts_stay(tmp_path: Path) -> None:
    task, rows = _stays()
    model = grow(plan_of(task, rounds=1, depth=2, bins=8), task, dealt(rows, 4), tmp_path, least=10)
    assert model.base == pytest.approx([rows.labels.mean()], abs=0.5)


def test_however_the_rows_are_dealt_and_in_secret_too_the_model_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    rows = pooled([shard.train for shard in hospitals()])
    options: dict[str, Any] = {"rounds": 2, "depth": 4, "bins": 32}
    plain, secret = (plan_of(heart, secure=secure, **options) for secure in (None, SECURE))
    ways = [
        (plain, hospitals()),
        (plain, dealt(rows, 10)),
        (plain, dealt(rows, 1)),
        (secret, hospitals()),
        (secret, dealt(rows, 10)),
    ]
    made = {encode(grow(plan, heart, shards, tmp_path)) for plan, shards in ways}
    assert len(made) == 1


def test_it_stops_early_with_the_trees_of_the_best_round_on_held_out_rows(tmp_path: Path) -> None:
    rule = EarlyStop(metric="loss", mode="min", patience=2)
    options: dict[str, Any] = {"rate": 1.0, "rounds": 9, "depth": 4, "bins": 16}
    shards = hospitals(0.3)
    stopped, whole = (
        grow(plan_of(heart, early_stop=stop, **options), heart, shards, tmp_path) for stop in (rule, None)
    )
    rows = pooled([shard.held_out for shard in shards])
    losses = []
    for kept in range(1, len(whole.trees) + 1):
        margin = margins(_first_trees(whole, kept), features(rows))[:, 0]
        losses.append(np.logaddexp(0, np.where(rows.labels == 1, -margin, margin)).mean())
    best = next(at for at, loss in enumerate(losses) if loss < min(losses[at + 1 : at + 3]))
    assert best + 3 < len(whole.trees)
    assert encode(stopped) == encode(_first_trees(whole, best + 1))


def _first_trees(model: Ensemble, kept: int) -> Ensemble:
    """Its first trees alone."""
    return Ensemble(model.objective, model.base, model.sizes, model.trees[:kept])


def test_who_drops_out_in_the_middle_of_a_tree_is_missed_and_stops_nobody(tmp_path: Path) -> None:
    counted = []
    plan = plan_of(heart, rounds=2, depth=3, bins=16)
    model = grow(
        plan, heart, hospitals(), tmp_path,
        seen=lambda _, sums: counted.append(sums.total("trees", "rows").sum() if "rows" in sums.tensors("trees") else 0),
        absent=lambda step: "hungarian" if step.index == 2 else "",
    )  # fmt: skip
    assert [tree.depth for tree in model.trees] == [3, 3]
    assert counted[2] < counted[1] == counted[3] == counted[4]


def test_rows_that_are_not_drawn_count_in_no_level_of_their_round(tmp_path: Path) -> None:
    counted = []
    plan = plan_of(heart, rounds=2, depth=3, bins=16, subsample=0.5)
    grow(
        plan, heart, hospitals(), tmp_path,
        seen=lambda step, sums: counted.append(sums.total("trees", "rows")[:, :17].sum()) if step.round else None,
    )  # fmt: skip
    rows = sum(len(shard.train.labels) for shard in hospitals())
    assert counted[0] == counted[1] == counted[2] != counted[3]
    assert all(0.4 * rows < count < 0.6 * rows for count in counted)


def test_small_counts_stay_and_the_model_is_about_as_good(tmp_path: Path) -> None:
    smallest = []

    def seen(_: Step, sums: Any) -> None:
        for name in sums.tensors("trees"):
            if name != "labels" and name in ("grid", "rows"):
                found = sums.total("trees", name)
                smallest.append(found[found > 0].min())

    shards = hospitals(0.3)
    plan = plan_of(heart, rounds=4, depth=3, bins=32)
    few, all_ = (grow(plan, heart, shards, tmp_path, least, seen) for least in (5, 1))
    assert min(smallest[:13]) >= 5
    assert min(smallest[13:]) == 1
    rows = pooled([shard.held_out for shard in shards])
    areas = [auc(margins(model, features(rows))[:, 0], rows.labels == 1) or 0.0 for model in (few, all_)]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)


def test_a_lie_in_a_sum_is_found_by_the_sum(tmp_path: Path) -> None:
    class Lying(Sums):
        """Of a partner that counts a row twice in one column, as lanes would have it added."""

        def __init__(self, sums: Sums) -> None:
            self._sums = sums

        def weight(self, group: str) -> float:
            return self._sums.weight(group)

        def tensors(self, group: str) -> Collection[str]:
            return self._sums.tensors(group)

        def total(self, group: str, tensor: str) -> np.ndarray[Any, Any]:
            total = self._sums.total(group, tensor).copy()
            total[0, -1] += tensor == "rows"
            return total

    with pytest.raises(BadInput, match="do not sum"):
        grow(plan_of(heart, rounds=1, depth=2, bins=8), heart, hospitals(), tmp_path, changed=Lying)


STEP = Step(
    index=0,
    kind=StepKind.ANALYSE,
    purpose="trees",
    round=1,
    participants=("a",),
    inputs=("1" * 64,) * 2,
    quorum=1,
    deadline_s=1.0,
)


def test_histograms_that_do_not_sum_to_their_nodes_counts_are_refused() -> None:
    plan = plan_of(heart, rounds=1, depth=2, bins=8)
    boosting = boosting_of(plan)
    whole = {name: np.zeros((1, boosting.offsets[-1])) for name in ("gradients", "hessians", "rows")}
    for at in boosting.columns:
        for name, array in whole.items():
            array[0, at.start] = {"rows": 7.0, "hessians": 1.5, "gradients": 6.0}[name]
    model = Blob(heart.first(0))
    driver.check_sums(plan, STEP, model, whole)
    for name in whole:
        lied = {other: array.copy() for other, array in whole.items()}
        lied[name][0, boosting.columns[3].start] -= 1.0 if name == "rows" else 2.0**-20
        with pytest.raises(BadInput, match="do not sum") as error:
            driver.check_sums(plan, STEP, model, lied)
        assert error.value.code == "contribution.histogram"
    lied = {other: array.copy() for other, array in whole.items()}
    for at in boosting.columns:
        lied["rows"][0, at.start : at.start + 2] = (8.0, -1.0)
    with pytest.raises(BadInput, match="rows could have"):
        driver.check_sums(plan, STEP, model, lied)


PRIVACY = PrivacySettings(
    noise_multiplier=1.0,
    clip=1.0,
    sampling_rate=0.1,
    delta=1e-5,
    divisor=1.0,
    analyses=AnalysisNoise(noise_multiplier=1.0),
)
NOISE = DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-5, members=5)
SGD = TrainSettings(batch_size=1, learning_rate=0.1, steps=1, weight="one", momentum=0.9)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"privacy": PRIVACY}, "gradient steps"),
        ({"secure": SecureSettings(noise=NOISE), "cohort": Cohort(quorum=3)}, "histograms would have none"),
        ({"secure": SecureSettings(real_bound=1e12), "cohort": Cohort(quorum=3)}, "round the histograms"),
        ({"stages": (Stage(driver="trees", options={"rounds": 1}), Stage(driver="averaging"))}, "no others"),
        ({"train": SGD}, "learning rate alone"),
        ({"cohort": Cohort(sample=2)}, "asks all partners"),
        ({"compress": Compress(quantise="int8")}, "updates"),
        ({"schema": None}, "does not say"),
        ({"schema": digits.schema, "data_schema": "digits/1"}, "other columns"),
        ({"stages": (Stage(driver="trees", options={"rounds": 1, "depth": 12, "bins": 1_000}),)}, "more numbers"),
        ({"stages": (Stage(driver="trees", options={"rounds": 1, "leaves": 3}),)}, "unknown field `leaves`"),
        ({"stages": (Stage(driver="trees"),)}, "rounds"),
        (
            {"stages": (Stage(driver="trees", options={"rounds": 1, "noise_multiplier": 9.0, "subsample": 0.5}),)},
            "takes all",
        ),
    ],
)  # fmt: skip
def test_what_trees_would_not_do_is_refused_with_the_reason(changed: dict[str, Any], said: str) -> None:
    plan = msgspec.structs.replace(plan_of(heart, rounds=1), **changed)
    with pytest.raises(AimassError, match=said):
        driver.check(plan, plan.stages[0])


def test_an_option_that_there_is_not_is_answered_by_those_that_there_are() -> None:
    with pytest.raises(BadInput, match="lamda") as error:
        options_of(Stage(driver="trees", options={"rounds": 1, "lamda": 1.0}))
    assert "lambda, gamma" in error.value.cure


def test_the_first_model_must_be_one_of_trees() -> None:
    plan = plan_of(heart, rounds=1)
    (step,) = driver.next(
        driver.start(Context(plan, plan.stages[0], ("a",), 0), "2" * 64), Context(plan, plan.stages[0], ("a",), 0)
    )  # type: ignore[misc]
    blob = encode_numpy({"w": np.zeros(3)})
    with pytest.raises(BadInput, match="models of trees") as error:
        driver.expects(step, read_layout(memoryview(blob), len(blob)), plan)
    assert "heart-trees" in error.value.cure


def test_a_plan_has_room_for_its_levels_and_no_more() -> None:
    plan = plan_of(heart, rounds=7, depth=3)
    assert planned_steps(plan, StepKind.ANALYSE, "trees") == 1 + 7 * 3
    assert planned_steps(plan_of(heart, rounds=7), StepKind.ANALYSE, "trees") == 1 + 7 * 6
    deep = msgspec.structs.replace(STEP, inputs=("1" * 64,) * 5)
    blob = heart.first(0)
    with pytest.raises(BadInput, match="below the plan's last"):
        driver.expects(deep, read_layout(memoryview(blob), len(blob)), plan)


def test_bins_hold_about_as_many_rows_each_and_what_is_heavy_is_alone() -> None:
    boosting = boosting_of(plan_of(Grove(TWO), rounds=1, bins=10, grid=500))
    rng = np.random.default_rng(1)
    counts = np.zeros((2, 500))
    counts[0] = np.bincount(rng.integers(0, 500, 20_000), minlength=500)
    counts[0, 100] = 30_000.0
    counts[1, [3, 9, 400]] = 1.0
    edges, grid = chosen_edges(boosting, counts), boosting.grid()
    for row in range(2):
        assert np.isin(edges[row], grid[row]).all()
        assert (np.diff(edges[row]) >= 0).all()
    ends = np.searchsorted(grid[0], edges[0])
    held = np.add.reduceat(counts[0], ends[:-1][np.diff(ends) > 0])
    assert 8 <= len(held) <= 10
    alone = held.argmax()
    assert held[alone] < 30_000 + 2_500
    assert np.delete(held, alone).max() < 5_000
    assert np.unique(edges[1])[1:-1].tolist() == grid[1, [6, 205]].tolist()  # in the middle of empty parts


def test_first_margins_are_those_of_least_loss(tmp_path: Path) -> None:
    rows = chance(500, 1)
    counts = np.bincount(rows.labels, minlength=3)
    model = grow(plan_of(Grove(), rounds=1, depth=1, bins=4), Grove(), dealt(rows, 2), tmp_path)
    assert np.exp(model.base) == pytest.approx(counts / 500, rel=1e-6)
    squared = Grove(SCHEMA, Objective.SQUARED_ERROR)
    model = grow(plan_of(squared, rounds=1, depth=1, bins=4), squared, dealt(rows, 2), tmp_path)
    assert model.base == pytest.approx([rows.labels.mean()], rel=1e-6)
