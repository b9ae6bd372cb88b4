"""The task of reviews on an encoder of chance that is small enough for any test."""

from __future__ import annotations

import torch

from aimass.client.tasks.reviews import Reviews
from aimass.proto.bases import Base, HeldBase
from aimass.proto.encoder import MINILM, SentenceEncoder, Sizes
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["SMALL", "small_reviews"]

SMALL = Sizes(vocabulary=MINILM.vocabulary, longest=MINILM.longest, width=16, hidden=24, heads=2, layers=2)


def small_reviews() -> Reviews:
    """The same code over other sizes, with its base at hand."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        blob = Blob(encode_torch(SentenceEncoder(SMALL).state_dict()))
    held = Base(name="small", digest=blob.digest, bytes=blob.layout.total_bytes)

    class Small(Reviews):
        base, sizes = held, SMALL

    return Small().on(HeldBase(held, memoryview(blob.data)))
