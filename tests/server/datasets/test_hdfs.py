"""Data sets on HDFS as a person types them: the same version as on local files, and copies that read on without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.commands import main
from aimass.proto.values import canonical_json
from tests.support.data_sets import TOY, toy_rows, write_csv
from tests.support.webhdfs.faults import Fault, Kind
from tests.support.webhdfs.server import Cluster


def told(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> Any:
    assert main(["data", *command.split(), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_split_over_broken_links_commits_what_local_files_hold_and_a_copy_outlives_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "toy.csv", toy_rows(35))
    (tmp_path / "toy.json").write_bytes(canonical_json(TOY))
    split = "split toy toy.csv --schema toy.json --split rows:10 --store"
    told(capsys, f"{split} file://{tmp_path}/store")
    with Cluster(2) as cluster:
        for number in range(3):
            cluster.faults.add(
                Fault("RENAME", Kind.LOST),
                Fault("CREATE", Kind.SHORT, data=True, at_byte=number),
                Fault("OPEN", Kind.CUT),
            )
        assert told(capsys, f"{split} {cluster.url}data")["shards"] == 4
        assert not cluster.faults.left
        files = {path.removeprefix("/data/"): data for path, data in cluster.namespace.files().items()}
        shards = {path: data for path, data in files.items() if "/shards/" in path}
        assert len(shards) == 4
        assert all((tmp_path / "store" / path).read_bytes() == data for path, data in shards.items())
        assert told(capsys, f"replicate toy --store {cluster.url}data --to file://{tmp_path}/copy")["left"]["good"] == 8
        path, data = next(iter(shards.items()))
        cluster.namespace.status(f"/data/{path}").data[0] ^= 1
        assert told(capsys, f"verify toy --store {cluster.url}data", code=8)["survey"]["false"] == 1
        assert told(capsys, f"repair toy --store {cluster.url}data")["mended"][0]["outcome"] == "copied"
        assert cluster.namespace.files()[f"/data/{path}"] == data
    assert told(capsys, f"describe toy --store file://{tmp_path}/copy")["rows"] == 35
