"""Who masks with whom: every pair, or a ring in an order that nobody could choose (Bell et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.privacy.secagg.labels import MASK_KEY_BYTES, Name, derive
from aimass.privacy.secagg.masks import stream_words

__all__ = ["neighbours", "permutation"]


def permutation(seed: bytes, n: int) -> tuple[int, ...]:
    """`result[position] = member`, by Fisher and Yates's shuffle over a stream from `seed`, without modulo bias."""
    words = stream_words(derive(seed, b"", Name.PERMUTATION_STREAM, b"", MASK_KEY_BYTES))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        bound = (1 << 32) - (1 << 32) % (i + 1)
        word = next(word for word in words if word < bound)
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return tuple(order)


def neighbours(order: Sequence[int], k: int) -> tuple[tuple[int, ...], ...]:
    """The k neighbours of each member, sorted: everybody else, or the members at ring distances 1 to k / 2."""
    n = len(order)
    if k == n - 1:
        return tuple(tuple(j for j in range(n) if j != i) for i in range(n))
    found: list[tuple[int, ...]] = [()] * n
    for position, member in enumerate(order):
        near = [*range(1, k // 2 + 1), *range(-(k // 2), 0)]
        found[member] = tuple(sorted(order[(position + step) % n] for step in near))
    return tuple(found)
