"""Boosted trees as a person reads them: what splits most, and each tree as conditions and what they add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from aimass.proto.manifest import Schema
from aimass.proto.trees import LEAF, Ensemble, Objective, Tree, feature_columns
from aimass.proto.values import Value

__all__ = ["Branch", "Described", "DescribedTree", "Leaf", "Share", "described", "text_of"]


class Leaf(Value, frozen=True, tag="leaf", tag_field="kind"):
    """What rows that end here get added; `cover` is the sum of their Hessians."""

    adds: float
    cover: float


class Branch(Value, frozen=True, tag="split", tag_field="kind"):
    """A split: rows whose number is `below`, or whose category is `among` some, go to `then`, all others to `other`."""

    column: str
    below: float | None
    among: tuple[str, ...]
    missing: Literal["then", "other"]
    gain: float
    cover: float
    then: Branch | Leaf
    other: Branch | Leaf


class DescribedTree(Value, frozen=True):
    """A tree, and the label whose margin it adds to."""

    label: str
    root: Branch | Leaf


class Share(Value, frozen=True):
    """How much of the loss reduction of all splits is those by one column, and how many there are."""

    column: str
    gain: float
    splits: int


class Described(Value, frozen=True):
    """An ensemble in its schema's words. `base` is the margin of each of `labels` that the trees add to."""

    predicts: str
    objective: str
    labels: tuple[str, ...]
    base: tuple[float, ...]
    columns: tuple[Share, ...]
    trees: tuple[DescribedTree, ...]


def described(ensemble: Ensemble, schema: Schema) -> Described:
    """The trees by the names of the schema's columns and values."""
    labels = _labels(ensemble, schema)
    return Described(
        predicts=schema.label.name,
        objective=ensemble.objective.value,
        labels=labels,
        base=tuple(ensemble.base.tolist()),
        columns=tuple(_shares(ensemble, schema)),
        trees=tuple(DescribedTree(label=labels[tree.output], root=_node(tree, 0, schema)) for tree in ensemble.trees),
    )


def _labels(ensemble: Ensemble, schema: Schema) -> tuple[str, ...]:
    match ensemble.objective:
        case Objective.SQUARED_ERROR:
            return (schema.label.name,)
        case Objective.LOGISTIC:
            return (schema.classes[1],)
        case Objective.SOFTMAX:
            return schema.classes


def _shares(ensemble: Ensemble, schema: Schema) -> Iterator[Share]:
    """Those that split anything, the most useful first."""
    columns = feature_columns(schema)
    gain, splits = np.zeros(len(columns)), np.zeros(len(columns), dtype=int)
    for tree in ensemble.trees:
        inner = tree.feature != LEAF
        np.add.at(gain, tree.feature[inner], tree.gain[inner])
        np.add.at(splits, tree.feature[inner], 1)
    whole = float(gain.sum()) or 1.0
    for place in sorted(np.flatnonzero(splits), key=lambda place: (-gain[place], place)):
        yield Share(column=columns[place].name, gain=float(gain[place]) / whole, splits=int(splits[place]))


def _node(tree: Tree, node: int, schema: Schema) -> Branch | Leaf:
    """The part of a tree below a node; of a category the smaller side of the split is named."""
    feature, cover, numbers = int(tree.feature[node]), float(tree.cover[node]), len(schema.numbers)
    if feature == LEAF:
        return Leaf(adds=float(tree.value[node]), cover=cover)
    below, among, named = None, tuple[str, ...](), 0
    if feature < numbers:
        column, below = schema.numbers[feature].name, float(str(tree.threshold[node]))
    else:
        category, codes = schema.categories[feature - numbers], set(tree.right_codes[node].tolist())
        column, size = category.name, len(category.values)
        named = int(2 * len(codes) <= size or len(codes) == size)
        among = tuple(value for code, value in enumerate(category.values) if (code in codes) == bool(named))
    left = int(tree.left[node])
    return Branch(
        column=column,
        below=below,
        among=among,
        missing="then" if tree.default_left[node] == (named == 0) else "other",
        gain=float(tree.gain[node]),
        cover=cover,
        then=_node(tree, left + named, schema),
        other=_node(tree, left + 1 - named, schema),
    )


def text_of(description: Described) -> str:
    """The description as lines: a head, columns by their share of the gain, then every tree."""
    base = ", ".join(f"{label} {value:+.4g}" for label, value in zip(description.labels, description.base, strict=True))
    lines = [
        f"{description.predicts}: {len(description.trees)} trees, {description.objective}",
        f"margin before the first tree: {base}",
        *(f"{share.column:<24} {share.gain:6.1%} of the gain, {share.splits} splits" for share in description.columns),
    ]
    for number, tree in enumerate(description.trees, start=1):
        lines += ["", f"tree {number}, adds to {tree.label}", *_lines(tree.root, "  ")]
    return "\n".join([*lines, ""])


def _lines(node: Branch | Leaf, indent: str) -> Iterator[str]:
    if isinstance(node, Leaf):
        yield f"{indent}{node.adds:+.4g}"
        return
    sides = (
        (node.then, _condition(node, "<", "is"), "then"),
        (node.other, _condition(node, ">=", "is not"), "other"),
    )
    for side, condition, name in sides:
        missing = " or missing" if node.missing == name else ""
        if isinstance(side, Leaf):
            yield f"{indent}{condition}{missing}: {side.adds:+.4g}"
        else:
            yield f"{indent}{condition}{missing}"
            yield from _lines(side, indent + "  ")


def _condition(node: Branch, compares: str, belongs: str) -> str:
    if node.below is not None:
        return f"{node.column} {compares} {node.below:.9g}"
    return f"{node.column} {belongs} {' | '.join(node.among)}"
