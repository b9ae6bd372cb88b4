"""Contributions that are kept apart: as blobs that outlive the spool, and are not written a second time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimass.proto.contribution import Contribution, Group, decode_contribution
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.server.aggregation.collected import Collected

DATA = Contribution({"reply": Group(1.0, {"w": np.arange(4.0)})}, {}, {}).encode()


def collected(folder: Path) -> Collected:
    path = folder / "spool" / "run-0-east"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(DATA)
    made = {"east": decode_contribution(Blob(DATA))}
    return Collected(made, FileBlobs(folder / "blobs"), {}, {"east": path}, {"east": Blob(DATA).digest})


def test_what_is_kept_is_the_same_file_and_stays_when_the_spool_lets_go_of_it(tmp_path: Path) -> None:
    held = collected(tmp_path)
    for _ in range(2):  # a step that is reduced again keeps it again
        digest = held.keep("east")
        assert digest == Blob(DATA).digest
        assert [path.name for path in (tmp_path / "spool").iterdir()] == ["run-0-east"]
    assert held.paths["east"].stat().st_nlink == 2
    held.paths["east"].unlink()
    assert FileBlobs(tmp_path / "blobs").open(digest) == DATA


def test_where_files_have_one_name_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    held = collected(tmp_path)
    assert held.keep("east") == Blob(DATA).digest
    assert held.paths["east"].stat().st_nlink == 1
    assert FileBlobs(tmp_path / "blobs").open(Blob(DATA).digest) == DATA
