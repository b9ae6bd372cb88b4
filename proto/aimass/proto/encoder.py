"""A sentence encoder that text tasks build on; it needs torch, and only tasks load it.

BERT (Devlin et al. 2019) without the head that it was trained with, as all-MiniLM-L6-v2 has it (Wang et al. 2020;
Reimers and Gurevych 2019): the same numbers from the same weights, in layers that adapters fit onto and that give
gradients of single rows. `aimass data get encoder` fetches the weights.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import torch

from aimass.proto.wordpiece import PAD

__all__ = ["MINILM", "SentenceEncoder", "Sizes"]

_EPSILON: Final = 1e-12


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """What the weights of an encoder are made for."""

    vocabulary: int
    longest: int
    width: int
    hidden: int
    heads: int
    layers: int


MINILM: Final = Sizes(vocabulary=30_522, longest=512, width=384, hidden=1_536, heads=12, layers=6)
"""all-MiniLM-L6-v2."""


class SentenceEncoder(torch.nn.Module):
    """int64 token ids [n, tokens], filled up with `PAD` -> float32 [n, width]: the mean of the tokens' vectors.

    With `dropout`, where it falls in a row depends on the longest row beside it, which private training refuses.
    """

    def __init__(self, sizes: Sizes = MINILM, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = torch.nn.Embedding(sizes.longest, sizes.width)
        self.segments = torch.nn.Embedding(2, sizes.width)
        self.norm = torch.nn.LayerNorm(sizes.width, _EPSILON)
        self.dropout = torch.nn.Dropout(dropout)
        self.layers = torch.nn.ModuleList(Layer(sizes, dropout) for _ in range(sizes.layers))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """What a row comes to is its own: neither the rows beside it nor its padding count."""
        if not torch.compiler.is_compiling():  # a graph for any row has no width that one row decides
            ids = ids[:, : int((ids != PAD).sum(dim=1).max())]
        there = ids != PAD
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        vectors = self.words(ids) + self.segments(torch.zeros_like(ids)) + self.positions(places)
        vectors = self.dropout(self.norm(vectors))
        for layer in self.layers:
            vectors = layer(vectors, there)
        mask = there.unsqueeze(2)
        mean: torch.Tensor = (vectors * mask).sum(dim=1) / mask.sum(dim=1)
        return mean


class Layer(torch.nn.Module):
    """Attention among a row's tokens, then a network for each; both are added to what came in, and normalised."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = torch.nn.Linear(sizes.width, sizes.width)
        self.key = torch.nn.Linear(sizes.width, sizes.width)
        self.value = torch.nn.Linear(sizes.width, sizes.width)
        self.attended = torch.nn.Linear(sizes.width, sizes.width)
        self.attended_norm = torch.nn.LayerNorm(sizes.width, _EPSILON)
        self.widen = torch.nn.Linear(sizes.width, sizes.hidden)
        self.narrow = torch.nn.Linear(sizes.hidden, sizes.width)
        self.norm = torch.nn.LayerNorm(sizes.width, _EPSILON)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, vectors: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """float32 [n, tokens, width] -> the same; `there` bool [n, tokens] says where a token is."""
        query, key, value = (self._by_head(part(vectors)) for part in (self.query, self.key, self.value))
        # Not torch's fused attention: its backward pass is not deterministic everywhere.
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = torch.softmax(scores.masked_fill(~there[:, None, None, :], -math.inf), dim=3)
        attended = self.dropout(weights) @ value
        vectors = self.attended_norm(vectors + self.dropout(self.attended(attended.transpose(1, 2).flatten(2))))
        wide = torch.nn.functional.gelu(self.widen(vectors))
        normal: torch.Tensor = self.norm(vectors + self.dropout(self.narrow(wide)))
        return normal

    def _by_head(self, vectors: torch.Tensor) -> torch.Tensor:
        """[n, tokens, width] -> [n, heads, tokens, width of a head]."""
        rows, tokens, _ = vectors.shape
        return vectors.view(rows, tokens, self.heads, -1).transpose(1, 2)
