"""Rows of chance that fit a schema: for whoever has to try a model where nobody's rows may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Mask, Number, Schema
from aimass.proto.rows import Batch

__all__ = ["synthetic_rows"]


def synthetic_rows(schema: Schema, rows: int, seed: int) -> Batch:
    """Rows of chance that fit a schema, some cells missing where they may be."""
    chance = np.random.default_rng(seed)
    numbers = np.empty((rows, len(schema.numbers)), np.float32)
    for place, number in enumerate(schema.numbers):
        numbers[:, place] = chance.uniform(number.minimum, number.maximum, rows)
        if not number.required:
            numbers[chance.random(rows) < 0.1, place] = np.nan
    categories = np.empty((rows, len(schema.categories)), np.int64)
    for place, category in enumerate(schema.categories):
        categories[:, place] = chance.integers(0 if category.required else -1, len(category.values), rows)
    images = chance.integers(0, 256, (rows, *schema.images[0].shape), np.uint8) if schema.images else None
    labels = _labels(schema, rows, chance)
    texts = np.array([_text(schema.texts[0].longest, chance) for _ in range(rows)], object) if schema.texts else None
    return Batch(numbers, categories, images, labels, texts)


def _labels(schema: Schema, rows: int, chance: np.random.Generator) -> npt.NDArray[Any]:
    """Labels of chance, all as likely."""
    if isinstance(schema.label, Number):
        return chance.uniform(schema.label.minimum, schema.label.maximum, rows)
    if isinstance(schema.label, Mask):
        return chance.integers(0, len(schema.classes), (rows, *schema.label.shape), np.uint8)
    return chance.integers(0, len(schema.classes), rows)


def _text(longest: int, chance: np.random.Generator) -> str:
    """A few words of chance, as many as fit."""
    letters = chance.choice(list("etaoin shrdlu"), size=chance.integers(1, 80))
    return "a" + "".join(letters)[: longest - 1]
