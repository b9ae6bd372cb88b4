"""What a plan shares, as whoever approves it sees it."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from aimass.client import runs_cli
from aimass.client.preview import preview_of
from aimass.client.shared_rows import shared_arrays
from aimass.client.tasks.heart import task
from aimass.explain.federated.background import synthetic_background
from aimass.proto.asking import asked_in
from aimass.proto.asks import EXPLAIN, Shared
from aimass.proto.console import plain
from aimass.proto.contribution import Contribution, Group
from aimass.proto.manifest import Category
from aimass.proto.plan import Plan, encode_plan
from tests.client.test_explaining import policy
from tests.support.explanations import asked


def nothing_in(plan: Plan) -> Contribution:
    """The sums of no rows."""
    cells = asked_in(plan).phases[0].cells
    return Contribution({EXPLAIN: Group(1.0, {one.name: np.zeros(one.shape) for one in cells})}, {}, {})


def test_rows_are_told_in_the_words_of_the_schema() -> None:
    columns = task.schema.columns
    rows = np.zeros((2, len(columns)))
    rows[1] = np.nan
    category = next(place for place, column in enumerate(columns) if isinstance(column, Category))
    rows[0, 0], rows[0, category] = 63.0, 1.0
    (found,) = shared_arrays(Shared.of("public", "UCI", {"background": rows}), task.schema)
    assert (found.name, found.columns) == ("background", tuple(column.name for column in columns))
    assert (found.rows[0][0], found.rows[0][category]) == (63.0, columns[category].values[1])  # type: ignore[union-attr]
    assert set(found.rows[1]) == {None}
    assert shared_arrays(None, task.schema) == ()


def test_odd_arrays_are_told_as_numbers() -> None:
    arrays = {
        "cube": np.ones((2, 2, 3)),
        "empty": np.empty((0, 4)),
        "flat": np.array([1.0, np.inf]),
        "one": np.array(3),
    }
    cube, empty, flat, one = shared_arrays(Shared.of("public", "UCI", arrays), task.schema)
    assert (len(cube.rows), len(cube.rows[0]), len(cube.columns)) == (2, 6, 6)
    assert (empty.rows, len(empty.columns), flat.rows, one.rows) == ((), 4, ((1.0, "inf"),), ((3.0,),))


def test_a_preview_shows_the_rows_that_are_shared_at_most_twenty_of_them_on_a_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = synthetic_background(task.schema, rows=30, seed=1)
    plan, _ = asked("shapley", shared=shared, least=5)
    made = preview_of(plan, nothing_in(plan), 9, policy(plan))
    assert [len(one.rows) for one in made.arrays] == [30, 1]
    monkeypatch.setattr(runs_cli, "ask_daemon", lambda *_, **__: plain(made))
    folder = argparse.Namespace(plan=lambda: encode_plan(plan))
    monkeypatch.setattr(runs_cli, "_found", lambda _: (folder, argparse.Namespace(run_id="ab" * 16)))
    runs_cli.preview(argparse.Namespace(dir=None, json=False))
    printed = capsys.readouterr().out
    assert "shared background, 30 rows, the first 20 (all: --json):" in printed
    begun = printed.partition("shared background")[2].partition("shared seed")[0]
    assert len(begun.splitlines()) == 1 + 1 + 20
    assert f"{made.arrays[0].rows[19][0]:.6g}" in begun
    runs_cli.preview(argparse.Namespace(dir=None, json=True))
    assert f"{made.arrays[0].rows[29][0]}" in capsys.readouterr().out
