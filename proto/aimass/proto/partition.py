"""How the rows of one table are dealt to partners: seeded, pure rules, the same for simulated and for real ones.

Each rule gives ascending row positions, int64, for each partner; no row is dealt twice and none is left over. Equal
arguments give equal parts on every machine: the random numbers are those of numpy's PCG64 from the seed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput

__all__ = ["Parts", "by_label", "by_value", "dirichlet", "iid", "in_shares", "sorted_shards"]

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Parts = tuple[Rows, ...]


def iid(rows: int, partners: int, seed: int) -> Parts:
    """Equal numbers of rows (to one), chosen at random."""
    _check(rows, partners)
    return _sorted(np.array_split(_shuffled(rows, _generator(seed)), partners))


def in_shares(rows: int, shares: Sequence[float], seed: int) -> Parts:
    """Random rows, as many for each partner as its share of the sum of `shares` (rounded down the running sum)."""
    if not shares or not all(share > 0 and math.isfinite(share) for share in shares):
        raise BadInput("a share of the rows is a number above zero", code="partition.shares", value=list(shares))
    _check(rows, len(shares))
    ends = np.floor(rows * np.cumsum(shares) / math.fsum(shares) + 1e-9).astype(np.int64)
    return _sorted(np.split(_shuffled(rows, _generator(seed)), ends[:-1]))


def dirichlet(labels: Labels, partners: int, alpha: float, seed: int, smallest: int = 1) -> Parts:
    """Label by label, its rows in proportions from a symmetric Dirichlet distribution: the smaller `alpha`, the odder.

    As in Yurochkin et al. 2019 and Li et al. 2022 ("Federated learning on non-IID data silos", IV-B1), who draw again
    until everybody has enough. With many partners that never ends: here who has fewer than `smallest` rows is given
    rows of whoever has most, one at a time.
    """
    if not 0 < alpha < math.inf:
        raise BadInput("the concentration is a number above zero", code="partition.alpha", value=alpha)
    _check(len(labels), partners, smallest)
    generator = _generator(seed)
    parts: list[list[int]] = [[] for _ in range(partners)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        proportions = generator.dirichlet(np.full(partners, alpha))
        ends = np.minimum(np.cumsum(proportions) * len(members), len(members)).astype(np.int64)
        for part, dealt in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.extend(dealt.tolist())
    return _sorted(_levelled(parts, smallest))


def by_label(labels: Labels, partners: int, each: int, seed: int) -> Parts:
    """`each` labels for every partner, no more; the rows of a label go in equal numbers to those that have it.

    Labels are dealt round a table, so that each is held by as many partners as any other, to one (Li et al. 2022,
    "#C = k").
    """
    found = np.unique(labels)
    if not 1 <= each <= len(found):
        raise BadInput("so many labels a partner there are not", code="partition.labels", value=each, limit=len(found))
    if partners * each < len(found):
        raise BadInput(
            "some labels would be nobody's",
            code="partition.labels",
            value=f"{partners} partners of {each} labels",
            limit=f"{len(found)} labels",
            cure="Take more partners, or more labels for each.",
        )
    _check(len(labels), partners)
    generator = _generator(seed)
    table, places = generator.permutation(found), generator.permutation(partners)
    parts: list[list[int]] = [[] for _ in range(partners)]
    for position, label in enumerate(table):
        holders = [int(places[turn]) for turn in range(partners) if (position - turn * each) % len(table) < each]
        members = generator.permutation(np.flatnonzero(labels == label))
        for holder, dealt in zip(holders, np.array_split(members, len(holders)), strict=True):
            parts[holder].extend(dealt.tolist())
    return _sorted(parts)


def sorted_shards(labels: Labels, partners: int, each: int, seed: int) -> Parts:
    """Rows sorted by label, cut into equal shards, `each` of them dealt to every partner (McMahan et al. 2017, 3).

    The paper's pathological MNIST is 100 partners of 2 shards.
    """
    if each < 1:
        raise BadInput("a partner needs a shard", code="partition.shards", value=each)
    _check(len(labels), partners, each)
    generator = _generator(seed)
    # Within a label the order is random, so that no two seeds cut the same shards.
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    shards = np.array_split(order, partners * each)
    dealt = generator.permutation(partners * each).reshape(partners, each)
    return _sorted([np.concatenate([shards[shard] for shard in hand]) for hand in dealt])


def by_value(values: Labels, partners: int | None = None) -> Parts:
    """Rows of one value stay together: a partner for each value, in order, or so many partners of several values each.

    With fewer partners than values the largest value goes first, always to whoever has fewest rows.
    """
    found, counts = np.unique(values, return_counts=True)
    count = len(found) if partners is None else partners
    if count > len(found):
        raise BadInput(
            "there are more partners than values of this column",
            code="partition.values",
            value=count,
            limit=len(found),
            cure="Take fewer partners, or leave their number out: one for each value.",
        )
    _check(len(values), count)
    if partners is None:
        return _sorted([np.flatnonzero(values == value) for value in found])
    loads = [(0, place) for place in range(count)]
    holder = np.zeros(len(found), np.int64)
    for position in np.argsort(-counts, kind="stable"):
        rows, place = heapq.heappop(loads)
        holder[position] = place
        heapq.heappush(loads, (rows + int(counts[position]), place))
    held = holder[np.searchsorted(found, values)]
    return _sorted([np.flatnonzero(held == place) for place in range(count)])


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _shuffled(rows: int, generator: np.random.Generator) -> Rows:
    return generator.permutation(rows).astype(np.int64)


def _levelled(parts: list[list[int]], smallest: int) -> list[list[int]]:
    """With rows of the largest parts in those that have too few; the last row of a part goes first."""
    largest = [(-len(part), place) for place, part in enumerate(parts)]
    heapq.heapify(largest)
    for part in parts:
        while len(part) < smallest:
            rows, place = heapq.heappop(largest)
            if -rows != len(parts[place]):  # it has been given some meanwhile
                heapq.heappush(largest, (-len(parts[place]), place))
                continue
            part.append(parts[place].pop())
            heapq.heappush(largest, (-len(parts[place]), place))
    return parts


def _sorted(parts: Sequence[Rows] | Sequence[Sequence[int]]) -> Parts:
    """Ascending positions; raises `BadInput` where somebody has none."""
    made = tuple(np.sort(np.asarray(part, dtype=np.int64)) for part in parts)
    empty = sum(len(part) == 0 for part in made)
    if empty:
        raise BadInput(
            "partners would have no rows",
            code="partition.empty",
            value=f"{empty} of {len(made)}",
            cure="Take fewer partners, or another split.",
        )
    return made


def _check(rows: int, partners: int, smallest: int = 1) -> None:
    if partners < 1 or smallest < 1:
        raise BadInput("partners and their rows are one or more", code="partition.partners", value=partners)
    if rows < partners * smallest:
        raise BadInput(
            "there are too few rows for so many partners",
            code="partition.partners",
            value=f"{partners} partners of {smallest} rows or more",
            limit=f"{rows} rows",
            cure="Take fewer partners, or more rows.",
        )
