"""What was said a moment ago is said again; faults are not kept."""

from __future__ import annotations

import threading

import pytest

from aimass.explain.app.memo import Memo
from aimass.proto.errors import Unavailable


def test_an_answer_holds_for_its_time_and_no_longer() -> None:
    at, asked = [0.0], []

    def ask() -> int:
        asked.append(1)
        return len(asked)

    memo = Memo(now=lambda: at[0])
    assert [memo.get("k", 2.0, ask), memo.get("k", 2.0, ask)] == [1, 1]
    at[0] = 2.5
    assert memo.get("k", 2.0, ask) == 2
    memo.forget("k")
    assert memo.get("k", 2.0, ask) == 3


def test_a_fault_is_raised_each_time() -> None:
    memo = Memo()

    def away() -> int:
        raise Unavailable("away")

    for _ in range(2):
        with pytest.raises(Unavailable):
            memo.get("k", 60.0, away)
    assert memo.get("k", 60.0, lambda: 7) == 7


def test_ten_who_ask_at_once_ask_the_service_once() -> None:
    memo, asked, go = Memo(), [], threading.Event()

    def ask() -> int:
        asked.append(1)
        go.wait()
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(memo.get("k", 60.0, ask))) for _ in range(10)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert found == [7] * 10
    assert len(asked) == 1


def test_the_longest_unused_goes() -> None:
    memo = Memo(most=2)
    for key in "abc":
        memo.get(key, 60.0, lambda: 1)
    assert memo.get("a", 60.0, lambda: 2) == 2
    assert memo.get("c", 60.0, lambda: 2) == 1


def test_what_was_asked_for_before_something_changed_is_not_held_after_it() -> None:
    memo = Memo()

    def old() -> str:
        memo.forget()
        return "old"

    assert memo.get("k", 60.0, old) == "old"
    assert memo.get("k", 60.0, lambda: "new") == "new"


def test_who_waits_for_a_service_that_hangs_is_told() -> None:
    memo, go, asking = Memo(patience_s=0.01), threading.Event(), threading.Event()

    def hangs() -> int:
        asking.set()
        go.wait()
        return 1

    first = threading.Thread(target=lambda: memo.get("k", 60.0, hangs))
    first.start()
    asking.wait()
    with pytest.raises(Unavailable, match="somebody else"):
        memo.get("k", 60.0, hangs)
    go.set()
    first.join()
    assert memo.get("k", 60.0, lambda: 2) == 1
    assert not memo._asking


def test_what_was_used_last_stays() -> None:
    memo = Memo(most=2)
    for key in ("a", "b", "a", "c"):
        memo.get(key, 60.0, lambda key=key: key)  # type: ignore[misc]
    assert memo.get("a", 60.0, lambda: "anew") == "a"
    assert memo.get("b", 60.0, lambda: "anew") == "anew"
