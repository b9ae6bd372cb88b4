"""A task on a frozen base in real processes: who lacks the base fetches it once, and no update carries it."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.proto.api import Federation
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model, load, locate
from aimass.proto.views import RunView
from aimass.server.simulate import simulate
from tests.support.bases import base_file, install_based
from tests.support.datasets import dataset
from tests.support.hospitals import heart_plan
from tests.support.installed import see_too

WITH, WITHOUT = PARTNERS = ("cleveland", "long-beach")


def _open(house: House, rows: Path, digest: str) -> None:
    for name in PARTNERS:
        house.permit(name, "based", digest, ["auc"])
        salt = hashlib.sha256(name.encode()).hexdigest()
        house.run(
            "client", "data", "add", "heart", "--dir", name, "--schema", "heart/1", "--uri",
            str(rows / f"{name}.parquet"), "--format", "parquet", "--salt", salt,
        )  # fmt: skip


def _run(house: House, plan: Path, *, base: bool) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(plan, base=base).wait()


@pytest.mark.slow
def test_a_base_reaches_who_lacks_it_once_and_the_run_ends_in_the_bits_of_the_simulated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, file, plan = dataset("heart"), base_file(tmp_path / "layer.safetensors"), tmp_path / "plan.toml"
    python = install_based(tmp_path / "python")
    see_too(tmp_path / "python", monkeypatch)
    monkeypatch.delenv("AIMASS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan.write_text(heart_plan("based", quorum=2).replace('task = "heart"', 'task = "based"'))
    source = locate("based")
    with House(tmp_path / "house", python=str(python)) as house:
        house.found(PARTNERS)
        _open(house, rows, source.digest)
        added = house.run("client", "base", "add", str(file), "--dir", WITH)
        assert added == house.run("client", "base", "add", str(file))
        for name in PARTNERS:
            house.start_partner(name)
        views = [_run(house, plan, base=True), _run(house, plan, base=False)]
        log = (house.folder / f"{WITHOUT}.log").read_text()
        assert [view.summary.state for view in views] == ["finished"] * 2, views[0].summary.reason
        assert len(re.findall("the base layer was fetched", log)) == 1
        assert house.run("client", "base", "list", "--dir", WITHOUT) == [added]
        task, blobs = load(source), FileBlobs(tmp_path / "simulated")
        start = first_model(task, views[0].plan.seed)
        assert views[0].plan.base == source.base
        assert len(start) < source.base.bytes  # type: ignore[union-attr]
        blobs.put([start])
        assert (
            views[0].summary.model
            == simulate(views[0].plan, task, read_shards(house.folder, PARTNERS, task), blobs).model
        )
    sys.modules.pop("based", None)
