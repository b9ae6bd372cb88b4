"""Sentiment of short texts by a sentence encoder that every side has: what is trained are adapters and two logits.

Data: snippets of product reviews, film reviews, newspaper editorials and tweets, rated by people (Hutto and Gilbert
2014), MIT. Encoder: all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020), Apache-2.0, with its vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

import torch

from aimass.proto.adapters import adapt
from aimass.proto.bases import base_in
from aimass.proto.encoder import MINILM, SentenceEncoder, Sizes
from aimass.proto.frozen import freeze, unmade
from aimass.proto.manifest import Category, Schema, Text
from aimass.proto.rows import Batch
from aimass.proto.task import Task
from aimass.proto.wordpiece import WordPiece

_HERE: Final = Path(__file__).parent
_WORDS: Final = WordPiece.read(_HERE / "vocab.txt")
_LONGEST: Final = 64
"""Tokens of a text that are read; of a hundred snippets one has more than 55."""


class Reviews(Task):
    """Whether people took a text to be negative or positive."""

    schema = Schema(
        name="reviews/1",
        columns=(Text(name="text", longest=1000),),
        label=Category(name="sentiment", values=("negative", "positive"), required=True),
    )
    base = base_in(_HERE)
    sizes: ClassVar[Sizes] = MINILM
    checkpointed = ("encoder.layers.*",)

    def build(self) -> torch.nn.Module:
        """The encoder as the base has it, adapters on its attention, and two logits."""
        with unmade():
            encoder = SentenceEncoder(self.sizes)
        freeze(encoder, self.base_blob())
        adapt(encoder, ("query", "value"))
        return Classifier(encoder, self.sizes.width)

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Token ids int64 [n, tokens]."""
        return (torch.from_numpy(_WORDS.ids(() if batch.texts is None else batch.texts, _LONGEST)),)

    def vocabulary(self) -> WordPiece:
        """The encoder's own."""
        return _WORDS


class Classifier(torch.nn.Module):
    """A text's vector and a linear layer."""

    def __init__(self, encoder: SentenceEncoder, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = torch.nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2]."""
        logits: torch.Tensor = self.output(self.encoder(ids))
        return logits


task = Reviews()
