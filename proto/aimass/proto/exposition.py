"""Meters and readings as the text that Prometheus reads, with the process's own figures. One call, one registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aimass.proto.meters import Count, Meter, Reading, Spread

__all__ = ["CONTENT_TYPE", "exposed"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Once(Collector):
    """What is shown now."""

    def __init__(self, meters: Iterable[Meter], readings: Iterable[Reading]) -> None:
        self._families = [_family(meter) for meter in meters] + [_gauge(reading) for reading in readings]

    def collect(self) -> Iterator[Metric]:
        """All of it."""
        return iter(self._families)


def exposed(meters: Iterable[Meter], readings: Iterable[Reading]) -> bytes:
    """The text. It may be called from any thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(meters, readings))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _family(meter: Meter) -> Metric:
    if isinstance(meter, Spread):
        return _histogram(meter)
    kind = CounterMetricFamily if meter.kind == "counter" else GaugeMetricFamily
    return _filled(kind(meter.name, meter.text, labels=meter.labels), meter)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, meter: Count) -> Metric:
    for labels, value in sorted(meter.read().items()):
        family.add_metric(labels, value)
    return family


def _histogram(meter: Spread) -> Metric:
    family = HistogramMetricFamily(meter.name, meter.text, labels=meter.labels)
    for labels, (counts, total) in sorted(meter.read().items()):
        names = [*(repr(float(bound)) for bound in meter.bounds), "+Inf"]
        family.add_metric(labels, buckets=list(zip(names, accumulate(counts), strict=True)), sum_value=total)
    return family


def _gauge(reading: Reading) -> Metric:
    family = GaugeMetricFamily(reading.name, reading.text, labels=reading.labels)
    for labels, value in sorted(reading.values.items()):
        family.add_metric(labels, value)
    return family
