"""Whether a difference is more than chance: p-values by shuffles, which suppose no shape of errors, and corrected."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.work import Work

__all__ = ["holm", "shuffled_p"]

Floats = npt.NDArray[np.float64]
_SHARE_BYTES: Final = 24
"""Of a shuffled error: the number, its copy and the random order."""


def holm(p: npt.ArrayLike) -> Floats:
    """p-values [k] corrected for all k (Holm 1979): of those at most a, any is false in a share a of cases at most."""
    found = np.asarray(p, np.float64)
    order = np.argsort(found)
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    corrected = np.empty(len(found))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def shuffled_p(inside: npt.NDArray[np.bool_], errors: Floats, shuffles: int, work: Work, purpose: str) -> Floats:
    """p [k] that errors [n] inside of [n, k] are no larger than elsewhere, by shuffles of the errors over the rows.

    (1 + as extreme) / (1 + shuffles), which is valid at any number of shuffles: Phipson and Smyth 2010.
    """
    member = inside.astype(np.float64)
    seen = errors @ member
    near = 1e-9 * max(1.0, float(np.abs(errors).sum()))
    extreme = np.zeros(inside.shape[1], np.int64)
    random = work.rng("significance", purpose)
    for part in work.chunks(shuffles, _SHARE_BYTES * max(1, len(errors))):
        work.check()
        drawn = random.permuted(np.tile(errors, (part.stop - part.start, 1)), axis=1)
        extreme += (drawn @ member >= seen - near).sum(axis=0)
    return (1 + extreme) / (1 + shuffles)
