"""The page of parameters: layers, one of them by the address with histograms of models that are kept, relations, way."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.views.parameters import _counts, _some
from aimass.explain.runs.layers import layers
from aimass.explain.work import Work
from aimass.proto.errors import Stopped
from aimass.proto.resuming import Progress
from aimass.proto.tensors import encode_numpy
from aimass.proto.views import ModelView, RunState, RunView
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs import made

RUN = "a" * 32


def trained(rounds: int, **summary: Any) -> RunView:
    random = np.random.default_rng(2)
    steps = [
        made.step(n, n + 1, summary=made.summary({"a": 1.0, "b": 2.0}, {"a": n + 1, "b": 3.0}, random.normal(size=128)))
        for n in range(rounds)
    ]
    return made.run(steps, run_id=RUN, **({"round": rounds, "rounds": rounds} | summary))


def kept(round_: int, data: bytes = b"", *, keeps: bool = True) -> ModelView:
    digest = hashlib.sha256(data or str(round_).encode()).hexdigest()
    return ModelView(
        digest=digest, bytes=len(data), run_id=RUN, run_name="heart", task="heart", step=round_, round=round_,
        committed_at=float(round_), kept=keeps,
    )  # fmt: skip


class KeepingServer(ToldServer):
    """It hands out the bytes of its models too."""

    def __init__(self, run: RunView, blobs: dict[int, bytes]) -> None:
        super().__init__(run, models=[kept(round_, data) for round_, data in blobs.items()])
        self.blobs = {hashlib.sha256(data).hexdigest(): data for data in blobs.values()}
        self.exported = 0

    def export(self, digest: str, path: Path, progress: Progress) -> Path:
        self.exported += 1
        progress(1, 2)
        path.write_bytes(self.blobs[digest])
        return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shown(opened: Opened, server: ToldServer, **address: str) -> AppTest:
    page = opened("parameters", seams=seams(server), run=RUN, **address)
    while page.get("progress"):
        page.run()
    assert not page.exception
    return page


def test_a_run_by_the_address_with_its_layers_relations_and_way(opened: Opened) -> None:
    page = shown(opened, ToldServer(trained(5)))
    assert "From the first model a has moved furthest (5), b least (3)." in said(page)
    assert [one.value for one in page.subheader] == [
        "Layers over the rounds", "One layer", "Relations between parameters", "Way of the model",
    ]  # fmt: skip


def test_a_layer_by_the_address_and_one_that_is_gone(opened: Opened) -> None:
    page = shown(opened, ToldServer(trained(3)), layer="b")
    assert "b: median 0 after round 1" in said(page)
    assert "app.gone" in said(shown(opened, ToldServer(trained(3)), layer="c"))


def test_histograms_are_of_the_models_that_the_server_keeps_each_fetched_once(opened: Opened) -> None:
    blobs = {n: encode_numpy({"a": np.full(8, n, np.float32), "b": np.zeros(2, np.float32)}) for n in (1, 3)}
    server = KeepingServer(trained(3), blobs)
    page = shown(opened, server, layer="a")
    assert "a has 8 weights; of 2 rounds the model is kept." in said(page)
    page.selectbox(key="layer").select("b").run()
    while page.get("progress"):
        page.run()
    assert "b has 2 weights" in said(page)
    assert server.exported == 2


def test_a_fetch_of_a_kept_model_ends_with_its_job() -> None:
    run = trained(3)
    server = KeepingServer(run, {1: encode_numpy({"a": np.ones(1, np.float32)})})
    here: Any = SimpleNamespace(sources=SimpleNamespace(federation=lambda: server))
    with pytest.raises(Stopped):
        _counts(here, layers(run), "a", Work(stopped=lambda: server.exported > 0))


def test_without_a_kept_model_the_page_says_so_and_shows_the_rest(opened: Opened) -> None:
    page = shown(opened, ToldServer(trained(3), models=[kept(1, keeps=False)]))
    assert "No weight to count" in said(page)
    assert "Way of the model" in [one.value for one in page.subheader]


def test_a_run_that_kept_nothing_says_why(opened: Opened) -> None:
    page = shown(opened, ToldServer(made.run([made.step(0, 1)], run_id=RUN)))
    assert page.info
    assert not page.subheader


def test_one_round_has_no_way_yet_and_a_live_run_says_which_round_this_is(opened: Opened) -> None:
    page = shown(opened, ToldServer(trained(1, state=RunState.RUNNING)))
    assert "A way through the parameters needs two rounds" in said(page)
    assert "The run is running: this is round 1 of 1." in said(page)


def test_models_are_the_first_the_last_and_some_between_and_of_a_round_the_last() -> None:
    assert [one.round for one in _some([kept(n) for n in range(1, 101)])] == [1, 21, 41, 60, 80, 100]
    assert [one.round for one in _some([kept(3), kept(1)])] == [1, 3]
    assert _some([]) == []
