"""Rows of chance that fit a schema and can be learnt: for trying a plan where no public rows are at hand.

A row's label follows from its features: a random linear rule for numbers and categories, a pattern of its own for
images, words of its own for texts; what a pixel is, from how bright it is. So a model that learns beats chance, and
noise that destroys learning is seen; how well real rows can be learnt is another question.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.shards import Shard
from aimass.proto.manifest import Mask, Number, Schema
from aimass.proto.rows import Batch
from aimass.proto.synthetic import synthetic_rows

__all__ = ["dealt", "learnable_rows"]

_SLIPS: Final = 0.5
"""Deviation of what a label owes to nothing in the row, where what it owes to the row has one of 1."""
_GRAIN: Final = 64.0
"""Deviation of a pixel around its label's pattern."""
_BRIGHT: Final = 0.3
_DEVIATIONS: Final = 8.0
"""Of scores, in the range of a label that is a number."""
_WORDS: Final = 8
"""Words that a label has for its own, and words of a text."""


def learnable_rows(schema: Schema, rows: int, seed: int) -> Batch:
    """So many rows, all labels about as frequent; of a label that is a number, in the middle of its range."""
    batch = synthetic_rows(schema, rows, seed)
    chance = np.random.default_rng((seed, 1))
    if isinstance(schema.label, Mask):
        masks = _masks(schema.label, rows, chance)
        return Batch(batch.numbers, batch.categories, _shaded(schema, masks, chance), masks)
    if batch.images is not None:
        labels = chance.integers(0, len(schema.classes), rows)
        return Batch(batch.numbers, batch.categories, _images(schema, labels, chance), labels)
    if batch.texts is not None:
        labels = chance.integers(0, len(schema.classes), rows)
        return Batch(batch.numbers, batch.categories, None, labels, _texts(schema, labels, chance))
    scores = _scores(schema, batch, chance) + _SLIPS * chance.standard_normal(rows)
    return Batch(batch.numbers, batch.categories, None, _labels(schema, scores))


def dealt(
    batch: Batch, partners: int, held_out: float, seed: int, rows_per_person: int | None = None
) -> tuple[Shard, ...]:
    """Shards of equal size, the rows dealt at random; of each, the share `held_out` is kept for measuring.

    With `rows_per_person` so many training rows at a time are one person's, by chance too.
    """
    order = np.random.default_rng((seed, 2)).permutation(len(batch.labels))
    shards = []
    for place, rows in enumerate(np.array_split(order, partners)):
        kept = round(held_out * len(rows))
        persons = None if rows_per_person is None else np.arange(len(rows) - kept) // rows_per_person
        held = batch.take(rows[:kept])
        shards.append(Shard(f"partner-{place + 1:03}", batch.take(rows[kept:]), held, persons))
    return tuple(shards)


def _scores(schema: Schema, batch: Batch, chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """A linear rule over what is there, of deviation 1."""
    low = np.array([column.minimum for column in schema.numbers])
    high = np.array([column.maximum for column in schema.numbers])
    numbers = np.nan_to_num((batch.numbers - low) / (high - low) - 0.5) if schema.numbers else batch.numbers
    total = numbers @ chance.standard_normal(numbers.shape[1])
    for place, column in enumerate(schema.categories):
        values = np.append(chance.standard_normal(len(column.values)) / 2, 0.0)  # the last is for missing
        total = total + values[batch.categories[:, place]]
    spread = float(total.std())
    return np.asarray((total - total.mean()) / (spread or 1.0))


def _labels(schema: Schema, scores: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """What rows of these scores are labelled: as many of each class, or a number of the label's range."""
    if isinstance(schema.label, Number):
        low, high = schema.label.minimum, schema.label.maximum
        return np.clip((low + high) / 2 + (high - low) / _DEVIATIONS * scores, low, high)
    bounds = np.quantile(scores, np.arange(1, len(schema.classes)) / len(schema.classes))
    return np.searchsorted(bounds, scores).astype(np.int64)


def _images(schema: Schema, labels: npt.NDArray[np.int64], chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A coarse pattern for each label, bright on dark, with grain."""
    shape = schema.images[0].shape
    coarse = 255.0 * (chance.random((len(schema.classes), 4, 4, *shape[2:])) < _BRIGHT)
    down, across = (np.arange(size) * 4 // size for size in shape[:2])
    patterns = coarse[:, down[:, None], across[None, :]]
    grain = _GRAIN * chance.standard_normal((len(labels), *shape), np.float32)
    return np.clip(patterns[labels] + grain, 0, 255).astype(np.uint8)


def _masks(label: Mask, rows: int, chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Coarse patches, each of one class."""
    coarse = chance.integers(0, len(label.values), (rows, 4, 4), np.uint8)
    down, across = (np.arange(size) * 4 // size for size in label.shape)
    return coarse[:, down[:, None], across[None, :]]


def _shaded(schema: Schema, masks: npt.NDArray[np.uint8], chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A brightness for each class, with grain."""
    shape = schema.images[0].shape
    bright = np.linspace(64.0, 192.0, len(schema.classes))[masks].reshape(*masks.shape, *(1 for _ in shape[2:]))
    grain = _GRAIN / 4 * chance.standard_normal((len(masks), *shape), np.float32)
    return np.clip(bright + grain, 0, 255).astype(np.uint8)


def _texts(schema: Schema, labels: npt.NDArray[np.int64], chance: np.random.Generator) -> npt.NDArray[np.object_]:
    """Words of the label's own, half of them swapped for anybody's."""
    words = np.array([_word(chance) for _ in range(_WORDS * len(schema.classes))], object)
    own = words.reshape(-1, _WORDS)[labels[:, None], chance.integers(0, _WORDS, (len(labels), _WORDS))]
    mixed = np.where(chance.random(own.shape) < 0.5, own, chance.choice(words, own.shape))
    return np.array([" ".join(row)[: schema.texts[0].longest] for row in mixed], object)


def _word(chance: np.random.Generator) -> str:
    return "".join(chance.choice(list("etaoinshrdlu"), size=chance.integers(2, 7)))
