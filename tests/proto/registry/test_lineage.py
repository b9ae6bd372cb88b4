"""Who came from whom, as a tree and as a graph."""

from __future__ import annotations

import json

import msgspec

from aimass.proto.registry.entries import Parent, VersionRun
from aimass.proto.registry.lineage import as_dot, as_text, lineage_of
from aimass.proto.registry.reader import Resolved
from tests.support.registries import version_of


def found(number: int, parent: int = 0, data_set: str = "") -> Resolved:
    run = VersionRun(run_id="a" * 32, name=f"run-{number}", rounds=1, transcript_head="", data_set=data_set)
    version = msgspec.structs.replace(version_of("heart", number), run=run)
    if parent:
        version = msgspec.structs.replace(version, parent=Parent(number=parent, digest="0" * 64))
    return Resolved(version, f"{number:064}", "olga")


LINEAGE = lineage_of("heart", [found(4, 2), found(3, 1), found(2, 1, "adult@3"), found(1)], {"champion": 4})


def test_each_version_stands_below_its_parent() -> None:
    assert as_text(LINEAGE).splitlines() == [
        "heart@1 from run run-1, by olga",
        "└ heart@2 from run run-2 over adult@3, by olga",
        "  └ heart@4 [champion] from run run-4, by olga",
        "└ heart@3 from run run-3, by olga",
    ]


def test_a_version_whose_parent_is_not_believed_is_a_root() -> None:
    assert as_text(lineage_of("heart", [found(3, 2)], {})) == "heart@3 from run run-3, by olga\n"


def test_a_graph_has_an_edge_for_each_parent_and_data_set() -> None:
    lines = as_dot(LINEAGE).splitlines()
    assert {"  v1 -> v2;", "  v1 -> v3;", "  v2 -> v4;", '  "adult@3" -> v2 [style=dashed];'} <= set(lines)
    assert json.loads(lines[3].partition("label=")[2].removesuffix("];")).startswith("heart@1")
