"""Which shard a row goes to, where that hangs on the row itself: by its hash, by its group, or by its label in turn.

A dealer is asked for rows in the order of the sources, in batches of any size, and answers alike for each row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from aimass.proto.data_sets import SplitRule
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.manifest import Category, Schema
from aimass.proto.rows import Table, row_hashes

__all__ = ["Dealer", "Keys", "dealer_of", "group_column"]

Keys = npt.NDArray[np.int64]
_MOST_GROUPS: Final = 100_000
_BITS: Final = (1 << 64) - 1


class Dealer(Protocol):
    """Gives each row the key of its shard."""

    def deal(self, table: Table, groups: npt.NDArray[Any] | None) -> Keys:
        """Keys [rows]; `groups` are the texts of the column that `group_column` names."""
        ...

    def order(self, keys: Sequence[int]) -> list[int]:
        """Keys in the order of their shards."""
        ...

    def name(self, key: int) -> str:
        """The rows of a key, in a few words."""
        ...


def dealer_of(rule: SplitRule, schema: Schema) -> Dealer | None:
    """The dealer of a rule, None for a rule that cuts rows where they stand."""
    match rule.rule:
        case "hash":
            return _ByHash(int(rule.argument), rule.seed)
        case "group":
            shards = rule.argument.partition(":")[2]
            return _ByGroup(int(shards) if shards else None, rule.seed)
        case "stratified":
            return _InTurn(schema, int(rule.argument), rule.seed)
        case _:
            return None


def group_column(rule: SplitRule) -> str | None:
    """The column whose values stay together; it may stand beside the schema's."""
    return rule.argument.partition(":")[0] if rule.rule == "group" else None


class _ByHash:
    """A shard by the row's values, so that equal rows stand together."""

    def __init__(self, shards: int, seed: int) -> None:
        self._shards, self._seed = shards, seed

    def deal(self, table: Table, groups: npt.NDArray[Any] | None) -> Keys:
        prefixes = np.frombuffer(b"".join(each[:8] for each in row_hashes(table)), ">u8").astype(np.uint64)
        return _mixed(prefixes, self._seed, self._shards)

    def order(self, keys: Sequence[int]) -> list[int]:
        return sorted(keys)

    def name(self, key: int) -> str:
        return f"part {key + 1} of {self._shards} by hash"


class _ByGroup:
    """A shard for each value, in the order of their texts, or a shard of so many by the value's hash."""

    def __init__(self, shards: int | None, seed: int) -> None:
        self._shards, self._seed = shards, seed
        self._keys: dict[str, int] = {}
        self._values: list[str] = []

    def deal(self, table: Table, groups: npt.NDArray[Any] | None) -> Keys:
        if groups is None:
            return np.zeros(table.rows, np.int64)
        distinct, places = np.unique(groups.astype(str), return_inverse=True)
        return np.array([self._key(str(value)) for value in distinct], np.int64)[places]

    def _key(self, value: str) -> int:
        if self._shards is not None:
            key = self._seed.to_bytes(8, "big")
            digest = hashlib.blake2b(value.encode(), digest_size=8, key=key).digest()
            return int.from_bytes(digest, "big") % self._shards
        if value not in self._keys:
            self._keys[value] = len(self._values)
            self._values.append(value)
            if len(self._values) > _MOST_GROUPS:
                raise LimitExceeded(
                    "the column has too many values for a shard each",
                    code="dataset.groups",
                    value=len(self._values),
                    limit=_MOST_GROUPS,
                    cure="Deal the values to so many shards: group:COLUMN:100.",
                )
        return self._keys[value]

    def order(self, keys: Sequence[int]) -> list[int]:
        return sorted(keys) if self._shards is not None else sorted(keys, key=lambda key: self._values[key])

    def name(self, key: int) -> str:
        return f"part {key + 1} of {self._shards} by group" if self._shards is not None else repr(self._values[key])


class _InTurn:
    """Each label's rows in turn to all shards; where a label begins, the seed says."""

    def __init__(self, schema: Schema, shards: int, seed: int) -> None:
        if not isinstance(schema.label, Category):
            raise BadInput(
                "rows cannot be stratified by a label that is no category",
                code="dataset.rule",
                value=schema.label.name,
                cure="Choose another rule: hash:K deals rows of any kind.",
            )
        self._shards = shards
        self._next = _mixed(np.arange(len(schema.classes), dtype=np.uint64), seed, shards)

    def deal(self, table: Table, groups: npt.NDArray[Any] | None) -> Keys:
        labels = table.columns[table.schema.label.name]
        keys = np.empty(table.rows, np.int64)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            keys[rows] = (self._next[label] + np.arange(len(rows))) % self._shards
            self._next[label] = (self._next[label] + len(rows)) % self._shards
        return keys

    def order(self, keys: Sequence[int]) -> list[int]:
        return sorted(keys)

    def name(self, key: int) -> str:
        return f"part {key + 1} of {self._shards}, stratified"


def _mixed(values: npt.NDArray[np.uint64], seed: int, below: int) -> Keys:
    """Values to numbers below a bound under a seed, by the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 & _BITS)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(below)).astype(np.int64)
