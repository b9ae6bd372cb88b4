"""Rows to try a plan on: they fit the schema, and a label follows from its row."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from aimass.client.synthetic import dealt, learnable_rows
from aimass.client.tasks.heart import task as heart
from aimass.client.tasks.mnist import task as mnist
from aimass.client.trainer import evaluate, train
from aimass.proto.manifest import Category, Schema, Text
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob, encode_numpy


@pytest.mark.parametrize(("task", "rows", "least", "rate"), [(heart, 600, 0.7, 0.3), (mnist, 400, 0.5, 0.1)])
def test_a_model_learns_the_labels_of_synthetic_rows(task: Task, rows: int, least: float, rate: float) -> None:
    (shard,) = dealt(learnable_rows(task.schema, rows, 1), 1, 0.25, 1)
    start = Blob(first_model(task, 1))
    made, _ = train(task, shard, start, b"", bytes(32), TrainSettings(batch_size=32, learning_rate=rate, epochs=4))
    update = made.groups["update"].tensors
    learnt = {name: start.numpy(name) + update.get(name, 0) for name in start.layout.by_name}
    measured = evaluate(task, shard, Blob(encode_numpy(learnt)), EvaluateSettings())
    assert measured.figures["accuracy"] > least


def test_words_of_synthetic_texts_tell_the_label() -> None:
    schema = Schema(name="t/1", columns=(Text(name="t", longest=60),), label=Category(name="y", values=("a", "b")))
    batch = learnable_rows(schema, 600, 1)
    assert batch.texts is not None
    assert max(map(len, batch.texts)) <= 60
    counts = Counter(
        (word, label) for text, label in zip(batch.texts, batch.labels, strict=True) for word in text.split()
    )
    votes = [sum(counts[word, 1] - counts[word, 0] for word in text.split()) > 0 for text in batch.texts]
    assert 0.8 < float((np.array(votes) == batch.labels).mean()) <= 1


def test_rows_are_dealt_evenly_and_none_is_both_trained_on_and_held_out() -> None:
    batch = learnable_rows(heart.schema, 101, 3)
    shards = dealt(batch, 4, 0.2, 3)
    assert [len(each.train.labels) + len(each.held_out.labels) for each in shards] == [26, 25, 25, 25]
    held = np.concatenate([part.numbers[:, 0] for each in shards for part in (each.train, each.held_out)])
    assert np.array_equal(np.sort(held), np.sort(batch.numbers[:, 0]), equal_nan=True)
    assert len({each.participant for each in shards}) == 4


def test_other_seeds_make_other_rows_and_labels_are_balanced() -> None:
    one, other = (learnable_rows(heart.schema, 200, seed) for seed in (1, 2))
    assert not np.array_equal(one.labels, other.labels)
    assert 90 <= int(one.labels.sum()) <= 110
