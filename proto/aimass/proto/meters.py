"""Counting what a service does, for whoever watches it: plain numbers in memory, handed to the parts that work.

They cost a dictionary's entry to count and know nothing of who reads them; `exposition` shows them to Prometheus. Label
values are bounded: those beyond a meter's `most`, and what is no short name, count as `other`. So nobody makes a
meter grow by inventing names.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

__all__ = ["SECONDS", "Count", "Meter", "Reading", "Spread", "meters_of"]

T = TypeVar("T")
Labels = tuple[str, ...]
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_MOST: Final = 64
SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0)
"""Upper bounds of durations: from a flush of the disk to a step of hours."""


class _Labelled:
    def __init__(self, name: str, text: str, labels: Labels, most: int) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._most = most

    def _key(self, labels: Labels, held: Mapping[Labels, object]) -> Labels:
        """The labels as they are counted. A set that is held was checked when it came."""
        if labels in held:
            return labels
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        if len(held) >= self._most or not all(_NAME.fullmatch(label) for label in labels):
            return ("other",) * len(labels)
        return labels


class Count(_Labelled):
    """A number by labels: a `counter` grows, a `gauge` moves both ways. Added to by the event loop alone."""

    def __init__(
        self, name: str, text: str, *labels: str, kind: Literal["counter", "gauge"] = "counter", most: int = _MOST
    ) -> None:
        super().__init__(name, text, labels, most)
        self.kind = kind
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Add `by` under `labels`, one for each of the meter's."""
        key = self._key(labels, self._values)
        self._values[key] = self._values.get(key, 0) + by

    def read(self) -> Mapping[Labels, float]:
        """A copy, which another thread may take."""
        return self._values.copy()


@dataclasses.dataclass(slots=True)
class _Buckets:
    counts: list[int]
    total: float = 0.0


class Spread(_Labelled):
    """How values spread over buckets, by labels. Each set of labels is observed by one thread."""

    def __init__(
        self, name: str, text: str, *labels: str, bounds: Sequence[float] = SECONDS, most: int = _MOST
    ) -> None:
        super().__init__(name, text, labels, most)
        self.bounds = tuple(bounds)
        self._values: dict[Labels, _Buckets] = {} if labels else {(): self._empty()}

    def _empty(self) -> _Buckets:
        return _Buckets([0] * (len(self.bounds) + 1))

    def observe(self, value: float, *labels: str) -> None:
        """Count `value` under `labels`."""
        key = self._key(labels, self._values)
        held = self._values.get(key)
        if held is None:
            held = self._values[key] = self._empty()
        held.counts[bisect.bisect_left(self.bounds, value)] += 1
        held.total += value

    @contextlib.contextmanager
    def timing(self, *labels: str) -> Iterator[None]:
        """Observe the seconds of the block, also of one that fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began, *labels)

    def timed(self, function: Callable[..., T], *labels: str) -> Callable[..., T]:
        """`function`, with the seconds of each call observed, also of one that fails."""

        def measured(*args: Any) -> T:
            with self.timing(*labels):
                return function(*args)

        return measured

    def read(self) -> Mapping[Labels, tuple[tuple[int, ...], float]]:
        """Counts by bucket, the last for what exceeds every bound, and the total, by labels."""
        return {labels: (tuple(held.counts), held.total) for labels, held in self._values.copy().items()}


Meter = Count | Spread


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """A number that is looked up when somebody asks, by the values of `labels`."""

    name: str
    text: str
    values: Mapping[Any, float]
    labels: Labels = ()

    @staticmethod
    def of(name: str, text: str, value: float) -> Reading:
        """One without labels."""
        return Reading(name, text, {(): value})


def meters_of(meters: object) -> tuple[Meter, ...]:
    """The meters that an object holds, in order, those of objects of meters in it with them."""
    found: list[Meter] = []
    for value in vars(meters).values():
        found += [value] if isinstance(value, Count | Spread) else meters_of(value)
    return tuple(found)
