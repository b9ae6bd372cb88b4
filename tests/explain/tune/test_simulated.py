from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimass.explain.runs.outcomes import Objective, outcomes
from aimass.explain.tune.simulated import view_of_folder
from aimass.proto.errors import NotFound, WrongState
from aimass.proto.plan import encode_plan
from aimass.proto.step import StepKind
from aimass.proto.views import RunState
from tests.explain.runs.made import plan


def line(index: int, kind: str, round_: int, **more: Any) -> str:
    fields = {"index": index, "kind": kind, "round": round_, "seconds": 2.0, "counted": 3, "asked": 3, "work_s": 1.0}
    return json.dumps(fields | more) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_bytes(encode_plan(plan()))
    measured = {"metrics": {"auc": 0.7}, "weights": {"auc": 50.0}, "figures": {"a": {"auc": 0.6}}}
    lines = [
        line(0, "train", 1, model="c" * 64),
        line(1, "evaluate", 1, **measured),
        line(2, "train", 2),
        line(2, "train", 2, model="d" * 64),  # done again after a kill
        line(3, "evaluate", 2, **(measured | {"metrics": {"auc": 0.8}})),
    ]
    (tmp_path / "rounds.jsonl").write_text("".join(lines) + '{"index": 4, "kind": "tr')
    return tmp_path


def test_a_simulations_folder_is_shown_as_a_server_shows_a_run(folder: Path) -> None:
    view = view_of_folder(folder)
    assert view.summary.state is RunState.RUNNING
    assert [(step.index, step.kind) for step in view.steps] == [
        (0, StepKind.TRAIN), (1, StepKind.EVALUATE), (2, StepKind.TRAIN), (3, StepKind.EVALUATE)
    ]  # fmt: skip
    assert view.summary.model == "d" * 64
    assert view.summary.round == 2
    assert view.summary.rounds == 3
    assert view.steps[1].metrics["auc"].by_partner == {"a": 0.6}
    found = outcomes([view], Objective.of("auc")).runs[0]
    assert found.quality == 0.8
    assert found.seconds == pytest.approx(8.0)
    assert found.bytes == 0


def test_it_has_ended_once_that_is_written_beside_it(folder: Path) -> None:
    (folder / "ended.json").write_text('{"state":"failed","reason":"no quorum"}')
    summary = view_of_folder(folder).summary
    assert (summary.state, summary.reason) == (RunState.FAILED, "no quorum")
    assert summary.ended_at == pytest.approx(summary.created_at + 8.0)


def test_one_that_was_refused_before_it_began_says_why(tmp_path: Path) -> None:
    (tmp_path / "ended.json").write_text('{"state":"failed","reason":"the driver has no such option"}')
    with pytest.raises(WrongState, match="the driver has no such option"):
        view_of_folder(tmp_path)
    (tmp_path / "ended.json").unlink()
    with pytest.raises(NotFound):
        view_of_folder(tmp_path)


def test_by_a_pace_its_clock_says_when_steps_end(folder: Path) -> None:
    (folder / "rounds.jsonl").write_text(line(0, "train", 1, at=60.0) + line(1, "train", 2, at=90.0))
    steps = view_of_folder(folder).steps
    assert [(step.committed_at or 0) - step.opened_at for step in steps] == pytest.approx([60.0, 30.0])
