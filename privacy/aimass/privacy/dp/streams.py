"""Secret randomness for noise, Poisson sampling and rounding: a stream that can be read once, by one process.

A noise that is used twice cancels in a difference, so nothing here can be rewound, copied, pickled or read after a
fork, and the key is drawn inside: no caller has one to use again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np

from aimass.privacy.secagg.labels import MASK_KEY_BYTES
from aimass.privacy.secagg.masks import Lanes, stream_parts
from aimass.proto.errors import WrongState

__all__ = ["WORD", "NoiseStream", "Token"]

Token = Callable[[int], bytes]
"""So many fresh random bytes: `secrets.token_bytes`, or a test's."""

WORD: Final = np.dtype("<u8")


class NoiseStream:
    """AES-128-CTR keystream under a key of its own.

    `token` is called once, for the key; the default is the operating system's generator. A plan's seed never serves
    here: the server knows it.
    """

    __slots__ = ("_owner", "_part")

    def __init__(self, token: Token = secrets.token_bytes) -> None:
        key = token(MASK_KEY_BYTES)
        self._owner = os.getpid()
        self._part = stream_parts(key, np.dtype(np.uint8))

    def take(self, count: int, dtype: np.dtype[Any] = WORD) -> Lanes:
        """The next `count` unsigned integers, uniform and independent; raises `WrongState` in a forked process."""
        if os.getpid() != self._owner:
            raise WrongState(
                "a noise stream was carried over a fork: both processes would draw the same noise",
                code="dp.stream_forked",
                cure="Make a stream in the process that uses it.",
            )
        return self._part(count * dtype.itemsize).view(dtype)

    def __repr__(self) -> str:
        return "NoiseStream(***)"

    def __reduce_ex__(self, protocol: object = None) -> NoReturn:
        raise TypeError("a noise stream is neither copied nor pickled: its noise would be used twice")
