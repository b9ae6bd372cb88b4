"""How good the trees of federations are: against XGBoost on the pooled rows, by bins of its own."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import xgboost

from aimass.client.policy import Policy
from aimass.client.tasks.adult import trees as adult
from aimass.client.tasks.heart import trees as heart
from aimass.proto.plan import SecureSettings
from aimass.proto.rows import Batch, encode, read_table
from aimass.proto.task import auc
from aimass.proto.tree_scores import features, margins
from aimass.proto.tree_task import TreeTask
from tests.support.boosting import dealt, grow, hospitals, plan_of, pooled
from tests.support.datasets import dataset

RATE, ROUNDS, DEPTH = 0.1, 15, 5
LEAST = Policy().release.smallest_count
WAYS = [(4, False, 1), (10, True, LEAST)]
"""Partners, whether their sums are secret, and the fewest rows of a value; that the first two decide over no bit is
tested elsewhere."""


@lru_cache
def _census() -> tuple[Batch, Batch]:
    """The rows that come as training rows, and as test rows."""
    found = []
    for part in ("train", "test"):
        with (dataset("adult") / f"{part}.parquet").open("rb") as file:
            found.append(encode(read_table(adult.schema, [file], "parquet")))
    return found[0], found[1]


@lru_cache
def _heart() -> tuple[Batch, Batch]:
    shards = hospitals(0.3)
    return pooled([shard.train for shard in shards]), pooled([shard.held_out for shard in shards])


@lru_cache
def _xgboosts(name: str) -> float:
    """AUC of XGBoost's `hist` as it is, on the test rows."""
    (train, test), task = (_heart(), heart) if name == "heart" else (_census(), adult)
    kinds = ["q"] * len(task.schema.numbers) + ["c"] * len(task.schema.categories)
    ours, theirs = (
        xgboost.DMatrix(features(rows), label=rows.labels, feature_types=kinds, enable_categorical=True, nthread=1)
        for rows in (train, test)
    )
    settings = {"objective": "binary:logistic", "max_depth": DEPTH, "eta": RATE, "nthread": 1}
    found = auc(xgboost.train(settings, ours, ROUNDS).predict(theirs).astype(float), test.labels == 1)
    assert found is not None
    return found


def _ours(
    task: TreeTask, rows: tuple[Batch, Batch], partners: int, folder: Path, *, secret: bool, least: int = 1
) -> float:
    train, test = rows
    shards = hospitals(0.3) if task is heart and partners == 4 else dealt(train, partners)
    secure = SecureSettings() if secret else None
    plan = plan_of(task, rate=RATE, secure=secure, rounds=ROUNDS, depth=DEPTH)
    found = auc(margins(grow(plan, task, shards, folder, least), features(test))[:, 0], test.labels == 1)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("partners", "secret", "least"), [(4, False, 1), (10, True, 1), (4, True, LEAST)])
def test_trees_of_heart_are_as_good_as_pooled_ones(partners: int, secret: bool, least: int, tmp_path: Path) -> None:
    found = _ours(heart, _heart(), partners, tmp_path, secret=secret, least=least)
    assert found >= _xgboosts("heart") - 0.005


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("partners", "secret", "least"), WAYS)
def test_trees_of_the_census_are_as_good_as_pooled_ones(
    partners: int, secret: bool, least: int, tmp_path: Path
) -> None:
    found = _ours(adult, _census(), partners, tmp_path, secret=secret, least=least)
    assert found == pytest.approx(_xgboosts("adult"), abs=0.005)
