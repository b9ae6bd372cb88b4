"""What if: a widget for each cell of a row; what is changed stands in the address as `aimass explain lpi` has it.

Of rows that a viewer brought it stands in their session alone: an address is kept by browsers and logged by proxies.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import streamlit as st

from aimass.explain.app.choosing import linked_many
from aimass.explain.app.shell import told_error
from aimass.explain.app.wording import label, plain
from aimass.explain.lpi.cells import alike, changes_of, written
from aimass.explain.rows import Feature, Rows
from aimass.proto.errors import AimassError

__all__ = ["KEY", "change_cells", "set_changes"]

KEY: Final = "if"
"""Of the address: a change as `feature=value`, repeated."""
_MEMORY: Final = "_linked_if"
_PRIVATE: Final = "_private_if"
_ACROSS: Final = 4
_FIRST: Final = 16
"""Features of a table whose widgets are all shown; of a wider one a person says which."""
_MOST: Final = 60
_MOST_DECIMALS: Final = 6
_STEPS: Final = 100
_MISSING: Final = -1


def change_cells(rows: Rows, row: int, scope: str, *, private: bool = False) -> tuple[str, ...] | None:
    """The changes of a row's cells; None where the address names one that cannot be, which is said.

    `scope` tells rows and models apart: of another row nothing is changed. Those of `private` rows are in no address.
    """
    here = f"{scope}-{row}"
    try:
        asked = _asked(rows, here, _texts(private))
    except AimassError as error:
        told_error(error)
        st.button("As it is", key="what-clear", on_click=set_changes, args=((), private))
        return None
    cells = rows.values[row]
    shown = _shown(rows, asked)
    changed: dict[int, float] = {}
    for start in range(0, len(shown), _ACROSS):
        for column, place in zip(st.columns(_ACROSS), shown[start : start + _ACROSS], strict=False):
            with column:
                cell = _Cell(rows.features[place], rows.values[:, place], float(cells[place]))
                changed[place] = cell.asked(f"what-{here}-{place}", asked.get(place, float(cells[place])))
    changed |= {place: cell for place, cell in asked.items() if place not in changed}
    found = tuple(
        written(rows.features[place], cell)
        for place, cell in sorted(changed.items())
        if not alike(cells[place : place + 1], np.float64(cell)).all()
    )
    st.session_state[_MEMORY] = (here, found)
    _keep(found, private)
    if found:
        st.button("As it is", key="what-clear", on_click=set_changes, args=((), private), icon=":material/undo:")
    return found


def _shown(rows: Rows, asked: dict[int, float]) -> list[int]:
    """The columns that have a widget: all of a narrow table; of a wide one those that somebody wants to change."""
    names = [feature.name for feature in rows.features]
    if len(names) <= _FIRST:
        return list(range(len(names)))
    wanted = linked_many("cells", "Features to change", names, names[:_FIRST], one="feature", most=_MOST)
    return sorted({*map(names.index, wanted), *asked})


def _texts(private: bool) -> tuple[str, ...]:
    """What is changed, as it is kept."""
    return tuple(st.session_state.get(_PRIVATE, ()) if private else st.query_params.get_all(KEY))


def _keep(changes: tuple[str, ...], private: bool) -> None:
    if private:
        st.session_state[_PRIVATE] = changes
        st.query_params.pop(KEY, None)
    elif changes != _texts(private):
        st.query_params[KEY] = list(changes)


def set_changes(changes: tuple[str, ...], private: bool = False, view: str = "") -> None:
    """Of a button: have these changes and no others, and show them."""
    _keep(changes, private)
    st.session_state.pop(_MEMORY, None)
    _forget_widgets()
    if view:
        st.session_state["view"] = view


def _asked(rows: Rows, here: str, texts: tuple[str, ...]) -> dict[int, float]:
    """Changes that the address names, by column, which widgets are to show where it was changed by a link."""
    of, said = st.session_state.get(_MEMORY, ("", None))
    if texts == said and of and of != here:
        texts = ()  # another row was chosen: what was changed was that of the former
    asked = changes_of(rows, texts)
    if texts != said or of != here:
        _forget_widgets()
    return asked


def _forget_widgets() -> None:
    for key in [key for key in st.session_state if str(key).startswith("what-")]:
        del st.session_state[key]


def _hold(key: str, first: float | None) -> None:
    """What the next widget of this key holds, `first` at first. It is told each time: a browser that is still loading
    the widget when the page is run again would begin with an empty one, which counts as a wish for a missing value."""
    st.session_state[key] = st.session_state.get(key, first)


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One cell with what its column holds elsewhere, `seen` [n]."""

    feature: Feature
    seen: npt.NDArray[np.float64]
    was: float

    def asked(self, key: str, first: float) -> float:
        """The cell that a widget says, which begins as `first`."""
        return self._category(key, first) if self.feature.kind == "category" else self._number(key, first)

    def _label(self) -> str:
        return label(self.feature.title)

    def _category(self, key: str, first: float) -> float:
        known = list(range(len(self.feature.values)))
        odd = [int(cell) for cell in {self.was, first} if not math.isnan(cell) and int(cell) not in known]
        _hold(key, _MISSING if math.isnan(first) else int(first))
        found = st.selectbox(
            self._label(),
            [*known, *odd, _MISSING],
            format_func=lambda place: self.feature.told(math.nan if place == _MISSING else float(place)),
            key=key,
            help=f"In this row: {plain(self.feature.told(self.was))}.",
        )
        return math.nan if found == _MISSING else float(found)

    def _number(self, key: str, first: float) -> float:
        known = self.seen[~np.isnan(self.seen)]
        decimals = _decimals(known)
        kind: Any = int if decimals == 0 and _whole(self.was) and _whole(first) else float
        low, high = self._bounds(first, kind)
        _hold(key, None if math.isnan(first) else kind(first))
        found = st.number_input(
            self._label(),
            low,
            high,
            None,
            1 if kind is int else _step(known, decimals),
            format="%d" if kind is int else f"%.{max(decimals, 1)}f",
            key=key,
            placeholder="missing",
            help=f"In this row: {plain(self.feature.told(self.was))}. {self._range(known)} Empty is missing.",
        )
        return math.nan if found is None else float(found)

    def _bounds(self, first: float, kind: Any) -> tuple[Any, Any]:
        """The column's public range, or none; a cell that lies outside of it may stay."""
        cells = [cell for cell in (self.was, first) if not math.isnan(cell)]
        low, high = self.feature.minimum, self.feature.maximum
        return (
            None if low is None else kind(math.floor(min([low, *cells]))) if kind is int else min([low, *cells]),
            None if high is None else kind(math.ceil(max([high, *cells]))) if kind is int else max([high, *cells]),
        )

    def _range(self, known: npt.NDArray[np.float64]) -> str:
        if not len(known):
            return "No row has one."
        return f"Seen: {plain(self.feature.between(float(known.min()), float(known.max())))}."


def _whole(cell: float) -> bool:
    return math.isnan(cell) or cell == round(cell)


def _decimals(known: npt.NDArray[np.float64]) -> int:
    """How many show the cells as they are, rounding of float32 aside."""
    for decimals in range(_MOST_DECIMALS):
        if np.allclose(known, np.round(known, decimals), rtol=1e-6, atol=1e-9):
            return decimals
    return _MOST_DECIMALS


def _step(known: npt.NDArray[np.float64], decimals: int) -> float:
    """About a hundredth of what was seen, in a power of ten that the cells have."""
    width = float(np.ptp(known)) if len(known) else 0.0
    fine = 10.0**-decimals
    return max(fine, 10.0 ** math.floor(math.log10(width / _STEPS))) if width > 0 else fine
