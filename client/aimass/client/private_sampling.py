"""Poisson samples for DP-SGD: each row by itself, from randomness that no server knows.

Epsilon is computed for just this sampling; shuffled batches of a fixed size would have another, several times larger.
A plan's seed never serves here: who knows which rows a step drew gets no privacy from their being few.
"""

from __future__ import annotations

import math
import secrets

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.streams import WORD, Token
from aimass.proto.errors import BadInput

__all__ = ["poisson_sample"]

Positions = npt.NDArray[np.intp]


def poisson_sample(rows: int, rate: float, cap: int | None = None, token: Token = secrets.token_bytes) -> Positions:
    """Positions of the rows drawn, ascending: each with probability `rate`, rounded down to a multiple of 2^-64.

    More than `cap` are cut to a uniformly random set of so many.
    """
    if not (0 < rate <= 1):
        raise BadInput("a sampling rate lies above 0 and is at most 1", code="private.rate", value=rate)
    threshold = math.floor(math.ldexp(rate, 64))  # exact: a float has 53 bits
    drawn = np.arange(rows) if threshold >= 1 << 64 else np.flatnonzero(_words(rows, token) < np.uint64(threshold))
    if cap is not None and len(drawn) > cap:
        # Of equal keys, which 64 bits have once in 2^40 batches, the earlier row stays.
        drawn = np.sort(drawn[np.argsort(_words(len(drawn), token), kind="stable")[:cap]])
    return drawn


def _words(count: int, token: Token) -> npt.NDArray[np.uint64]:
    return np.frombuffer(token(WORD.itemsize * count), WORD)
