"""Trees in words: conditions that a person can follow by hand to what the model says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.tree_scores import margins
from aimass.proto.tree_text import Branch, Leaf, described, text_of
from aimass.proto.trees import Ensemble, Objective, Tree
from aimass.proto.values import canonical_json, decode_json
from tests.support.drawn_trees import drawn_ensemble, drawn_rows

SCHEMA = Schema(
    name="ward/1",
    columns=(
        Category(name="pain", values=("none", "some", "much")),
        Number(name="age", minimum=0, maximum=120),
    ),
    label=Category(name="ill", values=("no", "yes")),
)
TREE = Tree(
    feature=np.array([1, -1, 0, -1, -1], np.int32),
    threshold=np.array([0, 0, 61.5, 0, 0], np.float32),
    default_left=np.array([False, False, True, False, False]),
    value=np.array([0, -0.25, 0, 0.125, 0.5], np.float32),
    gain=np.array([3, 0, 1, 0, 0], np.float32),
    cover=np.array([10, 4, 6, 3, 3], np.float32),
    right_codes={0: np.array([1, 2], np.int32)},
)
WARD = Ensemble(Objective.LOGISTIC, np.array([-1], np.float32), np.array([0, 3], np.int32), (TREE,))


def test_a_tree_reads_as_conditions_of_its_columns_and_values() -> None:
    assert text_of(described(WARD, SCHEMA)).splitlines() == [
        "ill: 1 trees, binary:logistic",
        "margin before the first tree: yes -1",
        "pain                      75.0% of the gain, 1 splits",
        "age                       25.0% of the gain, 1 splits",
        "",
        "tree 1, adds to yes",
        "  pain is none: -0.25",
        "  pain is not none or missing",
        "    age < 61.5 or missing: +0.125",
        "    age >= 61.5: +0.5",
    ]


def test_the_description_is_a_value_that_goes_through_json() -> None:
    whole = described(WARD, SCHEMA)
    assert decode_json(type(whole), canonical_json(whole), "it") == whole


def walk(node: Branch | Leaf, row: dict[str, float | str | None]) -> float:
    while isinstance(node, Branch):
        value = row[node.column]
        if value is None:
            side = node.missing
        elif node.below is None:
            side = "then" if value in node.among else "other"
        else:
            side = "then" if np.float32(value) < np.float32(node.below) else "other"
        node = node.then if side == "then" else node.other
    return node.adds


@given(st.integers(0, 2**32), st.sampled_from(Objective))
def test_who_follows_the_description_comes_to_the_margins_of_the_model(seed: int, objective: Objective) -> None:
    sizes = (2, 7, 1)
    schema = Schema(
        name="drawn/1",
        columns=(
            *(Number(name=name, minimum=0, maximum=1) for name in "abc"),
            *(Category(name=f"k{size}", values=tuple(f"v{code}" for code in range(size))) for size in sizes),
        ),
        label=Category(name="y", values=("p", "q", "r") if objective is Objective.SOFTMAX else ("p", "q")),
    )
    ensemble = drawn_ensemble(seed, objective)
    rows = drawn_rows(seed, ensemble.sizes, 10)
    whole = described(ensemble, schema)
    expected = margins(ensemble, rows)
    for place, row in enumerate(rows):
        named: dict[str, float | str | None] = {
            column.name: None if np.isnan(value) else f"v{int(value)}" if isinstance(column, Category) else float(value)
            for column, value in zip(schema.columns, row, strict=True)
        }
        found = dict(zip(whole.labels, whole.base, strict=True))
        for tree in whole.trees:
            found[tree.label] += walk(tree.root, named)
        np.testing.assert_allclose(list(found.values()), expected[place], rtol=1e-6, atol=1e-9)
