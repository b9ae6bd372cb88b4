"""Which requests are told in the log, and how many a second."""

from __future__ import annotations

import logging

import pytest

from aimass.server.serving.request_log import LogRequests, RequestLog


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "aimass.serving")
    return caplog


def tell(told: RequestLog, level: int = logging.INFO) -> None:
    told.tell("GET /x", "clinic", "404", 0.0015, level=level, request="request-1")


@pytest.mark.parametrize(("which", "lines"), [("none", 0), ("failed", 2), ("all", 3)])
def test_those_that_are_asked_for_are_told(log: pytest.LogCaptureFixture, which: LogRequests, lines: int) -> None:
    told = RequestLog(which)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        tell(told, level)
    assert len(log.records) == lines


def test_a_flood_of_failures_is_told_in_few_lines_that_say_how_many_they_stand_for(
    log: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    told = RequestLog("failed", 2.0, lambda: now[0])
    for _ in range(1_000):
        tell(told)
    now[0] += 0.5
    tell(told)
    assert [record.getMessage() for record in log.records] == [
        "GET /x of clinic: 404 in 1.5 ms",
        "GET /x of clinic: 404 in 1.5 ms",
        "GET /x of clinic: 404 in 1.5 ms; 998 more were not told",
    ]


def test_where_all_are_asked_for_all_are_told(log: pytest.LogCaptureFixture) -> None:
    told = RequestLog("all", 1.0, lambda: 0.0)
    for _ in range(50):
        tell(told)
        tell(told, logging.DEBUG)
    assert len(log.records) == 100
