"""The share field F_p, p = 2^256 - 189, and Shamir's secret sharing over it (Shamir 1979).

Holder j of an attempt has the x-coordinate j + 1. Arithmetic is Python's: it takes no constant time. Secrets pass
through it at their owner (sharing) and, once they are to be revealed, at the server (reconstruction); an observer who
can time either to the nanosecond is outside the threat model (docs/secure-aggregation.md, "Limits").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from aimass.privacy.secagg.labels import SCALAR_BYTES

__all__ = ["Below", "P", "decode_scalar", "encode_scalar", "reconstruct", "share"]

P: Final = 2**256 - 189

Below = Callable[[int], int]
"""A uniform integer in [0, bound) from a cryptographic source: `secrets.randbelow`."""


def encode_scalar(value: int) -> bytes:
    """32 bytes, big-endian; raises `ValueError` outside the field."""
    if not 0 <= value < P:
        raise ValueError("not an element of the field")
    return value.to_bytes(SCALAR_BYTES, "big")


def decode_scalar(data: bytes) -> int:
    """The element in 32 bytes; raises `ValueError` for another length or a value that is not below p."""
    value = int.from_bytes(data, "big")
    if len(data) != SCALAR_BYTES or value >= P:
        raise ValueError("not the encoding of an element of the field")
    return value


def share(secret: int, threshold: int, holders: Sequence[int], below: Below) -> list[int]:
    """A share for each of `holders` (indices from 0): the value at holder + 1 of a random polynomial.

    Its degree is `threshold` - 1 and its constant term `secret`: any `threshold` shares give it, fewer give nothing.
    """
    if threshold < 1 or not 0 <= secret < P:
        raise ValueError("a threshold is at least 1, and a secret an element of the field")
    coefficients = [below(P) for _ in range(threshold - 1)]
    coefficients.reverse()
    return [_evaluate(coefficients, secret, holder + 1) for holder in holders]


def _evaluate(coefficients: Sequence[int], constant: int, x: int) -> int:
    """Horner's rule, the highest coefficient first."""
    value = 0
    for coefficient in coefficients:
        value = (value + coefficient) * x % P
    return (value + constant) % P


def reconstruct(shares: Mapping[int, int]) -> int:
    """The secret from shares by holder's index: all that are given are used, so give exactly the threshold."""
    holders = tuple(sorted(shares))
    if not holders:
        raise ValueError("no shares")
    return sum(shares[j] * c for j, c in zip(holders, _coefficients(holders), strict=True)) % P


@lru_cache(maxsize=256)
def _coefficients(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's coefficients at zero, with one inversion for all. In the complete graph all dealers share them."""
    xs = [holder + 1 for holder in holders]
    numerator = 1
    for x in xs:
        numerator = numerator * x % P
    # c_j = prod_{m != j} x_m / (x_m - x_j) = (prod_m x_m) / (x_j * prod_{m != j} (x_m - x_j))
    denominators = [math.prod([other - x for other in xs if other != x], start=x) % P for x in xs]
    return tuple(numerator * inverse % P for inverse in _inverses(denominators))


def _inverses(values: Sequence[int]) -> list[int]:
    """Montgomery's trick: all inverses from one."""
    running, products = 1, []
    for value in values:
        products.append(running)
        running = running * value % P
    inverse = pow(running, -1, P)
    found = []
    for value, before in zip(reversed(values), reversed(products), strict=True):
        found.append(before * inverse % P)
        inverse = inverse * value % P
    return found[::-1]
