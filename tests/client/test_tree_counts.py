"""Small counts of histograms: joined with what lies beside them, and no sum of a node is another for it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.policy import Admit, Refuse, Release, decide, read_policy
from aimass.client.release import Facts, release
from aimass.client.tree_counts import coarsened
from aimass.client.trees import summed
from aimass.client.worker_protocol import order_of
from aimass.proto.boosting import SUMS, Boosting, BoostingOptions, boosting_of, check_histograms
from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Number
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.simulation.partner import open_policy
from tests.support.boosting import SCHEMA, Grove, chance, plan_of

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


def test_few_rows_join_the_next_cells_and_what_is_left_over_the_last_ones() -> None:
    made = _made(0, 1, 0)
    tensors = made.groups["trees"].tensors
    for name in SUMS:
        tensors[name][0, BOOSTING.columns[0]] = (2, 2, 4, 9, 1, 3)
        for at in BOOSTING.columns[1:]:
            tensors[name][0, at.start] = 21
    after = coarsened(made, BOOSTING, 4).groups["trees"].tensors["rows"][0]
    assert after[BOOSTING.columns[0]].tolist() == [0, 4, 4, 13, 0, 0]  # what is missing is of three rows
    assert after[BOOSTING.columns[3]].tolist() == [21, 0, 0, 0, 0, 0, 0]
    for name in SUMS:
        tensors[name][0, BOOSTING.columns[0]] = (1, 0, 1, 0, 1, 18)
    after = coarsened(made, BOOSTING, 4).groups["trees"].tensors["rows"][0]
    assert after[BOOSTING.columns[0]].tolist() == [0, 0, 0, 0, 0, 21]


def test_counts_for_bins_are_joined_and_labels_of_few_rows_left_out() -> None:
    grid = np.array([[0, 1, 1, 1, 0, 5, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]], np.float64)
    made = Contribution({"trees": Group(1.0, {"grid": grid, "labels": np.array([9.0, 1.0, 8.0])})}, {}, {})
    after = coarsened(made, BOOSTING, 3).groups["trees"].tensors
    assert after["grid"].tolist() == [[0, 0, 0, 3, 0, 6, 0, 0, 0], [0.0] * 9]
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
    made = summed(
        boosting, chance(60, 1), (model, Blob(encode_numpy({"edges": np.ascontiguousarray(edges)}))), b"0" * 16
    )
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


@pytest.mark.parametrize(("name", "by"), [("rows", 0.5), ("rows", -1.0), ("hessians", 1e9)])
def test_histograms_that_no_rows_could_have_are_refused(name: str, by: float) -> None:
    """One partner's would be the trees of all."""
    tensors = dict(_made(41, 2, 3).groups["trees"].tensors)
    check_histograms(BOOSTING, tensors)
    with pytest.raises(BadInput, match="rows could have"):
        check_histograms(BOOSTING, {**tensors, name: tensors[name] * by})


def test_there_is_no_gradient_where_there_is_no_row() -> None:
    tensors = {name: np.zeros((1, BOOSTING.offsets[-1])) for name in SUMS}
    tensors["gradients"][0, [at.start for at in BOOSTING.columns]] = 1e12
    with pytest.raises(BadInput, match="rows could have"):
        check_histograms(BOOSTING, tensors)


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
