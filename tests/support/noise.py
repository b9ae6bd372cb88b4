"""Noise streams for tests: from a seed, so that a test that passes once passes always, or with given words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aimass.privacy.dp.streams import WORD, NoiseStream
from aimass.privacy.secagg.masks import Lanes
from tests.support.secagg import Seeded


def seeded(*seed: object) -> NoiseStream:
    """A stream that the seed repeats."""
    return NoiseStream(Seeded("noise", *seed).token)


class Scripted(NoiseStream):
    """A stream of given 64-bit words."""

    def __init__(self, words: Sequence[int]) -> None:
        super().__init__(bytes)
        self.left = list(words)

    def take(self, count: int, dtype: np.dtype[Any] = WORD) -> Lanes:
        assert dtype == WORD
        taken, self.left = self.left[:count], self.left[count:]
        assert len(taken) == count
        return np.array(taken, WORD)
