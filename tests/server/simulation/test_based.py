"""A simulation of a task on a frozen base: the person's own base, and no other than the task's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aimass.proto.bases import own_bases
from aimass.proto.errors import NotFound, Refused
from aimass.proto.sharding import read_split
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState
from aimass.server.simulation.begin import begin, completed
from aimass.server.simulation.folder import Folder
from aimass.server.simulation.partner import Bench
from aimass.server.simulation.site import InFolder
from tests.support.bases import base_file, install_based
from tests.support.installed import see_too
from tests.support.simulations import finished, heart_draft, shards_of

DRAFT = msgspec.structs.replace(heart_draft(rounds=1), task="based")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(tmp_path_factory.mktemp("shards"), "heart", read_split("natural", None, 0, 2))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of one's own, and the task `based`."""
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    install_based(tmp_path / "python")
    see_too(tmp_path / "python", monkeypatch)
    yield
    sys.modules.pop("based", None)


def test_only_what_is_beside_the_base_is_in_the_model_that_comes_of_it(tmp_path: Path, shards: Path) -> None:
    folder = Folder(tmp_path / "simulation")
    with pytest.raises(NotFound, match="layer"):
        completed(DRAFT, folder.blobs)
    base = own_bases().add("layer", base_file(tmp_path / "file"))
    plan = completed(DRAFT, folder.blobs)
    assert plan.base == base
    begin(folder, plan, shards, None)
    run = finished(folder)
    assert run.state is RunState.FINISHED, run.reason
    last, start = (Blob(folder.blobs.open(digest)) for digest in (run.model, plan.model))
    assert last.layout.shapes() == start.layout.shapes()
    assert "output.weight" in last.layout.by_name
    assert "hidden.weight" not in last.layout.by_name


def test_a_plan_with_another_base_than_its_task_is_not_begun_with(tmp_path: Path, shards: Path) -> None:
    folder = Folder(tmp_path / "simulation")
    own_bases().add("layer", base_file(tmp_path / "file"))
    other = own_bases().add("layer", base_file(tmp_path / "file", seed=2))
    begin(folder, msgspec.structs.replace(completed(DRAFT, folder.blobs), base=other), shards, None)
    with pytest.raises(Refused) as caught:
        Bench(InFolder(folder.path)())
    assert caught.value.code == "task.base"
