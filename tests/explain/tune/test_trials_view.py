"""A search as it goes: what was tried, what is best so far, and what was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aimass.explain.charts.picture import Line
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.search import Searching
from aimass.explain.tune.trials_view import TrialsView, trials_view
from tests.explain.tune.planted import Planted, begun


def test_a_search_that_has_ended_shows_each_run_and_the_best_so_far(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s")
    ended = Searching(folder, search, Planted()).go_on()
    found = trials_view(ended)
    assert len(found.courses) == 12
    assert found.best == (ended.best.number if ended.best else None)
    courses, turn = found.picture().panels
    assert len(courses.layers) == 12
    (line,) = [layer for layer in turn.layers if isinstance(layer, Line)]
    np.testing.assert_array_equal(line.y, np.maximum.accumulate(found.quality))
    assert "6 of 6 settings were begun: 6 finished." in found.describe()
    assert TrialsView.from_json(found.to_json()) == found
    assert found.to_png().startswith(b"\x89PNG")


def test_a_search_that_has_just_begun_is_drawn_too(tmp_path: Path) -> None:
    _, search = begun(tmp_path / "s")
    found = trials_view(search)
    assert found.best is None
    assert found.describe() == ("0 of 6 settings were begun: none yet.",)
    assert "<svg" in found.to_svg()


def test_what_was_cut_is_told_apart(tmp_path: Path) -> None:
    folder, search = begun(tmp_path / "s", trials=12, seeds=(5,), pruning=Pruning(rule="median", after=1))
    found = trials_view(Searching(folder, search, Planted(noise=0.0)).go_on())
    assert "pruned" in found.states
    grey = [layer for layer in found.picture().panels[0].layers if isinstance(layer, Line) and layer.colour == "quiet"]
    assert len(grey) == found.states.count("pruned")
    assert np.isnan(found.quality[[state == "pruned" for state in found.states]]).all()
