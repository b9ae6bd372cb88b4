"""What a data set is: its manifest, how it and its split are named, where its parts stand."""

from __future__ import annotations

import msgspec
import pytest

from aimass.proto.column_statistics import CategoryStatistics, NumberStatistics
from aimass.proto.data_sets import (
    DataSetManifest,
    DataSetName,
    Lineage,
    Quality,
    ShardEntry,
    Source,
    SplitRule,
    participant_of,
    read_data_set,
    read_name,
    read_rule,
    salt_of,
    shard_key,
    shard_manifest,
    version_key,
    version_of_key,
)
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Number, Schema, read_shard_manifest, shard_manifest_text
from aimass.proto.values import canonical_json

SCHEMA = Schema(
    name="t/1",
    columns=(Number(name="age", minimum=0, maximum=120),),
    label=Category(name="y", values=("no", "yes")),
)


def entry(number: int, rows: int = 2) -> ShardEntry:
    name = participant_of(number)
    return ShardEntry(
        number=number,
        participant=name,
        salt=salt_of(0, name),
        rows=rows,
        size=100,
        sha256=f"{number:064x}",
        labels={"no": rows},
    )


def manifest(*shards: ShardEntry) -> DataSetManifest:
    rows = sum(shard.rows for shard in shards)
    return DataSetManifest(
        name="t",
        version=3,
        data_schema=SCHEMA,
        split=SplitRule(rule="rows", argument="2"),
        held_out=0.2,
        shards=shards,
        rows=rows,
        labels={"no": rows},
        statistics=(
            NumberStatistics(
                column="age", present=rows, missing=0, minimum=1.0, maximum=2.0, mean=1.5, squares=0.5, counts=(rows, 0)
            ),
            CategoryStatistics(column="y", present=rows, missing=0, counts={"no": rows}),
        ),
        quality=Quality(rows_read=rows, dropped=0, findings={}, duplicates=0, leaked=0),
        lineage=Lineage(sources=(Source(name="a.csv", size=10, sha256="0" * 64),), job="1" * 64, tool="aimass"),
        licence="CC BY 4.0",
        created_at=1.5e9,
    )


def test_a_manifest_is_read_as_it_was_written() -> None:
    written = manifest(entry(1), entry(2, 3))
    assert read_data_set(canonical_json(written), "t") == written
    assert written.size == 200


@pytest.mark.parametrize(
    "shards",
    [(entry(2),), (entry(1), entry(3)), (entry(1), msgspec.structs.replace(entry(2), participant="p000001")), ()],
)
def test_shards_that_contradict_one_another_are_no_manifest(shards: tuple[ShardEntry, ...]) -> None:
    fields = msgspec.to_builtins(manifest(entry(1)))
    fields |= {"shards": msgspec.to_builtins(shards), "rows": sum(shard.rows for shard in shards)}
    with pytest.raises(BadInput):
        read_data_set(canonical_json(fields), "t")


def test_rows_that_are_not_those_of_the_shards_are_refused() -> None:
    with pytest.raises(BadInput, match="rows"):
        read_data_set(canonical_json(manifest(entry(1))).replace(b'"rows":2,"shards"', b'"rows":3,"shards"'), "t")


def test_a_manifest_that_somebody_edited_is_refused() -> None:
    written = canonical_json(manifest(entry(1), entry(2, 3)))
    with pytest.raises(BadInput, match="labels"):
        read_data_set(written.replace(b'"labels":{"no":5}', b'"labels":{"no":4,"yes":1}'), "t")
    with pytest.raises(BadInput, match="canonical"):
        read_data_set(written.replace(b'"licence":', b' "licence":'), "t")


def test_a_trainer_opens_a_shard_under_the_entrys_participant_and_salt() -> None:
    held = shard_manifest(manifest(entry(1)), entry(1), "t.parquet")
    assert (held.participant, held.salt, held.held_out, held.uris) == ("p000001", entry(1).salt, 0.2, ("t.parquet",))
    assert read_shard_manifest(shard_manifest_text(msgspec.structs.asdict(held), "t"), "t") == held


@pytest.mark.parametrize(("text", "version"), [("adult", None), ("adult@3", 3), ("a-1@12345678", 12345678)])
def test_a_data_set_is_named_with_or_without_its_version(text: str, version: int | None) -> None:
    name = read_name(text)
    assert (name, str(name)) == (DataSetName(name=text.partition("@")[0], version=version), text)


@pytest.mark.parametrize("text", ["", "Adult", "adult@", "adult@0", "adult@03", "adult@123456789", "a/b", "adult@3\n"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_name(text)
    assert refused.value.code == "dataset.name"


@pytest.mark.parametrize(
    ("text", "rule", "argument"),
    [
        ("rows:1000", "rows", "1000"),
        ("size:64MB", "size", "64000000"),
        ("size:1KiB", "size", "1024"),
        ("hash:8", "hash", "8"),
        ("group:native country", "group", "native country"),
        ("group:person:4", "group", "person:4"),
        ("stratified:4", "stratified", "4"),
        ("files", "files", ""),
    ],
)
def test_a_rule_is_read_with_its_argument(text: str, rule: str, argument: str) -> None:
    assert read_rule(text, seed=7) == SplitRule(rule=rule, argument=argument, seed=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rows",
        "rows:0",
        "rows:1e3",
        "size:",
        "size:0",
        "size:many",
        "hash:0",
        "group",
        "group:a:0",
        "files:2",
        "alphabetical:3",
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_rule(text)
    assert refused.value.code in ("dataset.rule", "dataset.size")


def test_shards_in_order_of_their_participants_are_in_order_of_their_numbers() -> None:
    names = [participant_of(number) for number in (1, 2, 10, 99_999, 100_000)]
    assert names == sorted(names)


def test_a_version_is_known_by_its_key() -> None:
    assert version_key("adult", 3) == "adult/versions/00000003.json"
    assert version_of_key(version_key("adult", 3)) == 3
    assert version_of_key(shard_key("adult", "ab" * 32)) is None
