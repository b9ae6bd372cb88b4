"""What a link asks of widgets that keep their value in the address, and cannot be: Streamlit drops it without a word.

One place for all pages: what the address held before a page was made is compared with what its widgets hold then.
(Choices of `choosing` say so themselves, each in its place.)
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import streamlit as st

from aimass.explain.app.wording import plain

__all__ = ["bound", "is_met", "unmet_told"]

_STATE: Final = "_unmet"
_BOUND: Final = "_bound"
Address = Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Of one session: the page, what its address held when it was last made, what of a link no widget has met yet, and
    what a link asked and did not get, with what is shown in its place."""

    page: str = ""
    address: Address = dataclasses.field(default_factory=dict)
    waiting: Address = dataclasses.field(default_factory=dict)
    unmet: Mapping[str, tuple[tuple[str, ...], Any]] = dataclasses.field(default_factory=dict)


def bound(key: str) -> str:
    """The key of a widget that is made now with `bind="query-params"`: what a link asks of it is looked at.

    Nothing else that the session holds is any link's affair; and Streamlit goes on holding values of widgets that are
    not made any more, which say nothing of what is shown.
    """
    st.session_state.setdefault(_BOUND, set()).add(key)
    return key


@contextlib.contextmanager
def unmet_told(page: str) -> Iterator[None]:
    """Around a page: above it stands what a link asked of a widget that cannot be, until another value is chosen."""
    place = st.empty()
    seen: _Seen = st.session_state.get(_STATE, _Seen())
    address = _address()
    if seen.page != page:
        seen = _Seen(page)
    held_on = {key: values for key, values in seen.waiting.items() if address.get(key) == values}
    new = {key: values for key, values in address.items() if seen.address.get(key) != values}
    st.session_state[_BOUND] = set()
    try:
        yield
    finally:  # also where the page begins anew at once
        waiting = held_on | new
        held = _held()
        judged = {key: values for key, values in waiting.items() if key in held}
        unmet = {key: one for key, one in seen.unmet.items() if key not in held or held[key] == one[1]}
        for key, values in judged.items():
            if not is_met(values, held[key]):
                unmet[key] = values, held[key]
        rest = {key: values for key, values in waiting.items() if key not in judged}
        st.session_state[_STATE] = _Seen(page, _address(), rest, unmet)
    if shown := [_told(key, *one) for key, one in unmet.items() if key in held]:
        place.warning("  \n".join(shown))


def _address() -> dict[str, tuple[str, ...]]:
    return {key: tuple(st.query_params.get_all(key)) for key in st.query_params}


def _held() -> dict[str, Any]:
    """What the widgets hold that this run of the page made."""
    return {key: st.session_state[key] for key in st.session_state[_BOUND] if key in st.session_state}


def is_met(asked: Sequence[str], held: object) -> bool:
    """Whether a widget holds what an address asks of it, however it is written there."""
    if isinstance(held, list | tuple):
        return len(asked) == len(held) and all(is_met((one,), other) for one, other in zip(asked, held, strict=True))
    last = asked[-1] if asked else ""
    if held is None:
        return not last
    if isinstance(held, bool):
        return last.lower() == str(held).lower()
    if isinstance(held, int | float):
        try:
            return float(last) == held
        except ValueError:
            return False
    return last == str(held)


def _told(key: str, asked: Sequence[str], held: object) -> str:
    shown = ", ".join(map(str, held)) if isinstance(held, list | tuple) else "" if held is None else str(held)
    return plain(f"The link asks for {key} = “{', '.join(asked)}”, which is not here; shown is “{shown or 'nothing'}”.")
