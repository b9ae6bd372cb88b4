"""`aimass client base` and `aimass model merge`, as people type them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.bases import own_bases
from aimass.proto.commands import main
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.support.bases import base_file, install_based
from tests.support.installed import see_too


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of one's own, and the task `based`."""
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    install_based(tmp_path / "python")
    see_too(tmp_path / "python", monkeypatch)
    yield
    sys.modules.pop("based", None)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_base_is_added_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = base_file(tmp_path / "My Layer.safetensors")
    added = told(capsys, "client", "base", "add", str(file))
    digest = Blob(file.read_bytes()).digest
    assert added == {"name": "my-layer", "digest": digest, "bytes": file.stat().st_size}
    assert told(capsys, "client", "base", "list") == [added]
    assert told(capsys, "client", "base", "remove", digest[:6])["removed"] == digest
    assert told(capsys, "client", "base", "list") == []
    assert main(["client", "base", "remove", digest[:6]]) == 4
    assert main(["client", "base", "list", "--dir", str(tmp_path / "nobody")]) == 4
    assert main(["client", "base", "add", str(tmp_path / "python" / "pyvenv.cfg")]) == 2


def test_a_model_is_merged_with_the_base_that_its_task_is_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, whole = tmp_path / "model.safetensors", tmp_path / "whole.safetensors"
    told(capsys, "client", "base", "add", str(base_file(tmp_path / "layer.safetensors")))
    model.write_bytes(first_model(load(locate("based")), 1))
    made = told(capsys, "model", "merge", str(model), str(whole), "--task", "based")
    assert made["digest"] == Blob(whole.read_bytes()).digest
    base = next(own_bases().all())
    names = set(Blob(model.read_bytes()).layout.by_name) | {
        f"hidden.{name}" for name in own_bases().open(base).layout.by_name
    }
    assert set(Blob(whole.read_bytes()).layout.by_name) == names
    assert (
        main(["model", "merge", str(model), str(tmp_path / "adapters"), "--task", "based", "--peft"]) == 2
    )  # has none
    told(capsys, "client", "base", "remove", base.digest)
    assert main(["model", "merge", str(model), str(whole), "--task", "based"]) == 4
    assert "aimass client base add" in capsys.readouterr().err
