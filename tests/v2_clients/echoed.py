"""What the published clients ask an identity model, and what they say of its answers. They share no process with it:
their generated messages have the names of ours.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable

import numpy as np

ENDS = {
    "BOOL": np.array([[True, False]]),
    **{f"UINT{n}": np.array([[0, 2**n - 1]], f"u{n // 8}") for n in (8, 16, 32, 64)},
    **{f"INT{n}": np.array([[-(2 ** (n - 1)), 2 ** (n - 1) - 1]], f"i{n // 8}") for n in (8, 16, 32, 64)},
    "FP16": np.array([[np.finfo(np.float16).max, np.finfo(np.float16).smallest_subnormal]]),
    "FP32": np.array([[np.finfo(np.float32).min, np.finfo(np.float32).smallest_subnormal]]),
    "FP64": np.array([[np.finfo(np.float64).max, -np.finfo(np.float64).smallest_subnormal]]),
    "BYTES": np.array([["text", "Grüße \N{SNOWMAN}".encode()]], object),
}
"""The ends of each datatype, which every client can send; BF16 is for those that know it."""


def texts(array: np.ndarray) -> list[bytes]:
    """Elements of BYTES, which one client has as bytes and another as str."""
    return [one if isinstance(one, bytes) else str(one).encode() for one in array.ravel().tolist()]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the bit."""
    if "O" in {one.dtype.kind, other.dtype.kind}:
        return one.shape == other.shape and texts(one) == texts(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


class Report:
    """One line of JSON for each thing that was tried."""

    def check(self, name: str, body: Callable[[], object]) -> None:
        """Try `body`, which fails by raising."""
        try:
            body()
            why = ""
        except Exception:  # noqa: BLE001  (it is told, and the next thing is tried)
            why = traceback.format_exc(limit=-2)
        print(json.dumps({"name": name, "why": why}))
        sys.stdout.flush()


def expect(condition: object, what: object = "") -> None:
    """An assertion that says what it saw."""
    if not condition:
        raise AssertionError(what)
