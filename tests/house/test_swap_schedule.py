"""What happens in the swap bench, and when."""

from __future__ import annotations

import pytest
from scripts.benches.swap_schedule import FAULTS, Kind, schedule


def test_ten_minutes_hold_every_fault_many_kills_and_a_swap_in_most_seconds() -> None:
    events = schedule(540.0)
    assert {event.fault for event in events if event.kind is Kind.BAD} == set(FAULTS)
    assert sum(event.kind is Kind.KILL for event in events) > 40
    assert sum(event.kind is Kind.SWAP for event in events) > 270


@pytest.mark.parametrize("seconds", [24.0, 100.0, 540.0])
def test_events_are_in_order_and_within_the_time_and_the_registry_is_back_in_the_end(seconds: float) -> None:
    events = schedule(seconds)
    moments = [event.at_s for event in events]
    assert moments == sorted(moments)
    assert moments[-1] < seconds
    ways = [event.kind for event in events if event.kind in {Kind.AWAY, Kind.BACK}]
    assert ways == [Kind.AWAY, Kind.BACK] * (len(ways) // 2)
    assert ways


def test_nothing_is_promoted_while_the_registry_is_away_or_a_bad_version_is_found_out() -> None:
    events = schedule(540.0)
    for place, event in enumerate(events):
        if event.kind is Kind.BAD:
            assert events[place + 1].at_s - event.at_s >= 3.0
        if event.kind is Kind.AWAY:
            back = next(one for one in events[place:] if one.kind is Kind.BACK)
            assert not [one for one in events if event.at_s <= one.at_s < back.at_s and one.kind is Kind.SWAP]
