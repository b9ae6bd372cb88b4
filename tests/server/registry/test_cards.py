"""A card says what its document says, and nothing in it can break out of its place."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.registry.entries import (
    Contributors,
    HeldOut,
    Interval,
    ModelVersion,
    Parent,
    Spent,
    VersionRun,
)
from aimass.proto.values import canonical_json, decode_canonical_json
from aimass.server.registry.cards import card_of
from tests.support.registries import version_of

WHOLE = msgspec.structs.replace(
    version_of("heart", 4),
    metrics={"auc": Interval(mean=0.9, rows=1_200.0, low=0.88, high=0.92), "loss": Interval(mean=0.3, rows=1_200.0)},
    held_out=HeldOut(digest="a" * 64),
    privacy=Spent(epsilon=2.5, delta=1e-5, unit="person", accountant="pld"),
    contributors=Contributors(kind="partners", members=7, fewest=5),
    run=VersionRun(run_id="b" * 32, name="study", rounds=30, transcript_head="c" * 64),
    parent=Parent(number=3, digest="d" * 64),
    licence="CC-BY-4.0",
)


def test_it_tells_metrics_privacy_contributors_and_origin() -> None:
    card = card_of(WHOLE)
    for line in (
        "# heart, version 4",
        "| auc | 0.9000 (0.8800 to 0.9200) | 1,200 |",
        "| loss | 0.3000 | 1,200 |",
        "| age | number | 0 to 120 |",
        "- Differential privacy: epsilon 2.5000 at delta 1e-05 for one person, by pld",
        "- 7 partners contributed, at least 5 in every round",
        f"- Run study, `{'b' * 32}`: 30 rounds",
        f"- Made from version 3, `{'d' * 64}`",
    ):
        assert line in card.splitlines(), line


def test_what_nobody_knows_is_said() -> None:
    card = card_of(version_of("heart", 1))
    assert "Nothing was measured." in card
    assert "- Differential privacy: nothing is promised: trained without differential privacy" in card
    assert "Licence: none was stated." in card
    assert "It cannot be served" not in card
    assert "cannot be served" in card_of(msgspec.structs.replace(version_of("heart", 1), schema=None))


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=60, unique=True), st.text(max_size=100))
def test_no_value_or_unit_breaks_out_of_its_cell(values: list[str], unit: str) -> None:
    schema = Schema(
        name="odd/1",
        columns=(
            Category(name="value", values=tuple(values)),
            Number(name="amount", minimum=0, maximum=1, unit=unit),
        ),
        label=Category(name="ill", values=("no", "yes")),
    )
    card = card_of(msgspec.structs.replace(version_of("heart", 1), schema=schema))
    rows = [line for line in card.splitlines() if line.startswith(("| value", "| amount"))]
    assert len(rows) == 2
    for row in rows:
        assert row.replace("\\|", "").count("|") == 4


def test_the_largest_schema_leaves_room_in_the_document() -> None:
    columns = tuple(
        Category(name=f"column {place}", values=tuple(f"{n}{'|' * 500}" for n in range(100))) for place in range(400)
    )
    schema = Schema(name="wide/1", columns=columns, label=Category(name="ill", values=("no", "yes")))
    version = msgspec.structs.replace(WHOLE, schema=schema)
    whole = msgspec.structs.replace(version, card=card_of(version))
    assert decode_canonical_json(ModelVersion, canonical_json(whole), "it") == whole
