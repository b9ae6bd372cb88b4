"""Both drawings of a picture show its numbers: every form, in both themes, without the network."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from aimass.explain.charts.altair_charts import chart_of, charts_of, specs_of
from aimass.explain.charts.binning import points_or_cells
from aimass.explain.charts.figures import figure_of
from aimass.explain.charts.picture import (
    MOST_POINTS,
    Axis,
    Band,
    Bars,
    Boxes,
    Heat,
    Layer,
    Line,
    Panel,
    Picture,
    Points,
    Raster,
    Rule,
    Spans,
    names_axis,
)
from aimass.explain.charts.rendering import png_of, svg_of
from aimass.explain.charts.theme import DARK, LIGHT, Theme

X = np.linspace(0, 1, 5)
NAMES = ("age (years)", "it's <b>odd</b>\\", "c")
PICTURE = Picture(
    "Every form",
    (
        Panel(
            "bars",
            Axis("effect"),
            names_axis(NAMES),
            (
                Bars(
                    np.arange(3),
                    np.array([1.0, -2.0, 0.5]),
                    np.array([0.5, -2.5, 0.1]),
                    np.array([1.5, -1.0, 1.0]),
                    colours=("more", "less", "more"),
                    says=("a", "b", "c"),
                ),
                Spans(np.arange(3), np.ones(3), np.zeros(3), np.full(3, 2.0), series="spans"),
                Rule(0.0, says="none"),
            ),
        ),
        Panel(
            "lines",
            Axis("x", domain=(0, 1)),
            Axis("y", log=True),
            (
                Line(X, X + 1, series="mean"),
                Band(X, X + 0.5, X + 1.5, series="mean"),
                Line(X, X + 2, dashed=True, faint=True),
                Rule(2.0, "y", "limit"),
            ),
        ),
        Panel(
            "points",
            Axis("x"),
            Axis("y"),
            (Points(X, X, shade=X, shade_title="value"), Boxes(X[:1], X[1:2], X[:1], X[1:2])),
        ),
        Panel(
            "heat",
            names_axis(("p", "q")),
            names_axis(NAMES),
            (
                Heat(
                    np.arange(3) - 0.5,
                    np.arange(4) - 0.5,
                    np.arange(6.0).reshape(3, 2) - 2,
                    "drift",
                    diverging=True,
                    written=True,
                ),
            ),
        ),
        Panel(
            "bands",
            Axis("x"),
            Axis("y"),
            (Heat(np.arange(3.0), np.arange(3.0), np.array([[0.1, 0.5], [0.9, np.nan]]), "chance", bands=(0.3, 0.7)),),
        ),
        Panel(
            "image",
            Axis("px", domain=(0, 4)),
            Axis("px", domain=(0, 3), reverse=True),
            (Raster(np.arange(12, dtype=np.uint8).reshape(3, 4)),),
        ),
    ),
    "How to read it.",
    "What it does not show.",
    columns=2,
)


def values(spec: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return list(spec["datasets"].values()) if "datasets" in spec else list(_found(spec))


def _found(spec: Any) -> Any:
    if isinstance(spec, dict):
        if (
            "values" in spec
            and isinstance(spec["values"], list)
            and spec["values"]
            and isinstance(spec["values"][0], dict)
        ):
            yield spec["values"]
        for one in spec.values():
            yield from _found(one)
    elif isinstance(spec, list):
        for one in spec:
            yield from _found(one)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_form_is_drawn_by_both(theme: Theme) -> None:
    svg = svg_of(PICTURE, theme)
    assert svg.count("age (years)") >= 2
    assert "<b>" not in svg
    assert theme.paper in svg
    figure = figure_of(PICTURE, theme)
    figure.canvas.draw()
    assert len(figure.axes) >= len(PICTURE.panels)


def test_a_chart_holds_the_numbers_of_its_picture() -> None:
    rows = [row for data in values(chart_of(PICTURE).to_dict()) for row in data]
    ends = [row["end"] for row in rows if "end" in row]
    assert ends[:3] == [1.0, -2.0, 0.5]
    assert {(row["low"], row["high"]) for row in rows if "end" in row} == {(0.5, 1.5), (-2.5, -1.0), (0.1, 1.0)}
    assert sorted(row["value"] for row in rows if "cx" in row)[:3] == [-2.0, -1.0, 0.0]


def test_a_png_is_as_large_as_it_was_asked_to_be() -> None:
    small, large = (png_of(PICTURE, scale=scale) for scale in (0.5, 1.0))
    assert small[:4] == large[:4] == b"\x89PNG"
    assert int.from_bytes(large[16:20], "big") == pytest.approx(2 * int.from_bytes(small[16:20], "big"), abs=2)


def test_colours_of_series_are_told_apart_and_bands_are_ordered() -> None:
    assert len(set(LIGHT.series)) == len(LIGHT.series) == 7
    assert LIGHT.band_colours(5)[0] == "#440154"
    assert LIGHT.band_colours(5)[-1] == "#fde725"
    assert len(set(LIGHT.band_colours(9))) == 9


def test_more_points_than_a_browser_takes_are_counted_by_cell_and_none_is_lost() -> None:
    many = np.linspace(0, 1, MOST_POINTS + 1)
    few = Points(many[:-1], many[:-1])
    assert points_or_cells(few) is few
    cells = points_or_cells(Points(many, many))
    assert isinstance(cells, Heat)
    assert np.nansum(cells.values) == len(many)
    shaded = points_or_cells(Points(many, many, shade=many))
    assert isinstance(shaded, Heat)
    assert np.nanmin(shaded.values) == pytest.approx(0, abs=0.05)


def test_faint_lines_of_one_look_are_one_layer_and_stay_lines_of_their_own() -> None:
    faint = tuple(Line(X, X + place, "quiet", faint=True) for place in range(40))
    bars = tuple(Bars(np.arange(1), np.ones(1)) for _ in range(2))
    lines: tuple[Layer, ...] = (*faint, Line(X, -X, "quiet"), *bars, Line(X, X, "more", faint=True))
    spec = chart_of(Picture("", (Panel("", Axis("x"), Axis("y"), lines),), "", "")).to_dict()
    assert len(spec["layer"]) == 5
    svg = svg_of(Picture("", (Panel("", Axis("x"), Axis("y"), lines),), "", ""))
    assert svg.count('aria-roledescription="line mark"') == 42


def test_nothing_is_written_above_a_picture_without_a_title() -> None:
    told = svg_of(PICTURE)
    untold = svg_of(dataclasses.replace(PICTURE, title=""))
    assert ("Every form" in told, "How to read it." in told) == (True, True)
    assert ("Every form" in untold, "How to read it." in untold) == (False, False)


def test_pictures_are_drawn_where_standard_input_was_closed() -> None:
    code = (
        "import os; os.close(0)\n"
        "from tests.explain.charts.test_drawing import PICTURE, svg_of\n"
        "print(len(svg_of(PICTURE)) > 1_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_specifications_are_what_charts_say_and_hold_against_the_schema(theme: Theme) -> None:
    told = [chart.to_dict() for chart in charts_of(PICTURE, theme)]  # validates
    specs = [json.loads(spec) for spec in specs_of(PICTURE, theme)]
    assert specs == json.loads(json.dumps(told))


@pytest.mark.parametrize("width", [330, 700])
def test_every_name_below_an_axis_is_to_be_read(width: int) -> None:
    names = tuple(f"learning rate {place}\n0.001 to 0.{place + 1}" for place in range(12))
    line = Line(np.arange(12.0), np.arange(12.0))
    svg = svg_of(Picture("", (Panel("", names_axis(names), Axis("y"), (line,), width=width),), "", ""))
    written = [text for text in re.findall("<text.*?</text>", svg) if "learning rate" in text]
    assert len(written) == 12
    assert [text for text in written if 'opacity="0"' in text or "rotate(325)" not in text] == []
    few = svg_of(Picture("", (Panel("", names_axis(("yes", "no")), Axis("y"), (line,), width=width),), "", ""))
    assert "rotate(325)" not in few


def test_a_name_of_several_lines_stands_with_its_middle_at_its_place() -> None:
    spans = Spans(np.arange(2.0), np.ones(2), np.zeros(2), np.full(2, 2.0))
    panel = Panel("", Axis("x"), names_axis(("one line", "three\nlines\nhere")), (spans,), height=100)
    svg = svg_of(Picture("", (panel,), "", ""))
    (one,) = re.findall(r'translate\([^,]*,([\d.]+)\)"[^>]*>one line<', svg)
    (three,) = re.findall(r'translate\([^,]*,([\d.]+)\)"[^>]*><tspan>three<', svg)
    assert float(three) - float(one) == 50 - 14
