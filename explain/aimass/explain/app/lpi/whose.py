"""Which row or image is explained: by its number, by conditions, by what the model says of it; in the address all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import streamlit as st

from aimass.explain.app.choosing import let_go, linked, linked_number
from aimass.explain.app.shell import told_error
from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import amount, plain, share
from aimass.explain.finding import WHICH, Finding, found_places, orders_for
from aimass.explain.words import number
from aimass.proto.errors import AimassError

__all__ = ["Things", "choose_one", "find", "outcome", "said_line"]

Floats = npt.NDArray[np.float64]
_ORDERS: Final = {
    "table": "as they stand",
    "highest": "highest prediction first",
    "lowest": "lowest prediction first",
    "unsure": "least sure first",
    "worst": "most wrong first",
}
_WHICH: Final = {"all": "all", "wrong": "those that it says wrongly", "right": "those that it says rightly"}
_WHERE: Final = "where"
_MOST_SHOWN: Final = 500
_MOST_SAID: Final = 4


@dataclasses.dataclass(frozen=True)
class Things:
    """What one is chosen of: `one` is what each is called, `count` how many there are.

    `said` finds what the model says of all, float64 [n, outputs], None while it is not known; `among` the mask of those
    under conditions that a person wrote, None where there are no columns; `told` columns of some of them for a table.
    Of `private` ones no condition stands in the address, which browsers and proxies keep. `first` is the number that
    people give the first of them.
    """

    one: str
    count: int
    outputs: tuple[str, ...]
    classifies: bool
    labels: npt.NDArray[Any] | None
    said: Callable[[], Floats | None]
    among: Callable[[str], npt.NDArray[np.bool_]] | None
    told: Callable[[npt.NDArray[np.int64]], dict[str, list[Any]]]
    private: bool = False
    first: int = 1


def choose_one(things: Things, key: str) -> int | None:
    """The place of the one that is explained, kept in the address under `key`; None where it names none."""
    return linked_number(
        key, things.one.capitalize(), things.count, one=things.one, first=things.first, help=_numbers(things)
    )


def _numbers(things: Things) -> str:
    """Which numbers there are, and what the address makes of them."""
    numbers = f"From {things.first} to {things.count - 1 + things.first:,}"
    if not things.first:
        return f"{numbers}."
    return f"{numbers}: the first {things.one} of a file is {things.first}. In the address it is 0."


def find(things: Things, key: str, chosen: int) -> None:
    """A box in which another is found; what is looked for stands in the address too."""
    finder = st.expander(
        f"Find {_article(things.one)}", icon=":material/search:", key=bound("find"), bind="query-params"
    )
    if finder.open:
        with finder:
            try:
                _found(things, key, chosen)
            except AimassError as error:
                told_error(error)


def _found(things: Things, key: str, chosen: int) -> None:
    finding = _finding(things)
    among = None
    if things.among is not None:
        if things.private:
            st.query_params.pop(_WHERE, None)
        where = st.text_input(
            "Under these conditions",
            key=f"{_WHERE}-private" if things.private else bound(_WHERE),
            bind=None if things.private else "query-params",
            placeholder="age >= 57 and thal = normal",
            max_chars=1_000,
            help="A number has >=, <=, >, <, = and !=, a word = and !=, both `is missing` and `is known`.",
        )
        among = things.among(where)
    said = things.said()
    if said is None or finding is None:
        return
    places = found_places(
        finding, said, things.outputs, things.labels, classifies=things.classifies, among=among, output=_output(things)
    )
    _listed(things, key, places, said, chosen)


def _finding(things: Things) -> Finding | None:
    """What is looked for; of what rows or models do not have nothing is offered."""
    judged = things.labels is not None and things.classifies
    left, middle, right = st.columns(3)
    with left:
        which = linked("which", "Which", WHICH if judged else ("all",), named=lambda one: _WHICH[one])
    with middle:
        labels = ("", *things.outputs) if things.classifies else ("",)
        let_go("says", labels)
        says = linked("says", "Of which the model says", labels, named=lambda one: one or "anything")
    with right:
        orders = orders_for(classifies=things.classifies, labelled=things.labels is not None)
        order = linked("order", "In this order", orders, named=lambda one: _ORDERS[one])
    if which is None or says is None or order is None:
        return None
    return Finding(which=which, said=says, order=order)  # type: ignore[arg-type]  # (each is one of its words)


def _output(things: Things) -> int:
    """What highest and lowest are of: the label that is explained, where one was chosen."""
    asked = st.query_params.get("output", "")
    return things.outputs.index(asked) if asked in things.outputs else len(things.outputs) - 1


def _listed(things: Things, key: str, places: npt.NDArray[np.int64], said: Floats, chosen: int) -> None:
    """Those that were found, one of which a click or a key chooses."""
    shown = places[:_MOST_SHOWN]
    more = f", the first {len(shown):,} of which are shown" if len(shown) < len(places) else ""
    st.caption(f"{amount(len(places), things.one)} of {things.count:,}{more}. Choose one in the table.")
    if not len(places):
        st.info("None is like this: leave out a condition.")
        return
    with st.container(horizontal=True):
        for word, step in (("Previous", -1), ("Next", 1)):
            other = _beside(places, chosen, step)
            st.button(
                word, key=f"{word}-{key}", on_click=_choose, args=(key, other + things.first), disabled=other == chosen
            )
    columns: dict[str, list[Any]] = {things.one: (shown + things.first).tolist()}
    columns |= _said_columns(things, said[shown], shown) | things.told(shown)
    st.dataframe(
        columns,
        hide_index=True,
        height=260,
        key=f"found-{key}",
        on_select=lambda: _selected(key, shown + things.first),
        selection_mode="single-row",
    )


def _beside(places: npt.NDArray[np.int64], chosen: int, step: int) -> int:
    """The one before or after the chosen one among those that were found; the first where it is none of them."""
    at = np.flatnonzero(places == chosen)
    if not len(at):
        return int(places[0])
    return int(places[min(max(int(at[0]) + step, 0), len(places) - 1)])


def _choose(key: str, number: int) -> None:
    st.session_state[key] = number


def _selected(key: str, shown: npt.NDArray[np.int64]) -> None:
    """`shown` are the numbers of those in the table."""
    picked: Sequence[int] = st.session_state[f"found-{key}"].selection.rows
    if picked and picked[0] < len(shown):
        st.session_state[key] = int(shown[picked[0]])


def _said_columns(things: Things, said: Floats, shown: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
    if not things.classifies:
        found: dict[str, list[Any]] = {"the model says": [round(float(one), 4) for one in said[:, 0]]}
    else:
        likely = said.argmax(axis=1)
        found = {
            "the model says": [things.outputs[place] for place in likely],
            "probability (%)": [round(100 * float(row[place]), 1) for row, place in zip(said, likely, strict=True)],
        }
    if things.labels is not None:
        found["outcome"] = [outcome(things, int(place)) for place in shown]
    return found


def outcome(things: Things, place: int) -> str:
    """What was true of one of them, where that is known."""
    if things.labels is None:
        return "not known"
    label = things.labels[place]
    if not things.classifies:
        return number(float(label))
    return things.outputs[int(label)] if label >= 0 else "not known"


def said_line(things: Things, said: Floats, place: int) -> None:
    """What the model says of one of them [outputs], the likeliest first, and what was true."""
    if things.classifies:
        order = np.argsort(-said, kind="stable")[:_MOST_SAID]
        words = ", ".join(f"{plain(things.outputs[one])} ({share(float(said[one]))})" for one in order)
    else:
        words = f"{plain(things.outputs[0])} {number(float(said[0]))}"
    st.markdown(f"**The model says** {words}  ·  **Outcome** {plain(outcome(things, place))}")


def _article(one: str) -> str:
    return f"an {one}" if one[0] in "aeiou" else f"a {one}"
