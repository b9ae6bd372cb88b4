"""Documents that change by numbers: of two who go on from one state, one wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from aimass.proto.errors import Conflict, NotFound, Unavailable
from aimass.proto.numbered import Document, Numbered, is_taken
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly


@pytest.fixture
def store() -> Unruly:
    return Unruly(MemoryObjects())


def test_before_the_first_there_is_none(store: Unruly) -> None:
    assert Numbered(store, "a/doc").newest() is None
    with pytest.raises(NotFound):
        Numbered(store, "a/doc").read(1)


def test_the_newest_is_the_last_that_was_committed(store: Unruly) -> None:
    document = Numbered(store, "a/doc")
    document.commit(1, b"one")
    document.commit(2, b"two")
    Numbered(store, "a/doc-other").commit(1, b"another's")
    store.put("a/doc/notes.txt", b"no state")
    assert document.newest() == Numbered(store, "a/doc").newest(after=1) == Document(2, b"two")
    assert document.numbers() == (1, 2)
    assert document.read(1) == b"one"


def test_of_many_who_go_on_from_one_state_one_wins(store: Unruly) -> None:
    Numbered(store, "doc").commit(1, b"first")

    def commit(who: int) -> int | None:
        try:
            Numbered(store, "doc").commit(2, str(who).encode())
        except Conflict as error:
            return None if is_taken(error) else -1
        return who

    with ThreadPoolExecutor(8) as pool:
        won = [who for who in pool.map(commit, range(24)) if who is not None]
    newest = Numbered(store, "doc").newest()
    assert newest is not None
    assert [newest.data] == [str(who).encode() for who in won]


def test_a_state_that_is_not_listed_yet_is_found_by_its_name(store: Unruly) -> None:
    document = Numbered(store, "doc")
    for number in (1, 2, 3):
        document.commit(number, b"%d" % number)
    store.unlisted = {document.key(number) for number in (1, 2, 3)}
    assert document.newest() == Document(3, b"3")


def test_who_slept_while_its_state_was_forgotten_is_told(store: Unruly) -> None:
    document = Numbered(store, "doc")
    for number in range(1, 31):
        document.commit(number, b"%d" % number)
    document.forget(30)
    assert document.numbers() == (1, *range(23, 31))
    with pytest.raises(Conflict) as told:
        document.commit(7, b"from a state of long ago")
    assert is_taken(told.value)
    with pytest.raises(Conflict):
        document.commit(1, b"from none")
    assert document.newest() == document.newest(after=5) == Document(30, b"30")


def test_a_listing_of_long_ago_is_an_error_and_no_answer(store: Unruly) -> None:
    document = Numbered(store, "doc")
    for number in range(1, 31):
        document.commit(number, b"%d" % number)
    store.stale = [info for info in store.inner.list() if info.key < document.key(9)]
    document.forget(30)
    with pytest.raises(Unavailable) as told:
        document.newest()
    assert told.value.code == "storage.lists_late"
