"""What `aimass run` prints, of a run that a server tells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from aimass.proto import api
from aimass.proto.commands import main
from aimass.proto.step import StepKind
from aimass.proto.traffic import Moved
from aimass.proto.views import SlotState, StepView


def step(index: int) -> StepView:
    return StepView(
        index=index, kind=StepKind.TRAIN, round=index, purpose="", state="committed", opened_at=0.0, deadline_at=1.0,
        slots={"north": SlotState.COUNTED},
    )  # fmt: skip


@pytest.fixture
def long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    view = SimpleNamespace(
        summary={}, moved=Moved(), disk_bytes=0, participants=(), origin=None, outcome=None,
        steps=tuple(step(index) for index in range(1_234)),
    )  # fmt: skip

    @contextlib.contextmanager
    def opened(_: object) -> Iterator[object]:
        yield SimpleNamespace(run=lambda _: SimpleNamespace(view=view))

    monkeypatch.setattr(api.Federation, "open", opened)


@pytest.mark.usefixtures("long_run")
def test_of_a_long_run_the_last_steps_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "show", "last", "--as", "somebody"]) == 0
    shown = capsys.readouterr().out
    assert "1,184 (with --all)" in shown
    assert shown.count("north=counted") == 50
    assert main(["run", "show", "last", "--all", "--as", "somebody"]) == 0
    every = capsys.readouterr().out
    assert "with --all" not in every
    assert every.count("north=counted") == 1_234
