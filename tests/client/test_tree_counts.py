"""Small counts of histograms: joined with what lies beside them, and no sum of a node is another for it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.policy import Admit, Refuse, Release, Trees, decide, read_policy
from aimass.client.release import Facts, release
from aimass.client.tree_counts import coarsened
from aimass.client.trees import grounded, summed
from aimass.client.worker_protocol import order_of
from aimass.proto.boosting import SUMS, Boosting, BoostingOptions, boosting_of
from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Number
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.simulation.partner import open_policy
from tests.support.boosting import SCHEMA, SECURE, Grove, chance, plan_of

BOOSTING = Boosting(schema=SCHEMA, options=BoostingOptions(rounds=1, depth=3, bins=5, grid=9))


def _made(rows: int, nodes: int, seed: int) -> Contribution:
    """Histograms of rows by chance."""
    rng = np.random.default_rng(seed)
    tensors = {name: np.zeros((nodes, BOOSTING.offsets[-1])) for name in SUMS}
    node = rng.integers(0, nodes, rows)
    values = {
        "gradients": rng.integers(-99, 99, rows),
        "hessians": rng.integers(0, 99, rows) / 128,
        "rows": np.ones(rows),
    }
    for at in BOOSTING.columns:
        cell = at.start + np.minimum(rng.geometric(0.4, rows) - 1, at.stop - at.start - 1)
        for name in SUMS:
            np.add.at(tensors[name], (node, cell), values[name])
    return Contribution({"trees": Group(1.0, tensors)}, {}, {})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 80), st.integers(1, 4), st.integers(0, 9_999), st.integers(1, 7))
def test_no_cell_is_of_few_rows_and_every_node_of_enough_keeps_its_sums(
    rows: int, nodes: int, seed: int, least: int
) -> None:
    made = _made(rows, nodes, seed)
    before, after = made.groups["trees"].tensors, coarsened(made, BOOSTING, least).groups["trees"].tensors
    assert not ((after["rows"] > 0) & (after["rows"] < least)).any()
    for name in SUMS:
        assert (after[name][after["rows"] == 0] == 0).all()
        for at in BOOSTING.columns:
            whole = before["rows"][:, at].sum(axis=1) >= least
            assert (after[name][:, at].sum(axis=1) == np.where(whole, before[name][:, at].sum(axis=1), 0.0)).all()
    if least == 1:
        assert all((after[name] == before[name]).all() for name in SUMS)


def test_few_rows_join_those_beside_them_in_a_number_and_the_missing_ones_in_a_category() -> None:
    made = _made(0, 1, 0)
    tensors, stages = made.groups["trees"].tensors, BOOSTING.columns[3]
    for name in SUMS:
        tensors[name][0, BOOSTING.columns[0]] = (2, 2, 4, 9, 1, 3)
        tensors[name][0, BOOSTING.columns[1]] = (1, 0, 1, 0, 1, 18)
        tensors[name][0, BOOSTING.columns[2].start] = 21
        tensors[name][0, stages] = (9, 0, 3, 7, 1, 0, 1)
    after = coarsened(made, BOOSTING, 4).groups["trees"].tensors["rows"][0]
    assert after[BOOSTING.columns[0]].tolist() == [0, 4, 4, 13, 0, 0]  # three are missing: with the most there are
    assert after[BOOSTING.columns[1]].tolist() == [0, 0, 0, 0, 0, 21]
    assert after[stages].tolist() == [9, 0, 0, 7, 0, 0, 5]
    for name in SUMS:
        tensors[name][0, stages] = (11, 0, 2, 7, 0, 0, 1)
    after = coarsened(made, BOOSTING, 4).groups["trees"].tensors["rows"][0]
    assert after[stages].tolist() == [14, 0, 0, 7, 0, 0, 0]


def test_counts_for_bins_are_joined_and_labels_of_few_rows_left_out() -> None:
    grid = np.array([[0, 1, 1, 1, 0, 5, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]], np.float64)
    made = Contribution({"trees": Group(1.0, {"grid": grid, "labels": np.array([9.0, 1.0, 8.0])})}, {}, {})
    after = coarsened(made, BOOSTING, 3).groups["trees"].tensors
    assert after["grid"].tolist() == [[0, 0, 3, 0, 0, 0, 6, 0, 0], [0.0] * 9]
    assert after["labels"].tolist() == [9.0, 0.0, 0.0]


def _step(level: int) -> Step:
    return Step(
        index=1, kind=StepKind.ANALYSE, purpose="trees", round=1, participants=("a",), inputs=("1" * 64,) * (2 + level),
        quorum=1, deadline_s=1.0,
    )  # fmt: skip


def _released(facts: Facts, spoiled: bool = False, level: int = 0, policy: str = "") -> Contribution:
    task = Grove()
    plan = plan_of(task, rounds=1, depth=2, bins=5, grid=9)
    boosting, model = boosting_of(plan), Blob(task.first(0))
    edges = boosting.grid()[:, [0, 2, 4, 6, 8, 9]]
    bins = Blob(encode_numpy({"edges": np.ascontiguousarray(edges)}))
    made = summed(grounded(boosting, chance(60, 1), (model, bins)), (), b"0" * 16)
    if spoiled:
        made.groups["trees"].tensors["rows"][0, 0] += 1
    text = policy or open_policy(plan)
    left = release(
        memoryview(made.encode()), plan, _step(level), model.layout, read_policy(text, "the policy"), facts=facts
    )
    return decode_contribution(Blob(b"".join(left.parts)))


def test_the_gate_lets_out_histograms_without_small_counts() -> None:
    rows = _released(Facts()).groups["trees"].tensors["rows"]
    assert rows.sum() == 4 * 3 * 60
    assert rows[rows > 0].min() >= 5


def test_the_gate_refuses_histograms_that_contradict_themselves() -> None:
    with pytest.raises(BadInput, match="do not sum"):
        _released(Facts(), spoiled=True)


def test_the_gate_refuses_a_level_that_the_work_was_not_of() -> None:
    with pytest.raises(BadInput) as error:
        _released(Facts(), level=1)
    assert error.value.code == "contribution.shape"


def test_histograms_that_would_fill_the_memory_here_are_not_begun() -> None:
    more = tuple(Number(name=f"more-{place}", minimum=0.0, maximum=1.0) for place in range(2))
    wide = msgspec.structs.replace(SCHEMA, columns=(*SCHEMA.columns, *more))
    plan = plan_of(Grove(wide), rounds=1, depth=12, bins=1_000)
    with pytest.raises(BadInput) as error:
        order_of(plan, _step(0), "a")
    assert error.value.code == "plan.trees"


def test_nothing_leaves_of_a_data_set_with_a_privacy_budget() -> None:
    with pytest.raises(Refused) as error:
        _released(Facts(accounted=True))
    assert error.value.code == "release.budget"


def test_nothing_leaves_where_the_policy_does_not_name_it() -> None:
    policy = open_policy(plan_of(Grove(), rounds=1)).replace('analyses = ["trees"]', 'analyses = ["counts"]')
    with pytest.raises(Refused) as error:
        _released(Facts(), policy=policy)
    assert error.value.code == "release.analysis"


def test_a_partner_whose_policy_does_not_name_trees_declines_before_the_run() -> None:
    plan = plan_of(Grove(), rounds=1)
    open_ = read_policy(open_policy(plan), "the policy")
    assert isinstance(decide(open_, plan, 3, frozenset()), Admit)
    closed = msgspec.structs.replace(open_, release=Release(analyses=("statistics",)))
    refused = decide(closed, plan, 3, frozenset())
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.value, refused.limit) == ("policy.analyses", "trees", "statistics")


def test_trees_are_grown_by_secure_sums_alone_where_the_policy_does_not_say_otherwise() -> None:
    plain, secure = (plan_of(Grove(), rounds=1, secure=secure) for secure in (None, SECURE))
    policy = read_policy(open_policy(plain), "the policy")
    shut = msgspec.structs.replace(policy, trees=Trees())
    assert isinstance(decide(policy, plain, 3, frozenset()), Admit)
    assert isinstance(decide(shut, secure, 3, frozenset()), Admit)
    refused = decide(shut, plain, 3, frozenset())
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.limit) == ("policy.trees_plain", "secure sums (or trees.plain = true)")
    with pytest.raises(Refused) as error:
        _released(Facts(), policy=open_policy(plain).replace("plain = true", "plain = false"))
    assert error.value.code == "release.mechanism"


@pytest.mark.parametrize(
    ("options", "trees", "rule"),
    [
        ({"grid": 4_096}, Trees(plain=True, grid=4_095), "trees_grid"),
        ({"depth": 5}, Trees(plain=True, depth=4), "trees_depth"),
        ({"rounds": 9}, Trees(plain=True, rounds=8), "trees_rounds"),
        ({"rounds": 1, "grid": "fine"}, Trees(plain=True), "trees_grid"),
    ],
)
def test_a_plan_that_would_look_closer_or_more_often_than_the_policy_allows_is_declined(
    options: dict[str, Any], trees: Trees, rule: str
) -> None:
    plan = plan_of(Grove(), **{"rounds": 1, **options})
    policy = msgspec.structs.replace(read_policy(open_policy(plan), "the policy"), trees=trees)
    refused = decide(policy, plan, 3, frozenset())
    assert isinstance(refused, Refuse)
    assert refused.code == f"policy.{rule}"
