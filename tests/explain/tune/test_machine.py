from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.tune.machine import Begin, Close, Propose, due
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.trials import Began, Closed, Cut, Ended, Event, Measured, Search, Suggested, applied
from tests.explain.tune.planted import setup

OUTCOMES = st.sampled_from(["finished", "pruned", "failed"])


def told(search: Search, *events: Event) -> Search:
    for event in events:
        search = applied(search, event)
    return search


def ended(trial: int, place: int, state: str) -> Event:
    return Ended(
        at=0.0,
        trial=trial,
        place=place,
        state="failed" if state == "failed" else "pruned" if state == "pruned" else "finished",
    )


@given(st.data(), st.integers(1, 4), st.sampled_from(["none", "median"]))
def test_whatever_becomes_of_runs_all_is_tried_once_and_the_search_closes(
    data: st.DataObject, parallel: int, rule: str
) -> None:
    """Runs end in any order and way: no run begins twice, none while others are to decide, and it ends by itself."""
    pruning = Pruning(rule="median" if rule == "median" else "none")
    search = Search(setup=setup(trials=5, seeds=(1, 2, 3), pruning=pruning))
    busy: list[tuple[int, int]] = []
    begun: list[tuple[int, int]] = []
    for _ in range(100):
        while (action := due(search, busy, parallel)) is not None:
            match action:
                case Propose():
                    search = told(search, Suggested(at=0.0, settings={"train.momentum": len(search.trials) / 10}))
                case Begin():
                    key = (action.trial, action.place)
                    assert key not in begun
                    assert search.trials[action.trial].state == "running"
                    assert not action.place or rule == "none" or search.run(action.trial, 0).state == "finished"
                    begun.append(key)
                    busy.append(key)
                    search = told(search, Began(at=0.0, trial=key[0], place=key[1], run="r"))
                case Close():
                    assert not busy
                    search = told(search, Closed(at=0.0, state=action.state, reason=action.reason))
            assert len(busy) <= parallel
        if not busy:
            break
        trial, place = busy.pop(data.draw(st.integers(0, len(busy) - 1)))
        state = data.draw(OUTCOMES) if place == 0 else data.draw(st.sampled_from(["finished", "failed"]))
        if state == "pruned" and rule == "median":
            search = told(search, Cut(at=0.0, trial=trial, place=place, round=1, reason="poor"))
        state = "finished" if state == "pruned" and rule == "none" else state
        value = 0.5 if state == "finished" else None
        search = told(
            search, Measured(at=0.0, trial=trial, place=place, round=1, value=value), ended(trial, place, state)
        )
    assert search.state != "open"
    if search.state == "ended":
        assert len(search.trials) == 5
        assert {one.state for one in search.trials} <= {"finished", "pruned", "failed"}
        assert all((one.quality is not None) == (one.state == "finished") for one in search.trials)
    else:
        assert {one.state for one in search.trials} == {"failed"}
        assert 3 <= len(search.trials) <= 2 + parallel


def test_while_it_closes_nothing_begins_and_it_stays_open() -> None:
    search = Search(setup=setup())
    assert isinstance(due(search, [], 1), Propose)
    assert due(search, [], 1, closing=True) is None
    one = told(search, Suggested(at=0.0, settings={"train.momentum": 0.1}))
    assert isinstance(due(one, [], 1), Begin)
    assert due(one, [], 1, closing=True) is None
    done = told(Search(setup=setup(trials=1, seeds=(1,))), Suggested(at=0.0, settings={"train.momentum": 0.1}))
    assert isinstance(due(told(done, ended(0, 0, "finished")), [], 1, closing=True), Close)
