"""What a data set on object storage is: numbered, immutable versions of a manifest over content-addressed shards.

A version is one document, committed by conditional create; the highest number is the newest. Its shards are Parquet
files named by their SHA-256, so that versions share those that did not change. Layout under a store's prefix:

    NAME/versions/00000001.json      a `DataSetManifest`; what stands here is whole
    NAME/shards/ab/SHA256.parquet    a shard
    NAME/splits/JOB/...              progress of a split that has not committed yet
    NAME/placement/00000001.json     where replicas stand, and how many
    NAME/quarantine/...              shards whose bytes were not what their name says
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from functools import reduce
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.column_statistics import ColumnStatistics, added
from aimass.proto.errors import BadInput
from aimass.proto.manifest import ColumnName, Salt, Schema, ShardManifest
from aimass.proto.names import Digest, Name
from aimass.proto.values import Value, decode_canonical_json

__all__ = [
    "RULES",
    "DataSetManifest",
    "DataSetName",
    "Lineage",
    "Quality",
    "ShardEntry",
    "Source",
    "SplitRule",
    "labels_of",
    "participant_of",
    "read_data_set",
    "read_name",
    "read_rule",
    "read_size",
    "salt_of",
    "shard_key",
    "shard_manifest",
    "split_prefix",
    "version_key",
    "version_of_key",
]

RULES: Final = """how rows are cut into shards; their order within a shard is the order of the sources:
  rows:N          so many rows each, one after the other
  size:BYTES      as many rows as a trainer holds in so many bytes: 64MB, 1GB
  hash:K          K shards by a hash of the row, so that equal rows stand together
  group:COLUMN    a shard for each value of a column; group:COLUMN:K deals the values to K shards
  stratified:K    K shards with each label's rows in equal numbers, to one
  files           a shard for each file"""
_RULE_FORMS: Final = {
    "rows": r"[1-9][0-9]{0,11}",
    "size": r"[1-9][0-9]{0,14}",
    "hash": r"[1-9][0-9]{0,5}",
    "group": r"[A-Za-z_][A-Za-z0-9_ .-]{0,62}(:[1-9][0-9]{0,5})?",
    "stratified": r"[1-9][0-9]{0,5}",
    "files": "",
}
_SIZES: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_SALT: Final = b"AIMass partition v1\0"
_VERSION_KEY: Final = re.compile(r"/versions/([0-9]{8})\.json\Z")

Count = Annotated[int, msgspec.Meta(ge=0)]


class SplitRule(Value, frozen=True):
    """How rows are cut into shards: a rule with its argument and seed, and what no shard may exceed.

    `most_bytes` counts as a trainer holds the rows, see `rows.Table`.
    """

    rule: Literal["rows", "size", "hash", "group", "stratified", "files"]
    argument: str = ""
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    most_rows: Annotated[int, msgspec.Meta(ge=1)] = 500_000
    most_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 << 20

    def __str__(self) -> str:
        return f"{self.rule}:{self.argument}" if self.argument else self.rule


class ShardEntry(Value, frozen=True):
    """One shard: its bytes by digest, and `participant` and `salt` as a partner's manifest has them.

    `participant` orders the sum and names the random streams, `salt` fixes the held-out rows: so a federated run over
    the same shards gives the same bits. `labels` counts rows by label.
    """

    number: Annotated[int, msgspec.Meta(ge=1)]
    participant: Name
    salt: Salt
    rows: Annotated[int, msgspec.Meta(ge=1)]
    size: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Digest
    labels: dict[str, Count]


class Source(Value, frozen=True):
    """A file that rows came from; a folder of images counts as one, by the digests of its files."""

    name: str
    size: Count
    sha256: Digest


class Lineage(Value, frozen=True):
    """Where a version comes from. `job` is the digest of all that decides its bytes; `tool` wrote them."""

    sources: tuple[Source, ...]
    job: Digest
    tool: str
    parent: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Quality(Value, frozen=True):
    """What was found on the way in. `findings` counts cells that do not fit the schema, by column.

    `dropped` rows have such a cell or no label, and stand in no shard. `duplicates` are rows equal to an earlier one;
    `leaked` rows are held out in a shard while an equal one is trained on, there or in another.
    """

    rows_read: Count
    dropped: Count
    findings: dict[str, Count]
    duplicates: Count
    leaked: Count


class DataSetManifest(Value, frozen=True, kw_only=True):
    """One version of a data set, whole and immutable.

    `held_out`, `held_out_by` and `person` are what `ShardManifest` has for each shard. `statistics` are by column, in
    the schema's order, label last. `created_at` is Unix time.
    """

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=99_999_999)]
    data_schema: Schema
    split: SplitRule
    held_out: Annotated[float, msgspec.Meta(ge=0, le=0.9)]
    held_out_by: Literal["stratified", "independent"] = "stratified"
    person: ColumnName | None = None
    shards: Annotated[tuple[ShardEntry, ...], msgspec.Meta(min_length=1)]
    rows: Annotated[int, msgspec.Meta(ge=1)]
    labels: dict[str, Count]
    statistics: tuple[ColumnStatistics, ...]
    quality: Quality
    lineage: Lineage
    licence: str
    created_at: float

    def __post_init__(self) -> None:
        if [shard.number for shard in self.shards] != list(range(1, len(self.shards) + 1)):
            raise ValueError("shards are not numbered from 1 on, in order")
        if len({shard.participant for shard in self.shards}) != len(self.shards):
            raise ValueError("two shards share a participant")
        if self.rows != sum(shard.rows for shard in self.shards):
            raise ValueError("`rows` is not the sum of the shards' rows")
        if self.labels != labels_of(self.shards):
            raise ValueError("`labels` is not the sum of the shards' labels")

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)


def labels_of(shards: Iterable[ShardEntry]) -> dict[str, int]:
    """Rows by label over all shards."""
    return reduce(added, (shard.labels for shard in shards), {})


class DataSetName(Value, frozen=True):
    """A data set as a person names it: `NAME` is its newest version, `NAME@3` the third."""

    name: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=99_999_999)] | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def read_name(text: str) -> DataSetName:
    """The data set that a person named `NAME` or `NAME@VERSION`; raises `BadInput`."""
    found = re.fullmatch(r"([a-z0-9][a-z0-9-]{0,62})(?:@([1-9][0-9]{0,7}))?", text)
    if found is None:
        raise BadInput(
            "not the name of a data set",
            code="dataset.name",
            value=text,
            limit="lower-case letters, digits and hyphens, with a version as in adult@3",
        )
    return DataSetName(name=found[1], version=int(found[2]) if found[2] else None)


def read_rule(text: str, seed: int = 0, most_rows: int | None = None, most_bytes: int | None = None) -> SplitRule:
    """The rule that a person wrote as `rule` or `rule:argument`; raises `BadInput` that lists all rules."""
    rule, _, argument = text.partition(":")
    if rule == "size" and argument:
        argument = str(read_size(argument))
    if rule not in _RULE_FORMS or not re.fullmatch(_RULE_FORMS[rule], argument):
        raise BadInput("no such rule for a split", code="dataset.rule", value=text, limit="\n" + RULES)
    bounds = {"most_rows": most_rows, "most_bytes": most_bytes}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return msgspec.convert({"rule": rule, "argument": argument, "seed": seed, **given}, SplitRule)


def read_size(text: str) -> int:
    """Bytes as a person writes them: `64MB`, `1GiB`, `500000`; raises `BadInput`."""
    found = re.fullmatch(r"([0-9]{1,15})\s*([KMG]I?B)?", text.strip().upper())
    if found is None or int(found[1]) == 0:
        raise BadInput("not a number of bytes", code="dataset.size", value=text, limit="such as 64MB or 1GiB")
    return int(found[1]) * _SIZES.get(found[2], 1)


def read_data_set(data: bytes, what: str) -> DataSetManifest:
    """Decode a version's document; raises `BadInput` with the path of the fault, and for one that somebody edited into
    another form."""
    return decode_canonical_json(DataSetManifest, data, what)


def participant_of(number: int) -> str:
    """The participant that a shard is by its number; in order of names shards are in order of numbers."""
    return f"p{number:06}"


def salt_of(seed: int, participant: str) -> str:
    """A participant's salt under a split's seed: public, as who knows both computes it, and right for rows that one
    hand deals out; it keeps nothing secret."""
    return hashlib.sha256(_SALT + struct.pack(">Q", seed) + participant.encode()).hexdigest()


def shard_manifest(data_set: DataSetManifest, shard: ShardEntry, uri: str) -> ShardManifest:
    """The manifest under which a trainer opens a shard whose bytes stand at `uri`."""
    return ShardManifest(
        name=data_set.name,
        data_schema=data_set.data_schema.name,
        uris=(uri,),
        format="parquet",
        participant=shard.participant,
        salt=shard.salt,
        held_out=data_set.held_out,
        split=data_set.held_out_by,
        person=data_set.person,
    )


def version_key(name: str, version: int) -> str:
    """Where a version's document stands in a store."""
    return f"{name}/versions/{version:08}.json"


def version_of_key(key: str) -> int | None:
    """The version whose document stands at `key`, None where it is no such place."""
    found = _VERSION_KEY.search(key)
    return int(found[1]) if found else None


def shard_key(name: str, sha256: str) -> str:
    """Where a shard stands in a store."""
    return f"{name}/shards/{sha256[:2]}/{sha256}.parquet"


def split_prefix(name: str, job: str) -> str:
    """Where the progress of a split stands until its version is committed."""
    return f"{name}/splits/{job}/"
