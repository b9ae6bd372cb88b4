"""`aimass explain run`: one run is told, several are compared, from what a server shows of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from aimass.explain.runs import ManyRuns, OneRun
from aimass.proto.commands import main
from tests.explain.runs.made import ended, plan
from tests.explain.runs.test_one_run import trained


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a run that trained, and others that ended."""
    views = {"last": trained(), "a": ended("a", plan(1), 0.8), "b": ended("b", plan(2), 0.7)}

    @contextlib.contextmanager
    def opened(_: Path) -> Iterator[object]:
        yield SimpleNamespace(run=lambda run: SimpleNamespace(view=views[run]))

    monkeypatch.setattr("aimass.proto.api.Federation.open", opened)


def ask(*runs: str, formats: str = "json,csv", out: Path) -> int:
    return main(["explain", "run", *runs, "--as", "scientist", "--out", str(out), "--formats", formats])


@pytest.mark.usefixtures("server")
def test_one_run_is_told_with_all_its_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("last", out=tmp_path / "out", formats="json,html") == 0
    found = OneRun.from_json((tmp_path / "out/run.json").read_bytes())
    said = capsys.readouterr().out
    assert all(line in said for line in found.describe())
    assert (tmp_path / "out/run.html").read_text().count("<article") == len(found.views())


@pytest.mark.usefixtures("server")
def test_several_runs_are_compared(tmp_path: Path) -> None:
    assert ask("a", "b", out=tmp_path / "out") == 0
    assert ManyRuns.from_json((tmp_path / "out/runs.json").read_bytes()).lineage.run == "a, b"
