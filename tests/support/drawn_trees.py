"""Trees drawn at random, and what they say of a row by the plain walk from the root."""

from __future__ import annotations

import numpy as np

from aimass.proto.trees import LEAF, Ensemble, Objective, Tree


def drawn_tree(generator: np.random.Generator, sizes: np.ndarray, depth: int, output: int = 0) -> Tree:
    """Every node above `depth` splits with a chance of 4 in 5, by any feature."""
    features: list[int] = []
    level = 1
    for height in range(depth + 1):
        splits = generator.random(level) < 0.8 if height < depth else np.zeros(level, bool)
        features += [int(generator.integers(len(sizes))) if split else LEAF for split in splits]
        level = 2 * int(splits.sum())
        if level == 0:
            break
    feature = np.array(features, np.int32)
    split, nodes = feature != LEAF, len(feature)
    by_code = split & (sizes[feature] > 0)
    codes = {
        int(node): np.sort(generator.permutation(size)[: generator.integers(1, size + 1)]).astype(np.int32)
        for node in np.flatnonzero(by_code)
        for size in [int(sizes[feature[node]])]
    }
    numbers = generator.normal(size=(4, nodes)).astype(np.float32)
    return Tree(
        feature=feature,
        threshold=np.where(split & ~by_code, numbers[0], np.float32(0)),
        default_left=split & (generator.random(nodes) < 0.5),
        value=numbers[1],
        gain=np.where(split, abs(numbers[2]), np.float32(0)),
        cover=abs(numbers[3]),
        right_codes=codes,
        output=output,
    )


def drawn_ensemble(seed: int, objective: Objective = Objective.LOGISTIC, trees: int = 5, depth: int = 4) -> Ensemble:
    generator = np.random.Generator(np.random.PCG64(seed))
    sizes = np.array([0, 0, 0, 2, 7, 1], np.int32)
    outputs = 3 if objective is Objective.SOFTMAX else 1
    return Ensemble(
        objective,
        generator.normal(size=outputs).astype(np.float32),
        sizes,
        tuple(drawn_tree(generator, sizes, depth, number % outputs) for number in range(trees)),
    )


def drawn_rows(seed: int, sizes: np.ndarray, count: int) -> np.ndarray:
    """A fifth of all values missing."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = np.stack(
        [generator.integers(size, size=count) if size else generator.normal(size=count) for size in sizes], axis=1
    ).astype(np.float32)
    rows[generator.random(rows.shape) < 0.2] = np.nan
    return rows


def walked(tree: Tree, row: np.ndarray) -> int:
    """The leaf that one row comes to, node by node."""
    node = 0
    while tree.feature[node] != LEAF:
        value = row[tree.feature[node]]
        if np.isnan(value):
            right = not tree.default_left[node]
        elif node in tree.right_codes:
            right = int(value) in tree.right_codes[node]
        else:
            right = bool(value >= tree.threshold[node])
        splits_before = int((tree.feature[:node] != LEAF).sum())
        node = 1 + 2 * splits_before + right
    return node
