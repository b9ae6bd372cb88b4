"""Sentiment of texts on a frozen encoder: what is trained, what is sent, what is learnt."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from aimass.client.data_catalog import entry
from aimass.client.private_checks import private_findings
from aimass.client.synthetic import dealt, learnable_rows
from aimass.client.tasks import reviews
from aimass.client.trainer import evaluate, train
from aimass.proto.checks import sound
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import first_model, locate
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.datasets import dataset
from tests.support.reviews import small_reviews

TASK = small_reviews()


def test_the_vocabulary_is_the_encoders_own_and_the_base_is_named_by_the_package() -> None:
    source = locate("reviews")
    vocabulary = (source.folder / "vocab.txt").read_bytes()
    assert hashlib.sha256(vocabulary).hexdigest() == entry("encoder").files["model/vocab.txt"]
    assert source.base == reviews.task.base


@pytest.mark.slow
def test_the_base_is_what_data_get_writes() -> None:
    blob = Blob((dataset("encoder") / "minilm.safetensors").read_bytes())
    base = reviews.task.base
    assert base is not None
    assert (blob.digest, blob.layout.total_bytes) == (base.digest, base.bytes)


def test_adapters_and_the_last_layer_are_all_that_a_run_has_of_the_model() -> None:
    names = set(Blob(first_model(TASK, 1)).layout.by_name)
    assert {"output.weight", "output.bias"} < names
    assert {name.rpartition(".")[0] for name in names} == {
        "output",
        *(
            f"encoder.layers.{n}.{part}.{side}"
            for n in (0, 1)
            for part in ("query", "value")
            for side in ("lora_A", "lora_B")
        ),
    }


def test_the_first_model_says_what_the_encoder_without_adapters_would() -> None:
    batch = synthetic_rows(TASK.schema, 4, 1)
    model = TASK.build().eval()
    assert isinstance(model, reviews.Classifier)
    (ids,) = TASK.inputs(batch)
    with torch.no_grad():
        said = model(ids)
        for layer in model.encoder.layers:
            for name in ("query", "value"):
                setattr(layer, name, getattr(layer, name).base_layer)
        torch.testing.assert_close(model(ids), said)


def test_training_learns_words_that_tell_the_label_and_leaves_the_base_as_it_is() -> None:
    (shard,) = dealt(learnable_rows(TASK.schema, 400, 1), 1, 0.25, 1)
    base, start = TASK.base_blob().digest, Blob(first_model(TASK, 1))
    settings = TrainSettings(batch_size=32, learning_rate=0.02, epochs=4, optimizer="adam")
    made, _ = train(TASK, shard, start, b"", bytes(32), settings)
    update = made.groups["update"].tensors
    assert set(update) == set(start.layout.by_name)
    assert all(np.abs(change).max() > 0 for change in update.values())
    learnt = Blob(encode_numpy({name: start.numpy(name) + update[name] for name in update}))
    assert evaluate(TASK, shard, learnt, EvaluateSettings()).figures["accuracy"] > 0.7
    assert Blob(TASK.base_blob().data).digest == base


def test_the_task_can_be_trained_with_differential_privacy_for_a_text() -> None:
    assert sound(list(private_findings(TASK)))
