"""The encoder says what transformers' BERT says, from the same weights (`tests/vectors/make_text.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aimass.client.data_texts import our_name
from aimass.proto.encoder import MINILM, SentenceEncoder, Sizes
from aimass.proto.tensors import Blob
from tests.support.datasets import dataset

SMALL = Sizes(vocabulary=40, longest=10, width=8, hidden=12, heads=2, layers=2)


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    return load_file(Path(__file__).parents[1] / "vectors/text/bert.safetensors")


@pytest.fixture(scope="module")
def encoder(reference: dict[str, torch.Tensor]) -> SentenceEncoder:
    made = SentenceEncoder(SMALL).eval()
    made.load_state_dict({ours: value for name, value in reference.items() if (ours := our_name(name)) is not None})
    return made


def test_means_are_those_of_the_reference(encoder: SentenceEncoder, reference: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(encoder(reference["ids"]), reference["mean"], rtol=1e-5, atol=1e-5)


def test_a_rows_mean_is_its_own_whatever_stands_beside_it(
    encoder: SentenceEncoder, reference: dict[str, torch.Tensor]
) -> None:
    together = encoder(reference["ids"])
    for row, ids in enumerate(reference["ids"]):
        torch.testing.assert_close(encoder(ids[None]), together[row : row + 1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_public_weights_are_those_of_the_encoder() -> None:
    blob = Blob((dataset("encoder") / "minilm.safetensors").read_bytes())
    shapes = {name: tuple(value.shape) for name, value in SentenceEncoder(MINILM).state_dict().items()}
    assert {name: shape for name, (_, shape) in blob.layout.shapes().items()} == shapes
