"""A data set's epsilon over time, from the entries of its ledger: as a drawing (SVG) or as a chart for a terminal.

Every step up is a debit, at the time when it was reserved. Epsilons do not add up, so each point is the figure of all
that counted by then. What a budget was before it was changed is not drawn: the line is the budget of now.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import html
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Budget, Event, tally
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.ledger_state import LOST, Ledger, run_name

__all__ = ["MOST_POINTS", "History", "Point", "chart", "history", "svg"]

MOST_POINTS: Final = 100
"""A figure takes a tenth of a second."""
_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 34, 40
_COLOURS: Final = ("#1f6f6b", "#b0643c", "#5b4a9c", "#3b7dd8", "#8a6d1f", "#a03060")
_GREY: Final = "#8a8f98"
_BARS: Final = " ▁▂▃▄▅▆▇█"
_NAMED: Final = len(_COLOURS)
"""Runs that are named: the last ones."""
_SPANS: Final = ((900, "%H:%M:%S UTC"), (3 * 86_400, "%d %b %H:%M"), (200 * 86_400, "%d %b"), (math.inf, "%b %Y"))
"""How a time is written on an axis of so many seconds."""


Scale = Callable[[float], float]
"""From a value to its place in the drawing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """From `at` on, in Unix time, so much was spent; `run` did it."""

    at: float
    epsilon: float
    run: str


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """Points in order of time, against the budget."""

    data_set: str
    budget: Budget
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """What was spent, with what an epsilon depends on."""
        terms = self.budget.terms
        spent, relation = self.points[-1].epsilon if self.points else 0.0, terms.relation.replace("-", " ")
        said = f"{self.data_set}: epsilon {spent:.4g} of {self.budget.epsilon:g} spent"
        return f"{said}, for one {terms.unit} at delta {terms.delta:g}, {relation}"

    @property
    def top(self) -> float:
        """The largest value of the axis."""
        return 1.08 * max(self.budget.epsilon, *(point.epsilon for point in self.points), 0.0)


def history(data_set: str, ledger: Ledger, budget: Budget, accountant: Accountant, most: int = MOST_POINTS) -> History:
    """What counted, debit by debit; of very many those are left out that lie between others, never the last."""
    debits = sorted(_debits(ledger), key=lambda debit: debit[0])
    drawn = {round(place * (len(debits) - 1) / (most - 1)) for place in range(most)}
    points, counted = [], Counter(tally(()))
    for place, (at, run, events) in enumerate(debits):
        counted.update(tally(events))
        if len(debits) <= most or place in drawn:
            points.append(Point(at, accountant.figure(budget.terms, counted).epsilon, run))
    return History(data_set, budget, tuple(points))


def _debits(ledger: Ledger) -> Iterator[tuple[float, str, tuple[Event, ...]]]:
    """Time, run and events of whatever counts; an open study as a whole, in place of its trials."""
    whole = {study.number for study in ledger.studies.values() if study.open}
    for entry in ledger.entries.values():
        if entry.state is not EntryState.RELEASED and entry.study not in whole:
            yield entry.since, run_name(entry.run_id), entry.events
    for study in ledger.studies.values():
        if study.open:
            yield study.since, study.name, study.events


def svg(histories: Sequence[History], now: float) -> str:
    """One panel below the other, until `now`."""
    panels = [
        f'<g transform="translate(0 {place * _HEIGHT})">{"".join(_panel(each, now))}</g>'
        for place, each in enumerate(histories)
    ]
    high = max(1, len(histories)) * _HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {high}" width="{_WIDTH}" height="{high}" '
        f'font-family="system-ui, sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(one: History, now: float) -> Iterator[str]:
    start = one.points[0].at if one.points else now - 86_400
    end = max(now, start + 60)
    right, bottom, top = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, one.top

    def x(at: float) -> float:
        return _LEFT + (right - _LEFT) * (at - start) / (end - start)

    def y(epsilon: float) -> float:
        return bottom - (bottom - _TOP) * min(epsilon, top) / top

    yield _text(_LEFT, 18, one.title, size=13)
    for value in _ticks(top):
        yield _line(_LEFT, y(value), right, y(value), "#e4e6ea")
        yield _text(_LEFT - 6, y(value) + 4, f"{value:g}", anchor="end")
    for at in (start + (end - start) * place / 4 for place in range(5)):
        yield _text(x(at), bottom + 18, _time(at, end - start), anchor="middle")
    limit = y(one.budget.epsilon)
    yield _line(_LEFT, limit, right, limit, "#c0392b", 'stroke-dasharray="6 4" stroke-width="1.5"')
    yield _text(right + 8, limit + 4, f"budget {one.budget.epsilon:g}", colour="#c0392b")
    yield from _steps(one, x, y, end)
    yield _line(_LEFT, bottom, right, bottom, "#444")


def _steps(one: History, x: Scale, y: Scale, end: float) -> Iterator[str]:
    """A rise in its run's colour at each debit, then level until the next."""
    runs = list(dict.fromkeys(point.run for point in one.points))
    colours = {run: _COLOURS[place % len(_COLOURS)] for place, run in enumerate(runs)}
    before = 0.0
    for place, point in enumerate(one.points):
        until = one.points[place + 1].at if place + 1 < len(one.points) else end
        path = f"M{x(point.at):.1f} {y(before):.1f}V{y(point.epsilon):.1f}H{x(until):.1f}"
        yield f'<path d="{path}" fill="none" stroke="{colours[point.run]}" stroke-width="2"/>'
        before = point.epsilon
    for place, run in enumerate(reversed(runs[-_NAMED:])):
        high = _HEIGHT - _BOTTOM - 2 - 16 * place
        yield _line(_WIDTH - _RIGHT + 8, high - 4, _WIDTH - _RIGHT + 24, high - 4, colours[run], 'stroke-width="3"')
        yield _text(_WIDTH - _RIGHT + 30, high, run if run == LOST else f"run {run}", colour=_GREY)


def _ticks(top: float) -> Iterator[float]:
    """Round values from 0 to `top`, five or so."""
    step = 10 ** math.floor(math.log10(top / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if top / (factor * step) <= 6)
    for place in range(int(top / step) + 1):
        yield round(place * step, 10)


def _time(at: float, span: float) -> str:
    shape = next(shape for most, shape in _SPANS if span <= most)
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime(shape)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222", size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} font-size="{size}" fill="{colour}">{html.escape(text)}</text>'


def chart(one: History, now: float, width: int = 60, height: int = 8) -> Iterator[str]:
    """Lines of text: a column for each stretch of time, as high as what was spent by its end."""
    yield one.title
    start = one.points[0].at if one.points else now - 86_400
    end, top = max(now, start + 60), one.top
    heights = []
    for column in range(width):
        until = start + (end - start) * (column + 1) / width
        spent = max((point.epsilon for point in one.points if point.at <= until), default=0.0)
        heights.append(height * min(spent, top) / top)
    limit = int(height * one.budget.epsilon / top)
    for row in reversed(range(height)):
        cells = [_BARS[round(8 * min(max(value - row, 0.0), 1.0))] for value in heights]
        bar = "".join("-" if cell == " " and row == limit else cell for cell in cells)
        label = (
            f"{one.budget.epsilon:.4g} budget" if row == limit else f"{top * row / height:.3g}" if row % 2 == 0 else ""
        )
        yield f"{label:>14} |{bar}"
    yield f"{'':>14} +{'-' * width}"
    first, last = _time(start, end - start), _time(end, end - start)
    yield f"{'':>16}{first}{last:>{max(width - len(first), 1)}}"
