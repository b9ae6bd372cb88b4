"""Windows of rows and answers: when they are judged, what has to agree, and what the first good one is for."""

from __future__ import annotations

import numpy as np

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.model_manifest import Reference
from aimass.proto.statistics import Histogram, NumberCounts
from aimass.server.serving.watching.answers import kinds_of
from aimass.server.serving.watching.cells import reference_cells
from aimass.server.serving.watching.settings import DriftSettings
from aimass.server.serving.watching.windows import Window, Windows

_SCHEMA = Schema(
    name="people/1",
    columns=(Number(name="age", minimum=0, maximum=100),),
    label=Category(name="ill", values=("no", "yes")),
)
_PRICES = Schema(
    name="prices/1",
    columns=(Number(name="age", minimum=0, maximum=100),),
    label=Number(name="price", minimum=0, maximum=10),
)
_SETTINGS = DriftSettings(least_rows=200, window_s=60, windows=2)
_RNG = np.random.default_rng(5)


def _windows(schema: Schema = _SCHEMA) -> Windows:
    counts = np.histogram(_RNG.normal(50, 10, 4_000), 20, (0, 100))[0].astype(float)
    held = NumberCounts(column="age", minimum=0, maximum=100, counts=tuple(counts.tolist()), missing=0)
    cells, _ = reference_cells(schema, Reference(histogram=Histogram(numbers=(held,), categories=())))
    return Windows(schema, cells, 0.0, Window(0.0), Window(0.0))


def _filled(windows: Windows, mean: float = 50.0, yes: float = 0.3, rows: int = 400) -> Windows:
    labels = np.where(_RNG.random(rows) < yes, b"yes", b"no").astype(object)
    chances = np.stack([np.full(rows, 1 - yes), np.full(rows, yes)], axis=1)
    answers = {"label": labels, "probabilities": chances, "prediction": _RNG.normal(10 * yes, 1, rows)}
    return windows.plus([{"age": _RNG.normal(mean, 10, rows)}], [answers])


def test_what_a_request_was_answered_counts_once_by_its_first_row() -> None:
    labels = [{"label": np.array(found, object)} for found in ([b"yes"] * 900, [b"no", b"yes"], [b"no"], [])]
    assert kinds_of(_SCHEMA, [*labels, {"other": np.zeros(3)}]) == (2, 1, 0)
    numbers = kinds_of(_PRICES, [{"prediction": np.array([[0.1], [9.9]])}, {"prediction": np.array([[9.9]])}])
    assert (len(numbers), numbers[0], numbers[19], sum(numbers)) == (21, 1, 1, 2)
    assert kinds_of(_SCHEMA, []) == ()


def test_a_window_is_judged_when_it_has_both_its_time_and_its_rows() -> None:
    few, many = _filled(_windows(), rows=199), _filled(_windows(), rows=200)
    assert not few.inputs.is_full(60.0, _SETTINGS)
    assert not many.inputs.is_full(59.0, _SETTINGS)
    assert many.inputs.is_full(60.0, _SETTINGS)


def test_one_drifted_window_is_not_told_of_yet_and_the_second_in_a_row_is() -> None:
    windows, said = _filled(_windows(), mean=70).inputs_closed(60.0, _SETTINGS)
    assert [one for one in said if one.drifted] == []
    windows, said = _filled(windows, mean=70).inputs_closed(120.0, _SETTINGS)
    assert [one.column for one in said if one.drifted] == ["age"]
    windows, said = _filled(windows, mean=50).inputs_closed(180.0, _SETTINGS)
    assert [one.drifted for one in said] == [False]
    _, said = _filled(windows, mean=70).inputs_closed(240.0, _SETTINGS)
    assert [one for one in said if one.drifted] == [], "it begins to count anew"


def test_answers_are_held_against_the_first_window_in_which_rows_had_not_drifted() -> None:
    windows, _ = _filled(_windows(), mean=70, yes=0.9).inputs_closed(60.0, _SETTINGS)
    windows, said = windows.outputs_closed(60.0, _SETTINGS)
    assert (windows.good, said) == ((), ()), "its rows had drifted: it is no reference"
    windows, _ = _filled(windows).inputs_closed(120.0, _SETTINGS)
    windows, said = windows.outputs_closed(120.0, _SETTINGS)
    assert {cells.column for cells in windows.good} == {"label", "confidence"}
    assert said == ()
    windows, said = _filled(windows).outputs_closed(180.0, _SETTINGS)
    assert not any(one.drifted for one in said)
    for _ in range(2):
        windows, said = _filled(windows, yes=0.9).outputs_closed(240.0, _SETTINGS)
    assert {one.column for one in said if one.drifted} == {"label", "confidence"}


def test_a_predicted_number_is_watched_over_its_range() -> None:
    windows, _ = _filled(_windows(_PRICES)).outputs_closed(60.0, _SETTINGS)
    assert [cells.column for cells in windows.good] == ["prediction"]
    for _ in range(2):
        windows, said = _filled(windows, yes=0.6).outputs_closed(120.0, _SETTINGS)
    assert [one.column for one in said if one.drifted] == ["prediction"]


def test_answers_of_another_kind_are_not_watched() -> None:
    windows = _windows().plus([], [{"y": np.zeros((400, 2))}])
    assert not windows.outputs.is_full(60.0, _SETTINGS)
