"""What the explainer costs: how long viewers wait, alone and ten at once, and what each of them takes of the server."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright
from tests.support.app_house import Furnished, furnished
from tests.support.browser.serving_app import App, explainer, options_of
from tests.support.browser.viewer import chromium

from aimass.explain.app.pages_table import PAGES
from scripts.benches.app_crowd import crowd, reloads
from scripts.benches.app_screen import Waited, screen
from scripts.benches.row import Row
from scripts.demos.processes import cpu_seconds, family, resident_bytes

__all__ = ["measure", "measured_over"]

_HEART: Final = "model=heart%40champion&rows=heart"
_CLOTHES: Final = "model=fashion%40champion&rows=clothes"
_OF: Final = {
    "lpi": {"heart": _HEART, "fashion": _CLOTHES},
    "gap": {"heart": _HEART},
    "prim": {"heart": _HEART},
    "segviz": {"heart": _HEART},
}
"""Pages of models, and the models that they are timed with."""
_VIEWERS: Final = 10
_MEDIAN_S: Final = 2.0
_SLOWEST_S: Final = 5.0
_RELOADS: Final = 200
_FLAT_SHARE: Final = 0.05
"""Of the memory before: what the second half of the reloads may add and still be called flat."""
Place = tuple[str, str, str]
"""A label, a page's name and its query."""


def measure(*, quick: bool) -> list[Row]:
    """All figures, over a house of real services."""
    with tempfile.TemporaryDirectory() as folder:
        _say("founding a house: a minute or three")
        with furnished(Path(folder) / "house") as (_, found):
            return measured_over(found, Path(folder) / "app", quick=quick)


def measured_over(found: Furnished, folder: Path, *, quick: bool) -> list[Row]:
    """The same over a house that there is; `folder` is the app's own, and empty."""
    places = _places()
    with explainer(folder, options_of(found, "operator")) as app:
        return [*_on_screen(app, places, 2 if quick else 5), *_memory(app, places, _RELOADS // (4 if quick else 1))]


def _on_screen(app: App, places: Sequence[Place], looks: int) -> list[Row]:
    """What one viewer waits for, first and later, and among nine others who ask for the same page at the same time."""
    with sync_playwright() as playwright, chromium(playwright) as browser:
        with screen(browser, app.address) as window:
            cold = _each(places, lambda place: [window.look(_path(place))], "cold")
            spent = cpu_seconds(family(app.pid))
            warm = _each(places, lambda place: [window.look(_path(place)) for _ in range(looks)], "warm")
            spent = (cpu_seconds(family(app.pid)) - spent) / (looks * len(places))
        with screen(browser, app.address) as window, crowd(app.address, _VIEWERS - 1) as others:

            def among_others(place: Place) -> Waited:
                coming = others.visit(place[1], place[2])
                seen = window.look(_path(place))
                coming.result(300)
                return seen

            window.look(_path(places[0]))
            busy = _each(places, lambda place: [among_others(place) for _ in range(looks)], "ten viewers")
        with screen(browser, app.address) as window:
            files = float(window.look(_path(places[0])).file_bytes)
    core = Row.of("one core of the app, a warm page", [spent], "s", None, "lower")
    return [*_waits(cold, warm, busy), core, *_carried(warm, files)]


def _places() -> list[Place]:
    """All pages that there are, in the order of the menu; those of models with each model."""
    found: list[Place] = []
    for page in PAGES:
        if importlib.util.find_spec(page.module):
            asked = _OF.get(page.name, {"": ""})
            found += [(f"{page.name} {of}".strip(), page.name, query) for of, query in asked.items()]
    return found


def _path(place: Place) -> str:
    """The first page is the app's own address."""
    first = next(page.name for page in PAGES if importlib.util.find_spec(page.module))
    return f"{'' if place[1] == first else place[1]}{place[2] and '?'}{place[2]}"


def _each(places: Sequence[Place], look: Callable[[Place], list[Waited]], how: str) -> dict[str, list[Waited]]:
    found = {}
    for place in places:
        found[place[0]] = look(place)
        _say(f"{how}: {place[0]}: {', '.join(f'{one.first_s:.2f}' for one in found[place[0]])} s")
    return found


def _waits(cold: dict[str, list[Waited]], *others: dict[str, list[Waited]]) -> list[Row]:
    rows = [Row.of(f"{name}, cold", [one.first_s for one in seen], "s", None, "lower") for name, seen in cold.items()]
    for how, found in zip(("warm", "ten viewers"), others, strict=True):
        medians = {name: statistics.median(one.first_s for one in seen) for name, seen in found.items()}
        rows += [
            Row.of(f"{name}, {how}", [one.first_s for one in seen], "s", None, "lower") for name, seen in found.items()
        ]
        range_ = (min(medians.values()), max(medians.values()))
        middle, slowest = statistics.median(medians.values()), max(medians.values())
        rows.append(Row(f"median page, {how}", middle, "s", range_, None, _MEDIAN_S, "lower"))
        rows.append(Row(f"slowest page, {how}", slowest, "s", range_, None, _SLOWEST_S, "lower"))
    return rows


def _carried(warm: dict[str, list[Waited]], files: float) -> list[Row]:
    pages = [statistics.median(one.message_bytes for one in seen) / 1e3 for seen in warm.values()]
    return [
        Row.of("files of the app, once", [files / 1e6], "MB", None, "lower"),
        Row.of("messages of a page", pages, "kB", None, "lower"),
    ]


def _memory(app: App, places: Sequence[Place], count: int) -> list[Row]:
    """What sessions that stay open take, and what many that come and go leave behind."""
    before = _held(app)
    with crowd(app.address, _VIEWERS) as others:
        for place in places:
            others.visit(place[1], place[2]).result(300)
        each = (_held(app) - before) / _VIEWERS
    asked = [(page, query) for _, page, query in places]
    marks = [_held(app)]
    for part in range(4):
        reloads(app.address, asked, count // 4)
        marks.append(_held(app))
        _say(f"reloads: {(part + 1) * (count // 4)}: {marks[-1]:.0f} MB")
    grown = marks[-1] - marks[2]
    return [
        Row.of("memory of a viewer", [each], "MB", None, "lower"),
        Row.of("memory of the app", marks, "MB", None, "lower"),
        Row(
            f"memory grown, reloads {count // 2} to {count}", grown, "MB", (min(marks), max(marks)), None,
            _FLAT_SHARE * marks[0], "lower",
        ),
    ]  # fmt: skip


def _held(app: App) -> float:
    return resident_bytes(family(app.pid)) / 1e6


def _say(text: str) -> None:
    sys.stderr.write(f"app: {text}\n")
    sys.stderr.flush()
