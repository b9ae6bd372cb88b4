"""What a driver reads in the place of a sum where some of those who send may lie: a rule's value, block by block.

Memory is a few blocks and, for rules of whole updates, n^2 numbers: it grows with neither the model nor the partners.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution
from aimass.proto.elements import INTEGERS
from aimass.proto.pages import PartReader
from aimass.proto.robust import check_robust
from aimass.proto.sent import sent_with
from aimass.proto.tensors import Array
from aimass.server.aggregation.models import ahead
from aimass.server.aggregation.rules import OF_COORDINATES, OF_UPDATES, clipped_mean, gram_of, median, squares_of

__all__ = ["RobustSums", "Senders", "Singles"]

_BLOCK: Final = 1 << 18
"""Elements of all senders together that are worked on at once: few enough to stay in a core's cache."""
_MAPPED: Final = 64 << 20
"""Bytes of all contributions together that stay in memory where their maps keep no files."""


class Senders(Protocol):
    """The updates that a rule looks at, in an order that is the same wherever it is computed."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape of a group's tensors."""
        ...

    def rows(self, group: str, tensor: str, part: slice, among: Sequence[int]) -> Array:
        """float64 [len(among), part], the caller's own: some elements of the flattened tensor, a row for each sender
        in `among`."""
        ...


class Singles:
    """Contributions one by one, each with its codec; each counts once, whatever its weight."""

    def __init__(self, contributions: Sequence[Contribution], codecs: Sequence[Codec | None] = ()) -> None:
        """Without `codecs` all are as they are."""
        self._sent = sent_with(contributions, codecs)
        self._window = _MAPPED // max(1, len(contributions))
        self._threads = threading.local()

    def __len__(self) -> int:
        return len(self._sent)

    def forms(self, group: str) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """As the first has them: they were all checked against the same."""
        return self._sent[0].forms(group)

    def rows(self, group: str, tensor: str, part: slice, among: Sequence[int]) -> Array:
        """See `Senders`."""
        if not hasattr(self._threads, "read"):
            self._threads.read = PartReader(self._window)
        made = np.empty((len(among), part.stop - part.start))
        for row, sender in zip(made, among, strict=True):
            self._sent[sender].elements(group, tensor)(self._threads.read, part, row)
        return made


class RobustSums:
    """A rule's value over the senders' updates, with a weight of one.

    Integers, counters of batches, are no part of a distance or a norm, in which they would outweigh everything else:
    they move by their median under every rule.
    """

    def __init__(self, senders: Senders, rule: str, tolerated: int) -> None:
        """Raises `BadInput` where so few senders are too few for the rule to withstand so many that lie."""
        check_robust(rule, tolerated, len(senders), "Bring more together, or plan for fewer that lie.")
        self._senders, self._rule, self._tolerated = senders, rule, tolerated
        self._everybody = range(len(senders))
        self._stretch = max(1, _BLOCK // len(senders))
        self._once = threading.Lock()
        self._coefficients: dict[str, Array] = {}

    def weight(self, group: str) -> float:
        """One: the value is a mean already."""
        return 1.0

    def tensors(self, group: str) -> tuple[str, ...]:
        """Names of a group's tensors."""
        return tuple(self._senders.forms(group))

    def total(self, group: str, tensor: str) -> Array:
        """float64: the rule's value of a tensor."""
        return self.part(group, tensor, slice(None)).reshape(self._senders.forms(group)[tensor][1])

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor; how it is cut decides no bit."""
        dtype, shape = self._senders.forms(group)[tensor]
        start, stop, _ = part.indices(math.prod(shape))
        made = np.empty(max(0, stop - start))
        for first in range(start, stop, self._stretch):
            stretch = slice(first, min(first + self._stretch, stop))
            made[first - start : stretch.stop - start] = self._value(group, tensor, dtype, stretch)
        return made

    def _value(self, group: str, tensor: str, dtype: str, stretch: slice) -> Array:
        if dtype in INTEGERS:
            return median(self._senders.rows(group, tensor, stretch, self._everybody))
        if self._rule in OF_COORDINATES:
            values = self._senders.rows(group, tensor, stretch, self._everybody)
            return OF_COORDINATES[self._rule](values, self._tolerated)
        coefficients = self.coefficients(group)
        among = np.flatnonzero(coefficients).tolist()
        total = np.zeros(stretch.stop - stretch.start)
        for row, sender in zip(self._senders.rows(group, tensor, stretch, among), among, strict=True):
            total += row * coefficients[sender]
        return total

    def coefficients(self, group: str) -> Array:
        """float64 [n]: what each update counts with under a rule of whole updates."""
        with self._once:
            if group not in self._coefficients:
                self._coefficients[group] = self._looked_at(group)
            return self._coefficients[group]

    def _looked_at(self, group: str) -> Array:
        if self._rule == "clipped":
            return clipped_mean(self._added_up(group, squares_of))
        return OF_UPDATES[self._rule](self._added_up(group, gram_of), self._tolerated)

    def _added_up(self, group: str, function: Callable[[Array], Array]) -> Array:
        """The sum of `function(rows)` over all floating elements, in stretches that n alone decides."""
        total: Array = np.zeros(())
        for tensor, (dtype, shape) in self._senders.forms(group).items():
            count = 0 if dtype in INTEGERS else math.prod(shape)

            def of_stretch(first: int, tensor: str = tensor, count: int = count) -> Array:
                part = slice(first, min(first + self._stretch, count))
                return function(self._senders.rows(group, tensor, part, self._everybody))

            for made in ahead(of_stretch, range(0, count, self._stretch)):
                total = total + made
        return total
