"""Meters: what is counted, what bounds it, and how Prometheus reads it."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aimass.proto.exposition import exposed
from aimass.proto.meters import Count, Meter, Reading, Spread, meters_of
from aimass.proto.transfer import TransferMeters
from aimass.proto.vitals import Vitals


def text_of(*meters: Meter, readings: tuple[Reading, ...] = ()) -> list[str]:
    text = exposed(meters, readings).decode()
    return [line for line in text.splitlines() if not line.startswith(("#", "process_"))]


def test_counters_gauges_and_histograms_read_as_prometheus_writes_them() -> None:
    refused = Count("aimass_refused", "Refused.", "code")
    refused.add("a.b")
    refused.add("a.b", by=2)
    room = Count("aimass_room", "Room.", kind="gauge")
    room.add(by=-1.5)
    took = Spread("aimass_took_seconds", "Took.", "part", bounds=(0.1, 1.0))
    for value in (0.1, 0.5, 7.0):
        took.observe(value, "sum")
    reading = Reading("aimass_here", "Here.", {("north",): 1.0}, ("partner",))
    assert text_of(refused, room, took, readings=(reading,)) == [
        'aimass_refused_total{code="a.b"} 3.0',
        "aimass_room -1.5",
        'aimass_took_seconds_bucket{le="0.1",part="sum"} 1.0',
        'aimass_took_seconds_bucket{le="1.0",part="sum"} 2.0',
        'aimass_took_seconds_bucket{le="+Inf",part="sum"} 3.0',
        'aimass_took_seconds_count{part="sum"} 3.0',
        'aimass_took_seconds_sum{part="sum"} 7.6',
        'aimass_here{partner="north"} 1.0',
    ]


@given(st.lists(st.text(max_size=80), max_size=300))
def test_no_names_that_others_make_up_grow_a_meter_or_break_its_text(names: list[str]) -> None:
    meter = Count("aimass_x", "X.", "code", most=8)
    for name in names:
        meter.add(name)
    held = meter.read()
    assert len(held) <= 9
    assert sum(held.values()) == len(names)
    assert all(len(key) <= 64 and key.isascii() for (key,) in held)
    families = list(text_string_to_metric_families("\n".join(text_of(meter)) + "\n"))
    assert sum(sample.value for family in families for sample in family.samples) == len(names)


def test_a_label_that_is_missing_is_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="aimass_x"):
        Count("aimass_x", "X.", "a", "b").add("one")


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_a_spread_counts_every_value_once_in_the_first_bucket_that_holds_it(values: list[float]) -> None:
    meter = Spread("aimass_y", "Y.", bounds=(0.5, 10.0, 1e5))
    for value in values:
        meter.observe(value)
    counts, total = meter.read()[()]
    edges = [float("-inf"), 0.5, 10.0, 1e5, float("inf")]
    assert counts == tuple(sum(low < value <= high for value in values) for low, high in itertools.pairwise(edges))
    assert total == pytest.approx(sum(values))


def test_what_fails_is_timed_too_and_its_error_passes() -> None:
    meter = Spread("aimass_z_seconds", "Z.")

    def fails(value: int) -> None:
        raise KeyError(value)

    with pytest.raises(KeyError):
        meter.timed(fails)(1)
    assert sum(meter.read()[()][0]) == 1


def test_meters_are_read_while_another_thread_counts() -> None:
    meter, over = Count("aimass_w", "W.", "code", most=100_000), threading.Event()

    def counts() -> None:
        for number in range(20_000):
            meter.add(str(number))
        over.set()

    thread = threading.Thread(target=counts)
    thread.start()
    while not over.is_set():
        meter.read()
    thread.join()
    assert len(meter.read()) == 20_000


def test_names_are_told_apart_and_say_what_they_count() -> None:
    meters = meters_of(TransferMeters()) + meters_of(Vitals())
    names = [meter.name for meter in meters]
    assert len(set(names)) == len(names)
    assert all(meter.text.endswith(".") and meter.name.startswith("aimass_") for meter in meters)
