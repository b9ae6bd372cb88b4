"""The encoder says what transformers' BERT says, from the same weights (`tests/vectors/make_text.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aimass.client.data_texts import our_name
from aimass.proto.encoder import MINILM, SentenceEncoder, Sizes
from aimass.proto.wordpiece import WordPiece
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
def test_the_public_encoder_says_of_a_text_what_it_says_under_transformers() -> None:
    folder = dataset("encoder")
    encoder = SentenceEncoder(MINILM).eval()
    encoder.load_state_dict(load_file(folder / "minilm.safetensors"))
    ids = WordPiece.read(folder / "vocab.txt").ids(["Yay. Another good phone interview."], 64)
    with torch.no_grad():
        (mean,) = encoder(torch.from_numpy(ids))
    # transformers 5.24: the mean of `last_hidden_state`
    expected = torch.tensor([-0.70399, 0.20358, 0.43136, 0.1937, -0.10739, -0.29535])
    torch.testing.assert_close(mean[:6], expected, rtol=0, atol=2e-5)
    assert float(mean.norm()) == pytest.approx(5.067470, abs=1e-5)
