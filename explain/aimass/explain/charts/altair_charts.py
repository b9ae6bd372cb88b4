"""Pictures drawn by Altair: for screens, notebooks and the report."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt
import numpy as np

from aimass.explain.charts.picture import (
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
)
from aimass.explain.charts.theme import LIGHT, Theme

__all__ = ["chart_of", "charts_of", "specs_of"]

Row = dict[str, Any]
_TICKS: Final = 6
"""Of an axis of numbers: more have labels that are left out in between."""
_LEGEND_LETTERS: Final = 44
"""Of a line of a legend: a panel may be half a page wide."""
_LETTERS_BELOW: Final = 44
"""Of all names below an axis beside one another: what does not fit into half a page is written aslant."""
_ASLANT: Final = 20
"""Names below an axis that half a page has room for aslant: more stand upright, and every second may be left out."""
_LABEL_PX: Final = 6
"""From names to the axis: a dot at its end touches none of them."""
_LINE_PX: Final = 14
"""Of a name of several lines, from one to the next."""
_TICK_PX: Final = 60
"""What a number below an axis takes."""


def chart_of(picture: Picture, theme: Theme = LIGHT) -> alt.TopLevelMixin:
    """The picture as one chart that needs nothing but its specification."""
    panels = [_panel(panel, theme) for panel in picture.panels]
    whole: Any = panels[0] if len(panels) == 1 else alt.concat(*panels, columns=picture.columns)
    if picture.title:
        title = alt.TitleParams(picture.title, subtitle=[picture.how_to_read], subtitleColor=theme.quiet)
        whole = whole.properties(title=title)
    whole = whole.resolve_scale(color="independent") if len(panels) > 1 else whole
    return whole.configure(**_configuration(theme))


def charts_of(picture: Picture, theme: Theme = LIGHT) -> tuple[alt.TopLevelMixin, ...]:
    """Its panels as charts of their own, for a page that places them: each as wide as there is room.

    An image keeps its width, a pixel of it being one of the chart's.
    """
    return tuple(_alone(panel, theme).configure(**_configuration(theme)) for panel in picture.panels)


def specs_of(picture: Picture, theme: Theme = LIGHT) -> tuple[str, ...]:
    """The same as JSON of Vega-Lite, in a quarter of the time: not held against Altair's schema, as tests do that."""
    with alt.utils.schemapi.debug_mode(False):
        return tuple(json.dumps(chart.to_dict(validate=False)) for chart in charts_of(picture, theme))


def _alone(panel: Panel, theme: Theme) -> Any:
    drawn = _panel(panel, theme)
    if panel.fixed:  # (Streamlit's own choice would fit the axes into the image's width, and the image over them)
        return drawn.properties(autosize=alt.AutoSizeParams(type="pad", contains="padding"))
    # The room there is decides the width alone: the height is that of the drawing, axes and legend come to it.
    return drawn.properties(width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))


def _configuration(theme: Theme) -> Mapping[str, Any]:
    words = {
        "labelColor": theme.ink,
        "titleColor": theme.ink,
        "labelFontSize": theme.font_px,
        "titleFontSize": theme.font_px,
    }
    return {
        "background": theme.paper,
        "font": theme.font,
        "axis": alt.AxisConfig(
            **words,
            gridColor=theme.grid,
            domainColor=theme.quiet,
            tickColor=theme.quiet,
            labelLimit=260,
            titleFontWeight="normal",
        ),
        "legend": alt.LegendConfig(
            **words,
            orient="bottom",
            labelLimit=300,
            titleLimit=400,
            symbolOpacity=1,
            titleFontWeight="normal",
            gradientLength=130,  # beside a legend of words in half a page
        ),
        "title": alt.TitleConfig(color=theme.ink, fontSize=theme.title_px, anchor="start", offset=12),
        "view": alt.ViewConfig(stroke=None),
    }


def _panel(panel: Panel, theme: Theme) -> Any:
    alike = (list(group) for _, group in itertools.groupby(panel.layers, _look))
    layers = [one for group in alike for one in _drawn(group, panel, theme)]
    height = panel.height or (max(60, theme.row_height * len(panel.y.names)) if panel.y.names else theme.height)
    return alt.layer(*layers).properties(width=panel.width or theme.width, height=height, title=panel.title)


def _scale(axis: Axis, *, vertical: bool) -> alt.Scale:
    if axis.names:
        domain = [-0.5, len(axis.names) - 0.5]
        return alt.Scale(domain=domain, reverse=vertical != axis.reverse, nice=False, zero=False)
    options: Row = {"type": "log"} if axis.log else {"zero": False}
    if axis.domain is not None:
        options |= {"domain": list(axis.domain), "nice": False}
    return alt.Scale(**options, reverse=axis.reverse)


def _axis(axis: Axis, ticks: int | None = None, *, below: bool = False) -> alt.Axis:
    if not axis.names:
        many: Row = {"tickCount": _TICKS if ticks is None else ticks}
        many |= {"tickMinStep": 1, "format": ",d"} if axis.whole else {}
        return alt.Axis(title=axis.title, grid=axis.grid, labelOverlap=True, labelSeparation=6, **many)
    words = "[" + ",".join(_quoted(name) for name in axis.names) + "]"
    return alt.Axis(
        title=axis.title or None,
        grid=axis.grid,
        values=list(range(len(axis.names))),
        labelExpr=f"split({words}[datum.value], '\\n')",
        tickCount=len(axis.names),
        domain=False,
        ticks=False,
        labelPadding=_LABEL_PX,
        **(_below(axis.names) if below else _beside(axis.names)),
    )


def _beside(names: Sequence[str]) -> Row:
    """How names stand beside an axis: Vega sets the first line at the place, and the middle of all is to be there."""
    lines = [name.count("\n") for name in names]
    shifted = [
        {
            "test": f"indexof({[place for place, own in enumerate(lines) if own == more]}, datum.value) >= 0",
            "value": -more * _LINE_PX / 2,
        }
        for more in sorted(set(lines) - {0})
    ]
    return {"labelOverlap": True, **({"labelOffset": {"condition": shifted, "value": 0}} if shifted else {})}


def _below(names: Sequence[str]) -> Row:
    """How names stand below an axis: all of them are to be read."""
    lines = [max(map(len, name.split("\n"))) for name in names]
    if sum(lines) + 2 * len(lines) <= _LETTERS_BELOW:
        return {"labelOverlap": True, "labelAngle": 0}
    aslant = len(names) <= _ASLANT
    return {"labelAngle": -35 if aslant else -90, "labelAlign": "right", "labelLimit": 160, "labelOverlap": not aslant}


def _quoted(word: str) -> str:
    """A word as a string of Vega's expressions, whatever stands in it."""
    return (
        "'"
        + "".join(
            c if c.isalnum() or c in " .,_-()<>=%/+:" else f"\\u{ord(c):04x}" if ord(c) < 65536 else "?" for c in word
        )
        + "'"
    )


def _x(panel: Panel, field: str = "x") -> alt.X:
    return alt.X(f"{field}:Q", scale=_scale(panel.x, vertical=False), axis=_axis(panel.x, _ticks(panel), below=True))


def _ticks(panel: Panel) -> int | None:
    """As many as a narrow panel has room for; of wide ones Vega's own."""
    return max(2, panel.width // _TICK_PX) if panel.width else None


def _y(panel: Panel, field: str = "y") -> alt.Y:
    return alt.Y(f"{field}:Q", scale=_scale(panel.y, vertical=True), axis=_axis(panel.y))


def _colour(panel: Panel, theme: Theme) -> Any:
    series = panel.series
    widest = max(map(len, series)) + 4
    return alt.Color(
        "series:N",
        title=None,
        sort=None,
        legend=alt.Legend(columns=max(1, min(len(series), _LEGEND_LETTERS // widest))),
        scale=alt.Scale(domain=list(series), range=[theme.colour(c) for c in series.values()]),
    )


def _with_colour(chart: Any, panel: Panel, theme: Theme, series: str, token: str, **encodings: Any) -> Any:
    """`series` in the legend where it has a name, else the plain colour."""
    colour = _colour(panel, theme) if series else alt.value(theme.colour(token))
    return chart.encode(color=colour, **encodings)


def _data(columns: Mapping[str, Any], says: Sequence[str] = (), series: str = "") -> alt.Data:
    """Rows by name; NaN is written as null, and rows keep their order."""
    fields = {name: np.asarray(values, np.float64).tolist() for name, values in columns.items()}
    rows: list[Row] = []
    for place, cells in enumerate(zip(*fields.values(), strict=True)):
        row: Row = {name: (cell if cell == cell else None) for name, cell in zip(fields, cells, strict=True)}  # noqa: PLR0124
        rows.append(
            row | {"order": place} | ({"says": says[place]} if says else {}) | ({"series": series} if series else {})
        )
    return alt.Data(values=rows)


def _tooltip(says: Sequence[str]) -> Any:
    return alt.Tooltip("says:N", title=" ") if says else alt.value(None)


def _layer(layer: Layer, panel: Panel, theme: Theme) -> list[Any]:
    match layer:
        case Bars():
            return _bars(layer, panel, theme)
        case Spans():
            base = alt.Chart(
                _data({"y": layer.at, "x": layer.x, "low": layer.low, "high": layer.high}, layer.says, layer.series)
            )
            where = {"y": _y(panel), "tooltip": _tooltip(layer.says)}
            return [
                _with_colour(
                    base.mark_rule(strokeWidth=2),
                    panel,
                    theme,
                    layer.series,
                    layer.colour,
                    x=_x(panel, "low"),
                    x2="high:Q",
                    **where,
                ),
                _with_colour(
                    base.mark_point(filled=True, size=60, opacity=1),
                    panel,
                    theme,
                    layer.series,
                    layer.colour,
                    x=_x(panel),
                    **where,
                ),
            ]
        case Line():
            return [_lines([layer], panel, theme)]
        case Band():
            area = alt.Chart(_data({"x": layer.x, "low": layer.low, "high": layer.high}, (), layer.series)).mark_area(
                opacity=0.25
            )
            return [
                _with_colour(
                    area, panel, theme, layer.series, layer.colour, x=_x(panel), y=_y(panel, "low"), y2="high:Q"
                )
            ]
        case Points():
            return [_points(layer, panel, theme)]
        case Heat():
            return _heat(layer, panel, theme)
        case Boxes():
            columns = {"x": layer.left, "x2": layer.right, "y": layer.bottom, "y2": layer.top}
            rect = alt.Chart(_data(columns, layer.says, layer.series)).mark_rect(filled=False, strokeWidth=2)
            stroke = theme.colour(layer.colour)
            return [
                rect.encode(
                    x=_x(panel),
                    x2="x2:Q",
                    y=_y(panel),
                    y2="y2:Q",
                    stroke=alt.value(stroke),
                    tooltip=_tooltip(layer.says),
                )
            ]
        case Raster():
            return [_raster(layer, panel, theme)]
        case Rule():
            return _rule(layer, panel, theme)


def _look(layer: Layer) -> object:
    """Faint lines that look alike are drawn as one layer: Altair copies every layer some dozen times."""
    if isinstance(layer, Line) and layer.faint:
        return layer.colour, layer.series, layer.dashed, layer.steps
    return id(layer)


def _drawn(group: Sequence[Layer], panel: Panel, theme: Theme) -> list[Any]:
    lines = [layer for layer in group if isinstance(layer, Line)]
    return [_lines(lines, panel, theme)] if len(lines) > 1 else _layer(group[0], panel, theme)


def _lines(lines: Sequence[Line], panel: Panel, theme: Theme) -> Any:
    """Lines of one look."""
    first = lines[0]
    mark: Row = {"strokeDash": [5, 4]} if first.dashed else {}
    mark |= {"opacity": 0.15, "strokeWidth": 1} if first.faint else {"strokeWidth": 2}
    columns = {
        "x": np.concatenate([line.x for line in lines]),
        "y": np.concatenate([line.y for line in lines]),
        "line": np.repeat(np.arange(len(lines)), [len(line.x) for line in lines]),
    }
    drawn = alt.Chart(_data(columns, (), first.series)).mark_line(
        **mark, interpolate="step-after" if first.steps else "linear"
    )
    where = {"x": _x(panel), "y": _y(panel), "order": "order:Q", "detail": "line:N"}
    return _with_colour(drawn, panel, theme, first.series, first.colour, **where)


def _bars(layer: Bars, panel: Panel, theme: Theme) -> list[Any]:
    begin = np.zeros(len(layer.at)) if layer.begin is None else layer.begin
    columns = {"y": layer.at, "top": layer.at - 0.34, "bottom": layer.at + 0.34, "x": begin, "end": layer.end}
    if layer.low is not None and layer.high is not None:
        columns |= {"low": layer.low, "high": layer.high}
    data = _data(columns, layer.says, layer.series)
    tokens = layer.colours if len(layer.colours) == len(layer.at) else layer.colours[:1] * len(layer.at)
    for row, token in zip(data.values, tokens, strict=True):
        row["colour"] = theme.colour(token)
    base = alt.Chart(data)
    colour = _colour(panel, theme) if layer.series else alt.Color("colour:N", scale=None)
    bars = base.mark_rect().encode(
        x=_x(panel), x2="end:Q", y=_y(panel, "top"), y2="bottom:Q", color=colour, tooltip=_tooltip(layer.says)
    )
    if layer.low is None:
        return [bars]
    whiskers = base.mark_rule(strokeWidth=1.5, color=theme.ink).encode(x=_x(panel, "low"), x2="high:Q", y=_y(panel))
    return [bars, whiskers]


def _points(layer: Points, panel: Panel, theme: Theme) -> Any:
    columns = {"x": layer.x, "y": layer.y} | ({} if layer.shade is None else {"shade": layer.shade})
    marks = alt.Chart(_data(columns, layer.says, layer.series)).mark_circle(size=layer.size, opacity=0.75)
    where = {"x": _x(panel), "y": _y(panel), "tooltip": _tooltip(layer.says)}
    if layer.shade is None:
        return _with_colour(marks, panel, theme, layer.series, layer.colour, **where)
    shade = alt.Color("shade:Q", title=layer.shade_title, scale=alt.Scale(scheme=theme.sequential))
    return marks.encode(color=shade, **where)


def _heat(layer: Heat, panel: Panel, theme: Theme) -> list[Any]:
    rows, columns = np.indices(layer.values.shape).reshape(2, -1)
    cells = layer.values.astype(np.float64)[rows, columns]
    keep = ~np.isnan(cells)
    rows, columns, cells = rows[keep], columns[keep], cells[keep]
    left, right, bottom, top = layer.x[columns], layer.x[columns + 1], layer.y[rows], layer.y[rows + 1]
    data = _data(
        {
            "x": left,
            "x2": right,
            "y": bottom,
            "y2": top,
            "value": cells,
            "cx": (left + right) / 2,
            "cy": (bottom + top) / 2,
        }
    )
    if layer.band_names:
        for row, place in zip(data.values, np.searchsorted(layer.bands, cells, side="right"), strict=True):
            row["band"] = layer.band_names[place]
    scale: Row = {"scheme": theme.sequential}
    if layer.bands:
        scale = {
            "type": "threshold",
            "domain": list(layer.bands),
            "range": list(theme.band_colours(len(layer.bands) + 1)),
        }
    elif layer.diverging:
        most = float(np.abs(cells).max()) if len(cells) else 1.0
        scale = {"range": list(theme.diverging), "domain": [-most, 0, most]}
    if layer.domain is not None and not layer.bands:
        scale["domain"] = list(layer.domain)
    rects = (
        alt.Chart(data)
        .mark_rect()
        .encode(
            x=_x(panel),
            x2="x2:Q",
            y=_y(panel),
            y2="y2:Q",
            color=_heat_colour(layer, scale),
            tooltip=alt.Tooltip("band:N", title=layer.title)
            if layer.band_names
            else alt.Tooltip("value:Q", title=layer.title, format=".3g"),
        )
    )
    if not layer.written:
        return [rects]
    words = (
        alt.Chart(data)
        .mark_text(fontSize=theme.font_px - 1)
        .encode(
            x=_x(panel, "cx"), y=_y(panel, "cy"), text=alt.Text("value:Q", format=".3~g"), color=alt.value("#808080")
        )
    )
    return [rects, words]


def _heat_colour(layer: Heat, scale: Row) -> Any:
    """Of named bands each has its word in the legend, of others numbers stand between them."""
    if not layer.band_names:
        return alt.Color("value:Q", title=layer.title, scale=alt.Scale(**scale))
    named = alt.Scale(domain=list(layer.band_names), range=scale["range"])
    return alt.Color("band:N", title=layer.title, sort=None, scale=named)


def _raster(layer: Raster, panel: Panel, theme: Theme) -> Any:
    from aimass.explain.charts.rendering import data_url  # noqa: PLC0415  (which draws charts, these among them)

    height, width = layer.pixels.shape[:2]
    data = alt.Data(values=[{"x": width / 2, "y": height / 2, "url": data_url(layer.pixels)}])
    return (
        alt.Chart(data)
        .mark_image(width=panel.width or theme.width, height=panel.height or theme.height, aspect=False, smooth=False)
        .encode(x=_x(panel), y=_y(panel), url="url:N")
    )


def _rule(layer: Rule, panel: Panel, theme: Theme) -> list[Any]:
    data = alt.Data(values=[{"v": layer.value, "says": layer.says}])
    mark = alt.Chart(data).mark_rule(strokeDash=[4, 3], color=theme.colour(layer.colour))
    across = {"x": _x(panel, "v")} if layer.along == "x" else {"y": _y(panel, "v")}
    ruled = mark.encode(**across)
    if not layer.says:
        return [ruled]
    place: Row = (
        {"align": "left", "dx": 4, "baseline": "top"} if layer.along == "x" else {"align": "left", "dx": 4, "dy": -6}
    )
    word = alt.Chart(data).mark_text(**place, color=theme.colour(layer.colour), fontSize=theme.font_px - 1)
    other = {"y": alt.value(0)} if layer.along == "x" else {"x": alt.value(0)}
    return [ruled, word.encode(text="says:N", **across, **other)]
