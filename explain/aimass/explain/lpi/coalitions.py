"""Coalitions of features: which rows stand for them, and what each weighs in a Shapley value.

In the interventional game of a row x against one reference row z, a coalition S is worth f(x on S, z elsewhere)
(Lundberg & Lee 2017, with the features outside S drawn from their marginal: Janzing et al. 2020). A feature on which x
and z agree is a dummy of that game, so only those on which they differ need be players.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput

__all__ = ["Groups", "differing", "hybrids", "members_of", "shapley_matrix", "singletons"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Groups = Sequence[Sequence[int]]
"""Players: the columns that join and leave a coalition together."""


def singletons(features: int) -> tuple[tuple[int, ...], ...]:
    """Each column a player of its own."""
    return tuple((column,) for column in range(features))


def members_of(groups: Groups, features: int) -> Places:
    """int64 [groups, most members] columns, the first repeated where a group has fewer.

    Raises `BadInput` unless every column is in exactly one group.
    """
    if sorted(column for group in groups for column in group) != list(range(features)):
        raise BadInput(
            "every feature is in exactly one group",
            code="explain.groups",
            value=str([list(group) for group in groups]),
            limit=f"columns 0 to {features - 1}",
        )
    most = max(map(len, groups), default=0)
    return np.array([[*group, *[group[0]] * (most - len(group))] for group in groups], np.int64)


def differing(rows: Floats, references: Floats, members: Places) -> npt.NDArray[np.bool_]:
    """bool [n, m, groups]: where a row and a reference are unlike; what is missing in both is alike."""
    one, other = rows[:, None, :], references[None, :, :]
    unlike = (one != other) & ~(np.isnan(one) & np.isnan(other))
    single = members.shape[1] == 1
    found: npt.NDArray[np.bool_] = unlike[:, :, members[:, 0]] if single else unlike[:, :, members].any(axis=3)
    return found


def hybrids(rows: Floats, references: Floats, players: Places, members: Places) -> Floats:
    """float64 [pairs, 2^d, features] of pairs (row, reference) [pairs, features] with `players` int64 [pairs, d].

    Hybrid c has the row's cells in the groups `players[i]` for which bit i of c is set, the reference's elsewhere. Each
    player doubles what stands already: nearly all of the work is one copy.
    """
    pairs, number = players.shape
    found = np.empty((pairs, 1 << number, rows.shape[1]))
    found[:, 0] = references
    pair = np.arange(pairs)[:, None, None]
    for place in range(number):
        half = 1 << place
        found[:, half : 2 * half] = found[:, :half]
        columns = members[players[:, place]]
        with_it = np.arange(half, 2 * half)[None, :, None]
        found[pair, with_it, columns[:, None, :]] = rows[pair, columns[:, None, :]]
    return found


@functools.lru_cache(maxsize=32)
def shapley_matrix(players: int) -> Floats:
    """float64 [d, 2^d] that turns the worths of all coalitions into Shapley values (Shapley 1953).

    The column of a coalition S has (|S| - 1)! (d - |S|)! / d! in rows of members, and -|S|! (d - |S| - 1)! / d! in rows
    of others.
    """
    coalitions = np.arange(1 << players)
    inside = (coalitions[None, :] >> np.arange(players)[:, None] & 1).astype(bool)
    sizes = inside.sum(axis=0)
    joining = np.array([1.0 / (players * math.comb(players - 1, size)) for size in range(players)] + [0.0])
    found: Floats = np.where(inside, joining[sizes - 1], -joining[sizes])
    found.flags.writeable = False
    return found


def as_rows(values: npt.NDArray[Any]) -> Floats:
    """float64 [n, features], in one piece."""
    return np.ascontiguousarray(np.atleast_2d(values), np.float64)
