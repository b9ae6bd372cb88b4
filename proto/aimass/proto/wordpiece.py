"""BERT's tokeniser for uncased models: text to the token ids that an encoder was trained with.

Devlin et al. 2019 (BERT), section 3; WordPiece by greedy longest match: Wu et al. 2016, section 4.1. A text's own
`[SEP]` and its like are plain text here: nobody's text can say where a text ends.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput

__all__ = ["PAD", "WordPiece"]

PAD: Final = 0
"""The id of what fills a row behind its text."""
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LONGEST_WORD: Final = 100
_IDEOGRAPHS: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """A vocabulary of pieces, the first id being the padding's; `##` marks a piece that goes on a word."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._ids = {piece: position for position, piece in enumerate(vocabulary)}
        absent = [piece for piece in _SPECIAL if piece not in self._ids]
        if absent or self._ids["[PAD]"] != PAD or len(self._ids) != len(vocabulary):
            raise BadInput(
                "this is no vocabulary of an uncased BERT",
                code="wordpiece.vocabulary",
                value=f"lacks {', '.join(absent)}" if absent else "its first is not [PAD], or two are alike",
                cure="Give the model's own vocab.txt, a piece a line.",
            )
        self._unknown, self._first, self._last = (self._ids[piece] for piece in _SPECIAL[1:])
        self._vocabulary = tuple(vocabulary)
        self._pieces = lru_cache(maxsize=1 << 16)(self._cut)

    @classmethod
    def read(cls, path: Path) -> WordPiece:
        """The vocabulary of a file `vocab.txt`: a piece a line, its id the line's number from 0."""
        return cls(path.read_text("utf-8").removesuffix("\n").split("\n"))

    def piece(self, id_: int) -> str:
        """What an id stands for; `##` marks a piece that goes on a word."""
        return self._vocabulary[id_]

    @property
    def neutral(self) -> int:
        """The id of a piece that says nothing: the mask's, or the unknown's where the vocabulary has no mask."""
        return self._ids.get("[MASK]", self._unknown)

    def is_mark(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Where ids are no piece of a text: its beginning, its end, padding."""
        return np.isin(ids, (PAD, self._first, self._last))

    def ids(self, texts: Sequence[str] | npt.NDArray[np.object_], longest: int) -> npt.NDArray[np.int64]:
        """int64 [texts, width]: each text as [CLS] pieces [SEP], cut to `longest` ids, then `PAD` to the longest."""
        rows = [self._row(text, longest) for text in texts]
        ids = np.full((len(rows), max(map(len, rows), default=0)), PAD, np.int64)
        for position, row in enumerate(rows):
            ids[position, : len(row)] = row
        return ids

    def _row(self, text: str, longest: int) -> list[int]:
        pieces = [piece for word in words(text) for piece in self._pieces(word)]
        return [self._first, *pieces[: longest - 2], self._last]

    def _cut(self, word: str) -> tuple[int, ...]:
        """The ids of a word's longest pieces from the left; unknown as a whole where a rest is in no piece."""
        found: list[int] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._ids), None)
            if end is None:
                return (self._unknown,)
            found.append(self._ids[mark + word[start:end]])
            start = end
        return tuple(found) if found else (self._unknown,)


def words(text: str) -> Iterator[str]:
    """Lower-case words without accents; a mark of punctuation and an ideograph is each a word."""
    spaced = unicodedata.normalize("NFD", "".join(map(_spaced, text)))
    yield from "".join(map(_plain, spaced)).split()


@lru_cache(maxsize=1 << 12)
def _spaced(character: str) -> str:
    """Blanks as one kind, nothing for what is not to be seen, an ideograph apart from its neighbours."""
    if character in "\t\n\r":
        return " "
    if character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    if character.isspace():
        return " "
    return f" {character} " if any(low <= ord(character) <= high for low, high in _IDEOGRAPHS) else character


@lru_cache(maxsize=1 << 12)
def _plain(character: str) -> str:
    """In lower case, nothing for an accent, punctuation apart: of ASCII all that is neither letter, digit nor blank."""
    category = unicodedata.category(character)
    if category == "Mn":
        return ""
    apart = category.startswith("P") or (character.isascii() and category.startswith("S"))
    return f" {character} " if apart else character.lower()
