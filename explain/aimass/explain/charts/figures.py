"""Pictures drawn by matplotlib: for papers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm, Colormap, LinearSegmentedColormap, ListedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

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

__all__ = ["figure_of"]

_DPI = 100


def figure_of(picture: Picture, theme: Theme = LIGHT) -> Figure:
    """The picture as a figure that belongs to no window."""
    columns = min(picture.columns, len(picture.panels))
    rows = math.ceil(len(picture.panels) / columns)
    sizes = [(panel.width or theme.width, _height(panel, theme)) for panel in picture.panels]
    heights = [max(height for _, height in sizes[row * columns : (row + 1) * columns]) for row in range(rows)]
    width = max(width for width, _ in sizes) * columns + 180
    figure = Figure(
        (width / _DPI, (sum(heights) + 140 * rows + 60) / _DPI), dpi=_DPI, layout="constrained", facecolor=theme.paper
    )
    figure.suptitle(picture.title, x=0.01, ha="left", color=theme.ink, fontsize=theme.title_px)
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    for place, panel in enumerate(picture.panels):
        _panel(figure, figure.add_subplot(grid[place // columns, place % columns]), panel, theme)
    return figure


def _height(panel: Panel, theme: Theme) -> int:
    return panel.height or (max(60, theme.row_height * len(panel.y.names)) if panel.y.names else theme.height)


def _panel(figure: Figure, axes: Any, panel: Panel, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_title(panel.title, loc="left", color=theme.ink, fontsize=theme.font_px)
    for layer in panel.layers:
        _layer(figure, axes, layer, theme)
    _axis(axes, panel.x, theme, vertical=False)
    _axis(axes, panel.y, theme, vertical=True)
    if panel.series:
        _series(figure, axes, panel, theme)


def _series(figure: Figure, axes: Any, panel: Panel, theme: Theme) -> None:
    """The legend, below the axis' own words, where it hides nothing."""
    handles = [Rectangle((0, 0), 1, 1, color=theme.colour(token)) for token in panel.series.values()]
    widest = 40 + 0.7 * theme.font_px * max(map(len, panel.series))
    down = ScaledTranslation(0, -(44 if panel.x.title else 26) / _DPI, figure.dpi_scale_trans)
    axes.legend(
        handles,
        list(panel.series),
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + down,
        borderaxespad=0,
        ncols=max(1, int((panel.width or theme.width) / widest)),
        fontsize=theme.font_px - 2,
        frameon=False,
        labelcolor=theme.ink,
        handlelength=1.0,
    )


def _axis(axes: Any, axis: Axis, theme: Theme, *, vertical: bool) -> None:
    side, which = (axes.yaxis, "y") if vertical else (axes.xaxis, "x")
    getattr(axes, f"set_{which}label")(axis.title, color=theme.ink, fontsize=theme.font_px - 1)
    axes.tick_params(axis=which, colors=theme.ink, labelsize=theme.font_px - 2)
    for spine in axes.spines.values():
        spine.set_color(theme.grid)
    if axis.names:
        side.set_ticks(range(len(axis.names)), list(axis.names))
        ends = (-0.5, len(axis.names) - 0.5)
        getattr(axes, f"set_{which}lim")(*(reversed(ends) if vertical != axis.reverse else ends))
        if not vertical and max(map(len, axis.names), default=0) > 4:
            axes.tick_params(axis="x", labelrotation=40)
        return
    if axis.grid:
        side.grid(visible=True, color=theme.grid, linewidth=0.6)
        axes.set_axisbelow(True)
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    if axis.whole:
        side.set_major_locator(MaxNLocator(integer=True))
    if axis.domain is not None:
        getattr(axes, f"set_{which}lim")(*axis.domain)
    if axis.reverse:
        side.set_inverted(True)


def _layer(figure: Figure, axes: Any, layer: Layer, theme: Theme) -> None:
    match layer:
        case Bars():
            _bars(axes, layer, theme)
        case Spans():
            errors = np.stack([layer.x - layer.low, layer.high - layer.x]).clip(0)
            axes.errorbar(layer.x, layer.at, xerr=errors, fmt="o", ms=5, color=theme.colour(layer.colour))
        case Line():
            look = {"linestyle": "--"} if layer.dashed else {}
            faint = {"alpha": 0.15, "linewidth": 0.8} if layer.faint else {"linewidth": 1.6}
            style = {"drawstyle": "steps-post"} if layer.steps else {}
            axes.plot(layer.x, layer.y, color=theme.colour(layer.colour), **look, **faint, **style)
        case Band():
            axes.fill_between(layer.x, layer.low, layer.high, color=theme.colour(layer.colour), alpha=0.25, linewidth=0)
        case Points():
            shades = (
                {"color": theme.colour(layer.colour)}
                if layer.shade is None
                else {"c": layer.shade, "cmap": theme.sequential}
            )
            drawn = axes.scatter(layer.x, layer.y, s=layer.size * 0.6, alpha=0.75, linewidths=0, **shades)
            if layer.shade is not None:
                _legend(figure, axes, drawn, layer.shade_title, theme)
        case Heat():
            _heat(figure, axes, layer, theme)
        case Boxes():
            for left, right, bottom, top in zip(layer.left, layer.right, layer.bottom, layer.top, strict=True):
                axes.add_patch(
                    Rectangle(
                        (left, bottom), right - left, top - bottom, fill=False, lw=1.6, ec=theme.colour(layer.colour)
                    )
                )
        case Raster():
            height, width = layer.pixels.shape[:2]
            axes.imshow(
                layer.pixels, cmap="gray", extent=(0, width, height, 0), interpolation="nearest", vmin=0, vmax=255
            )
        case Rule():
            _rule(axes, layer, theme)


def _bars(axes: Any, layer: Bars, theme: Theme) -> None:
    begin = np.zeros(len(layer.at)) if layer.begin is None else layer.begin
    tokens = layer.colours if len(layer.colours) == len(layer.at) else layer.colours[:1] * len(layer.at)
    axes.barh(layer.at, layer.end - begin, left=begin, height=0.68, color=[theme.colour(token) for token in tokens])
    if layer.low is not None and layer.high is not None:
        axes.hlines(layer.at, layer.low, layer.high, color=theme.ink, linewidth=1.2)


def _heat(figure: Figure, axes: Any, layer: Heat, theme: Theme) -> None:
    known = layer.values[~np.isnan(layer.values)]
    norm: Normalize
    colours: Colormap
    if layer.bands:
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        ends = [min(low, layer.bands[0]) - 1e-9, *layer.bands, max(high, layer.bands[-1]) + 1e-9]
        colours = ListedColormap(list(theme.band_colours(len(layer.bands) + 1)))
        norm = BoundaryNorm(ends, colours.N)
    elif layer.diverging:
        most = float(np.abs(known).max()) if len(known) else 1.0
        colours = LinearSegmentedColormap.from_list("diverging", list(theme.diverging))
        norm = TwoSlopeNorm(0.0, -max(most, 1e-12), max(most, 1e-12))
    else:
        colours, norm = colormaps[theme.sequential], Normalize(*(layer.domain or (None, None)))
    drawn = axes.pcolormesh(layer.x, layer.y, np.ma.masked_invalid(layer.values), cmap=colours, norm=norm)
    _legend(figure, axes, drawn, layer.title, theme, layer.band_names)
    if layer.written:
        middles = [(ends[1:] + ends[:-1]) / 2 for ends in (layer.x, layer.y)]
        for (row, column), value in np.ndenumerate(layer.values):
            if not math.isnan(value):
                axes.text(
                    middles[0][column],
                    middles[1][row],
                    f"{value:.3g}",
                    ha="center",
                    va="center",
                    color="#808080",
                    fontsize=theme.font_px - 3,
                )


def _legend(figure: Figure, axes: Any, drawn: Any, title: str, theme: Theme, band_names: tuple[str, ...] = ()) -> None:
    spacing: Any = {"spacing": "uniform"} if band_names else {}
    bar = figure.colorbar(drawn, ax=axes, pad=0.01, **spacing)
    if band_names:
        ends = drawn.norm.boundaries
        bar.set_ticks([(low + high) / 2 for low, high in itertools.pairwise(ends)], labels=list(band_names))
    bar.set_label(title, color=theme.ink, fontsize=theme.font_px - 2)
    bar.ax.tick_params(colors=theme.ink, labelsize=theme.font_px - 3)


def _rule(axes: Any, layer: Rule, theme: Theme) -> None:
    colour = theme.colour(layer.colour)
    if layer.along == "x":
        axes.axvline(layer.value, linestyle="--", linewidth=1, color=colour)
        axes.annotate(
            layer.says,
            (layer.value, 1.0),
            (3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=theme.font_px - 3,
            color=colour,
        )
    else:
        axes.axhline(layer.value, linestyle="--", linewidth=1, color=colour)
        axes.annotate(
            layer.says,
            (0.0, layer.value),
            (3, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=theme.font_px - 3,
            color=colour,
        )
