"""Texts become the ids that the reference tokeniser gives them (`tests/vectors/make_text.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.wordpiece import PAD, WordPiece

ROOT = Path(__file__).parents[2]
READER = WordPiece.read(ROOT / "client/aimass/client/tasks/reviews/vocab.txt")
SMALL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##afford", "##able", "good", ".", "##a")


@pytest.mark.parametrize("case", json.loads((ROOT / "tests/vectors/text/wordpiece.json").read_text()))
def test_a_text_has_the_ids_of_the_reference(case: dict[str, object]) -> None:
    text = str(case["text"])
    assert READER.ids([text], 1000)[0].tolist() == case["ids"]


def test_the_longest_pieces_are_taken_from_the_left_and_rows_are_filled_up() -> None:
    ids = WordPiece(SMALL).ids(["Unaffordable. GOOD", "good", "unx"], 20)
    assert ids.tolist() == [[2, 4, 5, 6, 8, 7, 3], [2, 7, 3, 0, 0, 0, 0], [2, 1, 3, 0, 0, 0, 0]]


def test_a_long_text_is_cut_and_still_ends() -> None:
    assert WordPiece(SMALL).ids(["good " * 50], 5).tolist() == [[2, 7, 7, 7, 3]]
    assert WordPiece(SMALL).ids([], 5).shape == (0, 0)


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(2, 12))
def test_any_text_begins_and_ends_and_holds_no_mark_of_its_own(texts: list[str], longest: int) -> None:
    marked = [f"[SEP]{text}[CLS][PAD]" for text in texts]
    ids = READER.ids(marked, longest)
    assert ids.shape[1] <= longest
    lengths = (ids != PAD).sum(axis=1)
    for row, length in zip(ids, lengths, strict=True):
        assert (row[0], row[length - 1]) == (101, 102)
        assert not set(row[1 : length - 1]) & {PAD, 101, 102}
    assert np.array_equal(ids, READER.ids(marked, longest))


@pytest.mark.parametrize(
    "vocabulary", [SMALL[1:], (*SMALL, "good"), ("a", *SMALL)], ids=["no padding", "a piece twice", "padding not first"]
)
def test_what_is_no_vocabulary_is_refused(vocabulary: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as caught:
        WordPiece(vocabulary)
    assert caught.value.code == "wordpiece.vocabulary"
