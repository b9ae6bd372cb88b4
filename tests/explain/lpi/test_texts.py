"""Which pieces of a text speak for what a model says: closed forms, completeness, and orders that are held against chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aimass.explain.lpi.text_explaining import TokenAttribution, explain_text
from aimass.explain.lpi.text_options import TextLpiOptions
from aimass.explain.texts import TextModel, Texts, text_model_of_task
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound, Refused
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.wordpiece import WordPiece
from tests.support.reviews import small_reviews

WORDS = WordPiece(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "un", "##even"))


class Bag(torch.nn.Module):
    """Two logits: nothing, and the sum of what each piece adds."""

    def __init__(self, worth: npt.NDArray[np.float64], *, squared: bool = False) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(len(worth), 1)
        self.words.weight = torch.nn.Parameter(torch.from_numpy(worth)[:, None].float())
        self.squared = squared

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        total = self.words(ids)[..., 0].sum(dim=1)
        total = total**3 if self.squared else total
        return torch.stack([torch.zeros_like(total), total], dim=1)


def bag(worth: npt.NDArray[np.float64], *, squared: bool = False) -> TextModel:
    network = Bag(worth, squared=squared).eval()
    return TextModel(network, lambda texts: WORDS.ids(texts, 12), WORDS, ("negative", "positive"), "bag")


WORTH = np.array([0, 0, 5.0, 5.0, 0.5, 2.0, -3.0, 0.25, 0.1, -1.0])
TEXTS = Texts(("Good film, uneven", "bad", "", "good good"), ("negative", "positive"))


def test_a_sum_of_pieces_has_its_closed_form_and_marks_are_left_out() -> None:
    found = explain_text(bag(WORTH), TEXTS, TextLpiOptions(output="positive"))
    assert found.pieces == ("good", "film", "[UNK]", "un", "##even")
    np.testing.assert_allclose(found.values, np.array([2.0, 0.25, 0.0, 0.1, -1.0]) - 0.5, atol=1e-5)
    assert found.neutral == "[MASK]"
    assert found.beaten == 0
    assert not found.warnings()
    assert TokenAttribution.from_json(found.to_json()) == found
    assert found.picture().panels[0].y.names == found.pieces
    assert found.to_columns()["piece"] == found.pieces
    assert "good (+1.5)" in found.describe()[1]


def test_values_sum_to_the_change_of_a_curved_network_too() -> None:
    found = explain_text(bag(WORTH, squared=True), TEXTS, TextLpiOptions(text=3, output="positive", steps=8))

    def odds(chance: float) -> float:
        return float(np.log(chance / (1 - chance)))

    assert found.incomplete <= 0.01
    here, masked = 5 + 2 + 2 + 5, 5 + 0.5 + 0.5 + 5
    assert found.values.sum() == pytest.approx(here**3 - masked**3, rel=0.01)


def test_an_encoder_is_explained_in_its_own_pieces_and_hangs_on_its_weights() -> None:
    task = small_reviews()
    texts = Texts(("A truly uninspired film, but the music is wonderful.",), ("negative", "positive"), name="snippets")
    found = [
        explain_text(text_model_of_task(task, Blob(first_model(task, seed)), name="reviews", digest="d"), texts)
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1]
    assert found[0].pieces[:2] == ("a", "truly")
    assert all(one.incomplete <= 0.01 for one in found)
    assert (found[0].values != found[2].values).any()


def test_what_cannot_be_answered_is_refused() -> None:
    model = bag(WORTH)
    with pytest.raises(BadInput, match="the text is empty"):
        explain_text(model, TEXTS, TextLpiOptions(text=2))
    with pytest.raises(BadInput, match="no such text"):
        explain_text(model, TEXTS, TextLpiOptions(text=4))
    with pytest.raises(NotFound, match="no such class"):
        explain_text(model, TEXTS, TextLpiOptions(output="neither"))
    with pytest.raises(BadInput, match="no number"):
        explain_text(bag(WORTH * np.nan), TEXTS)
    heart = load(locate("heart"))
    with pytest.raises(BadInput, match="takes no text alone"):
        text_model_of_task(heart, Blob(first_model(heart, 1)), name="heart", digest="d")
    with pytest.raises(Refused, match="no vocabulary"):
        heart.vocabulary()
    with pytest.raises(BadInput, match="another number"):
        Texts(("a",), labels=np.zeros(2, np.int64))


def test_one_piece_has_no_order_and_the_seed_decides_the_others() -> None:
    assert explain_text(bag(WORTH), TEXTS, TextLpiOptions(text=1)).beaten == 0
    one = explain_text(bag(WORTH), TEXTS, work=Work(1))
    assert one == explain_text(bag(WORTH), TEXTS, work=Work(1))
