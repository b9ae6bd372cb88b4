"""A schema may grow from version to version, and never means another thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.proto.errors import Refused
from aimass.proto.manifest import Category, Column, Image, Number, Schema, Text
from aimass.proto.objects import open_objects
from aimass.server.datasets.evolution import check_evolution, refusals
from tests.support.data_sets import make, toy_rows, write_csv

AGE = Number(name="age", minimum=0, maximum=100, unit="years", missing_values=(-1.0,))
WARD = Category(name="ward", values=("a", "b"))
SCAN = Image(name="scan", shape=(2, 2))
NOTE = Text(name="note", longest=50)
ILL = Category(name="ill", values=("no", "yes"))
BEFORE = Schema(name="t/1", columns=(AGE, WARD, SCAN, NOTE), label=ILL)


def with_(column: Column, **changes: Any) -> Schema:
    changed = msgspec.structs.replace(column, **changes)
    if column is ILL:
        return msgspec.structs.replace(BEFORE, name="t/2", label=changed)
    columns = tuple(changed if each is column else each for each in BEFORE.columns)
    return msgspec.structs.replace(BEFORE, name="t/2", columns=columns)


def added(column: Column) -> Schema:
    return msgspec.structs.replace(BEFORE, name="t/2", columns=(column, *BEFORE.columns))


@pytest.mark.parametrize(
    "after",
    [
        BEFORE,
        msgspec.structs.replace(BEFORE, name="t/7"),
        with_(AGE, maximum=120.0),
        with_(AGE, minimum=-5.0),
        with_(WARD, values=("a", "b", "c")),
        with_(NOTE, longest=60),
        with_(ILL, values=("no", "yes", "unclear")),
        added(Number(name="new", minimum=0, maximum=1)),
        added(Category(name="new", values=("x",))),
    ],
)
def test_a_schema_may_grow(after: Schema) -> None:
    check_evolution("t", BEFORE, after)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (msgspec.structs.replace(with_(AGE, maximum=120.0), name="t/1"), "higher number"),
        (msgspec.structs.replace(BEFORE, name="u/2"), "another schema"),
        (msgspec.structs.replace(BEFORE, name="t/2", columns=BEFORE.columns[1:]), "age is gone"),
        (with_(AGE, maximum=90.0), "narrower"),
        (with_(AGE, unit="months"), "in months, and was in years"),
        (with_(AGE, missing_values=(-1.0, 0.0)), "stand for a missing age"),
        (with_(AGE, required=True), "may not be missing"),
        (with_(WARD, values=("b", "a")), "another order"),
        (with_(WARD, values=("a",)), "gone"),
        (with_(WARD, missing_values=("?",)), "stand for a missing ward"),
        (with_(SCAN, shape=(4, 4)), "another shape"),
        (with_(NOTE, longest=10), "as long"),
        (with_(ILL, values=("yes", "no")), "another order"),
        (with_(ILL, name="sick"), "the label is sick"),
        (msgspec.structs.replace(BEFORE, name="t/2", label=Number(name="ill", minimum=0, maximum=1)), "another kind"),
        (added(Number(name="new", minimum=0, maximum=1, required=True)), "new and may not be missing"),
        (added(Image(name="new", shape=(1, 1))), "new and may not be missing"),
    ],
)
def test_what_would_mean_another_thing_is_refused_and_named(after: Schema, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        check_evolution("t", BEFORE, after)
    assert refused.value.code == "dataset.schema_change"


def test_all_that_speaks_against_it_is_named_at_once() -> None:
    after = msgspec.structs.replace(
        with_(AGE, maximum=50.0, required=True), label=Category(name="ill", values=("yes",))
    )
    assert len(tuple(refusals(BEFORE, after))) == 3


def test_a_version_under_a_schema_that_may_not_follow_is_not_made(tmp_path: Path) -> None:
    store = open_objects(f"file://{tmp_path}/store")
    path = write_csv(tmp_path / "a.csv", toy_rows(20))
    first = make(store, [path], tmp_path / "s").manifest
    columns = first.data_schema.columns
    wider = msgspec.structs.replace(columns[0], maximum=200.0)
    after = msgspec.structs.replace(first.data_schema, name="toy/2", columns=(wider, *columns[1:]))
    assert make(store, [path], tmp_path / "s2", schema=after).manifest.version == 2
    with pytest.raises(Refused):
        make(store, [path], tmp_path / "s3", schema=first.data_schema)
