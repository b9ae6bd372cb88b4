"""A data set's manifest as text: what is written is what is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.manifest import read_shard_manifest, shard_manifest_text

FIELDS: dict[str, Any] = {
    "name": "heart", "data_schema": "heart/1", "uris": ["x.csv"], "format": "csv", "participant": "north",
    "salt": "00" * 32, "held_out": 0.25, "person": None, "node_config": {},
}  # fmt: skip
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
VALUES = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@given(
    uris=st.lists(TEXT.filter(lambda uri: "://" not in uri), min_size=1, max_size=3),
    node=st.dictionaries(TEXT, VALUES, max_size=4),
)
def test_what_is_written_is_what_is_read(uris: list[str], node: dict[str, Any]) -> None:
    fields = FIELDS | {"uris": uris, "node_config": node, "format": "files"}
    read = read_shard_manifest(shard_manifest_text(fields, "it"), "it")
    assert (list(read.uris), read.node_config, read.held_out, read.person) == (uris, node, 0.25, None)
    person = read_shard_manifest(shard_manifest_text(FIELDS | {"person": "who is it"}, "it"), "it")
    assert person.person == "who is it"


@pytest.mark.parametrize("wrong", [{"person": "x", "format": "files"}, {"uris": []}, {"salt": "secret"}])
def test_what_could_not_be_read_is_refused_before_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        shard_manifest_text(FIELDS | wrong, "it")
