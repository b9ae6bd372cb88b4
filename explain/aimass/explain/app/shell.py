"""What all pages share: a header that says what a view is of, a frame for results, progress, honest other states."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import streamlit as st

from aimass.explain.app.house import Here, house
from aimass.explain.app.job import Seen
from aimass.explain.app.memo import Memo
from aimass.explain.app.presence import still_looks
from aimass.explain.app.sources import VISIT_OVER
from aimass.explain.app.wording import ago, amount, plain, with_code
from aimass.explain.cache import asking_key
from aimass.explain.charts.altair_charts import specs_of
from aimass.explain.charts.picture import Picture
from aimass.explain.charts.theme import theme_of
from aimass.explain.lineage import Lineage
from aimass.explain.questions import Asking
from aimass.explain.results import Result, csv_text
from aimass.explain.work import Work
from aimass.proto.errors import AimassError, DeadlinePassed, InternalError, Unauthenticated, Unavailable

__all__ = [
    "answered",
    "brought",
    "computed",
    "empty",
    "frame",
    "guarded",
    "header",
    "lineage_line",
    "looked",
    "shown_table",
    "told_error",
]

P = ParamSpec("P")
T = TypeVar("T")
_AT_ONCE_S: Final = 0.25
"""What is found within this time is shown without a word of progress."""
_LOOK_S: Final = 0.5
_AGAIN_S: Final = 3.0
_HELD: Final = {True: "held out", False: "trained on", None: "not known whether held out"}
_BROUGHT: Final = "_brought"
_CHARTS: Final = "_charts"
_MOST_PRIVATE: Final = 16
"""Answers about uploads that a session keeps."""
_SENTENCES: Final = 4
_MOST_ROWS: Final = 1_000
_ACROSS: Final = 3
"""Panels beside one another at most: each is to be read at 1280 pixels."""


# ---------------------------------------------------------------- what a view is of


def brought() -> None:
    """What the page shows from here on is of rows that the viewer brought: its charts are kept in their session."""
    st.session_state[_BROUGHT] = True


def header(title: str, asks: str = "", lineage: Lineage | None = None) -> None:
    """The page's name, the question that it answers, and what its numbers are of."""
    st.session_state[_BROUGHT] = False
    st.title(title, anchor=False)
    if asks:
        st.markdown(asks)
    if lineage is not None:
        lineage_line(lineage)


def lineage_line(lineage: Lineage) -> None:
    """Model, run, round, data, and whether its numbers are held out: always the same five, in the same order."""
    digest = f" `{lineage.model_digest[:12]}`" if lineage.model_digest else ""
    partners = f" at {amount(lineage.partners, 'partner')}" if lineage.partners else ""
    rows = f", {amount(lineage.rows, 'row')}" if lineage.rows else ""
    parts = (
        f"**Model** {plain(lineage.model)}{digest}",
        f"**Run** {plain(lineage.run[:8]) if lineage.run else '–'}",
        f"**Round** {'–' if lineage.round is None else lineage.round}",
        f"**Data** {plain(lineage.data or '–')}{rows}{partners}",
        f"**Numbers** {_HELD[lineage.held_out]}",
    )
    st.markdown("  ·  ".join(parts))


# ---------------------------------------------------------------- a result


def frame(result: Result, key: str, title: str = "") -> None:
    """One view: sentences, chart, how to read it and what it does not show, doubts, its table, and files of it.

    `key` tells frames of a page apart, and names the files.
    """
    if title:
        st.subheader(title, anchor=False)
    said = result.describe()
    for line in said[:_SENTENCES]:
        st.markdown(plain(line))
    theme = current_theme()
    picture = result.picture()
    _panels(result, picture, theme, key, " ".join(said[:2]))
    st.caption(f"**How to read this:** {plain(picture.how_to_read)}")
    st.caption(f"**What it does not show:** {plain(picture.shows_not)}")
    for check in result.checks:
        if not check.passed:
            st.warning(plain(f"{check.name}: {check.error:.2g} where {check.limit:.2g} is allowed. {check.says}"))
    with st.container(horizontal=True):
        _files(result, key, theme)
        _table(result, key)
        _more(result, said[_SENTENCES:])


def shown_table(
    result: Result, key: str, title: str, how_to_read: str, columns: Mapping[str, Any] | None = None
) -> None:
    """One view as its table instead of its picture: sentences, the first of its rows, and files of it.

    `how_to_read` is of the table, as the picture's is of the picture; `columns` say how Streamlit shows each.
    """
    st.subheader(title, anchor=False)
    for line in result.describe()[:_SENTENCES]:
        st.markdown(plain(line))
    _rows(result, key, columns)
    st.caption(f"**How to read this:** {plain(how_to_read)}")
    st.caption(f"**What it does not show:** {plain(result.picture().shows_not)}")
    with st.container(horizontal=True):
        _files(result, key, current_theme())


def _rows(result: Result, key: str, columns: Mapping[str, Any] | None = None) -> None:
    cells = result.to_columns()
    rows = max(map(len, cells.values()), default=0)
    shown = {name: _of_one_kind(values[:_MOST_ROWS]) for name, values in cells.items()}
    st.dataframe(shown, hide_index=True, key=f"table-{key}", column_config=columns)
    if rows > _MOST_ROWS:
        st.caption(f"The first {_MOST_ROWS:,} of {amount(rows, 'row')}: the CSV under Download holds all.")


def _panels(result: Result, picture: Picture, theme: str, key: str, alt: str) -> None:
    """The picture's panels, as many beside one another as it says, under one another where the screen is narrow."""
    specs = _drawn(result, picture, theme)
    across = min(picture.columns, len(specs), _ACROSS)
    for start in range(0, len(specs), across):
        beside = st.columns(across)
        for place, (column, panel, spec) in enumerate(
            zip(beside, picture.panels[start:], specs[start : start + across], strict=False), start
        ):
            with column:
                width: Literal["content", "stretch"] = "content" if panel.fixed else "stretch"
                said = f"{panel.title}. {alt}"
                st.vega_lite_chart(json.loads(spec), theme=None, width=width, key=f"chart-{key}-{place}", alt=said)


def _drawn(result: Result, picture: Picture, theme: str) -> tuple[str, ...]:
    """Its charts, drawn once for all who look: by what it holds, as a page makes some results anew at each run.

    An answer that is kept is known by its place in memory: it is held with its charts, so its id stays its own.
    """
    drawings, charts = _kept_charts()
    content = (type(result).__name__, theme)

    def drawn() -> tuple[Result, tuple[str, ...]]:
        key = (*content, result.digest)
        return result, charts.get(key, math.inf, lambda: specs_of(picture, theme_of(theme)))

    return drawings.get((*content, id(result)), math.inf, drawn)[1]


def _kept_charts() -> tuple[Memo, Memo]:
    """Where charts are kept by place and by content: for all, or of brought rows for this session alone."""
    if not st.session_state.get(_BROUGHT):
        return house().drawn, house().charts
    found: tuple[Memo, Memo] = st.session_state.setdefault(_CHARTS, (Memo(most=16), Memo(most=32)))
    return found


def _files(result: Result, key: str, theme: str) -> None:
    with st.popover("Download", icon=":material/download:", key=f"files-{key}"):
        kinds: tuple[tuple[str, str, Callable[[], bytes]], ...] = (
            ("PNG", "image/png", lambda: result.to_png(theme)),
            ("SVG", "image/svg+xml", lambda: result.to_svg(theme).encode()),
            ("CSV", "text/csv", lambda: csv_text(result.to_columns()).encode()),
            ("JSON", "application/json", result.to_json),
        )
        for name, mime, make in kinds:
            st.download_button(
                name,
                functools.partial(_made, make),
                file_name=f"{key}.{name.lower()}",
                mime=mime,
                key=f"file-{key}-{name}",
                on_click="ignore",
                width="stretch",
            )


def _made(make: Callable[[], bytes]) -> bytes:
    """A file, when somebody wants it. Streamlit logs what is raised here with its text, in which rows may stand."""
    try:
        return make()
    except AimassError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever it is, its kind alone is told)
        raise InternalError(f"the file could not be made: {type(error).__name__}", code="app.file") from None


def _table(result: Result, key: str) -> None:
    """Made and sent once it is opened: of a long run it is larger than all else of a page."""
    figures = st.popover("Figures", icon=":material/table:", key=f"figures-{key}", on_change="rerun")
    if not figures.open:
        return
    with figures:
        _rows(result, key)


def _of_one_kind(cells: Sequence[object]) -> list[object]:
    """Numbers as they are, and anything else as words: a table's column has one type."""
    numbers = all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in cells)
    return list(cells) if numbers else ["" if cell is None else str(cell) for cell in cells]


def _more(result: Result, sentences: tuple[str, ...]) -> None:
    doubts = result.warnings()
    if not doubts and not sentences:
        return
    with st.popover(f"Doubts ({len(doubts)})" if doubts else "More", icon=":material/help:"):
        for line in sentences:
            st.markdown(plain(line))
        for line in doubts:
            st.markdown(f"- {plain(line)}")


def current_theme() -> str:
    """`light` or `dark`, as the viewer's browser shows the app."""
    return "dark" if st.context.theme.type == "dark" else "light"


# ---------------------------------------------------------------- work


def answered(
    here: Here, asking: Asking, title: str, *, seed: int = 0, private: bool = False, slot: str = ""
) -> Result | None:
    """The answer to a question, found before or in the background; None while it is not there, which is shown.

    What is `private` is kept in this session alone: neither on disk nor for others. What was asked before in the same
    `slot` is given up: a slider that moves on waits for its last place alone.
    """
    whose = "" if asking.model.digest else here.viewer
    key = f"{asking_key(asking, seed)}{whose}"
    results = here.house.results

    def do(work: Work) -> Result:
        seeded = dataclasses.replace(work, seed=seed)
        return asking.answer(seeded) if private else results.answer(asking, seeded)

    return computed(here, key, title, do, private=private, slot=slot)


def computed(
    here: Here, key: str, title: str, do: Callable[[Work], T], *, private: bool = False, slot: str = ""
) -> T | None:
    """What `do` comes to, done once for all who ask by this key; None while it is not there, which is shown."""
    kept: dict[str, T] = st.session_state.setdefault("_private", {}) if private else {}
    if private:
        key = f"{key} {here.viewer}"  # nobody joins it, or learns that it is computed
        if key in kept:
            return kept[key]
        for old in list(kept)[: max(0, len(kept) + 1 - _MOST_PRIVATE)]:
            del kept[old]
    jobs = here.house.jobs
    given_up = _moved_on(here, slot, key) if slot else set()
    seen: Seen[T] = jobs.ask(key, title, do, here.viewer, person=here.asker, private=private)
    jobs.wait(key, _AT_ONCE_S)
    seen = jobs.look(key, here.viewer) or seen
    match seen.state:
        case "done":
            if private and seen.result is not None:
                kept[key] = seen.result
                jobs.forget(key)
            return seen.result
        case "failed":
            if seen.error is not None:
                told_error(seen.error)
            _again(here, key)
        case "cancelled" if key in given_up:
            given_up.discard(key)
            jobs.forget(key)
            st.rerun()
        case "cancelled":
            st.info(f"{title}: cancelled.")
            _again(here, key)
        case _:
            _progress(here, key)
    return None


def _moved_on(here: Here, slot: str, key: str) -> set[str]:
    """Give up what this viewer asked before in the slot; the keys that were given up so, and not by a wish."""
    given_up: set[str] = st.session_state.setdefault("_given_up", set())
    former = st.session_state.get(f"_slot_{slot}")
    if former not in (None, key) and here.house.jobs.cancel(former, here.viewer):
        given_up.add(former)
    st.session_state[f"_slot_{slot}"] = key
    return given_up


def _again(here: Here, key: str) -> None:
    if st.button("Compute again", key=f"again-{key[:16]}"):
        here.house.jobs.forget(key)
        st.rerun()


def looked(seconds: float) -> Callable[[Callable[Concatenate[Here, P], None]], Callable[Concatenate[Here, P], None]]:
    """A part of a page that is shown anew so often by itself, while it is the same person who looks. What it raises is
    told in its place, until it is over: Streamlit does not hand a fragment's error on to the page around it."""

    def made(show: Callable[Concatenate[Here, P], None]) -> Callable[Concatenate[Here, P], None]:
        @functools.wraps(show)
        def guarded_part(here: Here, /, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                if not still_looks(here):
                    st.rerun()
                show(here, *args, **kwargs)
            except AimassError as error:
                if isinstance(error, Unauthenticated) or error.code == VISIT_OVER:
                    st.rerun()  # leads to the login, or to connections anew
                told_error(error)

        return st.fragment(guarded_part, run_every=seconds)

    return made


@looked(_LOOK_S)
def _progress(here: Here, key: str) -> None:
    seen = here.house.jobs.look(key, here.viewer)
    if seen is None or seen.over:
        st.rerun()
    waits = f" Waiting for {amount(seen.ahead, 'other')}." if seen.state == "waiting" else ""
    st.progress(seen.share, text=plain(f"{seen.title}: {100 * seen.share:.0f} % {seen.what}{waits}"))
    st.caption("You may leave this page or reload it: the work goes on.")
    if st.button("Cancel", key=f"cancel-{key[:16]}"):
        if not here.house.jobs.cancel(key, here.viewer):
            st.toast("Somebody else waits for this too: it goes on for them.")
        st.rerun()


# ---------------------------------------------------------------- other states


def empty(what: str, cure: str, command: str = "") -> None:
    """Nothing to show, and what to do about it."""
    with st.container(border=True):
        st.markdown(f"**{what}**")
        st.markdown(cure)
        if command:
            st.code(command, language=None)


def told_error(error: AimassError) -> None:
    """What happened and what mends it, with the name that logs share; the texts are others'."""
    value = "" if error.value is None else f": {plain(error.value)}"
    limit = "" if error.limit is None else f" Allowed: {plain(error.limit)}."
    what = with_code(f"{error.what[:1].upper()}{error.what[1:]}".rstrip("."))
    st.error(f"**{what}**{value}.{limit} {with_code(error.cure)} `{error.code}`", icon=":material/error:")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A page whose service is away says so, and comes back when it does; another named error is told."""
    try:
        yield
    except (Unavailable, DeadlinePassed) as error:
        told_error(error)
        _until_back()
    except AimassError as error:
        told_error(error)


@st.fragment(run_every=_AGAIN_S)
def _until_back() -> None:
    """Look again by itself until the page can be shown."""
    tries: int = st.session_state.get("_tries", 0)
    st.caption(f"Looking again every {ago(_AGAIN_S)}.")
    st.session_state["_tries"] = tries + 1
    if tries:
        st.session_state["_tries"] = 0
        st.rerun()
