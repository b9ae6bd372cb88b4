"""Log lines: readable as text, fields for programs, and nothing that another side sends breaks either."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from aimass.proto.errors import BadInput, OutOfSpace
from aimass.proto.logs import LogForm, about, configure_logs, subject

RUN = "0123456789abcdef" * 2
log = logging.getLogger("aimass.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("aimass")
    held, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = held
    ours.setLevel(level)


def printed(form: LogForm, capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    """What one of each kind of line looks like."""
    configure_logs(form, quiet=quiet)
    about(log, RUN, 3, "north").warning("contribution refused: %s", BadInput("too large", code="submit.size"))
    about(log, partner="north").info("connected")
    about(log, RUN, code="policy.rounds").info("declines")
    log.info("stopping")
    logging.getLogger("alembic").info("a library's chatter")
    logging.getLogger("asyncio").warning("a library's warning")
    return capsys.readouterr().err.splitlines()


def as_json(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_text_says_first_what_a_line_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [line[20:] for line in printed("text", capsys)]
    assert texts == [
        "WARNING run 01234567 step 3 north: contribution refused: too large.",
        "INFO    north: connected",
        "INFO    run 01234567: declines",
        "INFO    stopping",
        "WARNING a library's warning",
    ]


def test_json_has_run_step_partner_and_code_in_fields_where_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    lines = as_json(printed("json", capsys))
    assert all(line.pop("time").endswith("Z") for line in lines)
    assert lines == [
        {"level": "warning", "event": "contribution refused: too large.", "run": RUN, "step": 3, "partner": "north",
         "code": "submit.size"},
        {"level": "info", "event": "connected", "partner": "north"},
        {"level": "info", "event": "declines", "run": RUN, "code": "policy.rounds"},
        {"level": "info", "event": "stopping"},
        {"level": "warning", "event": "a library's warning"},
    ]  # fmt: skip


def test_times_are_in_utc_with_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    record = log.makeRecord("aimass", logging.WARNING, "", 0, "x", (), None)
    record.created = 1_700_000_000.25
    log.handle(record)
    assert as_json(capsys.readouterr().err.splitlines())[0]["time"] == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize("form", ["text", "json"])
def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str], form: LogForm) -> None:
    assert len(printed(form, capsys, quiet=True)) == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_the_other_side_sends_stays_on_its_line_and_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], form: LogForm
) -> None:
    configure_logs(form)
    nasty = "a\nERROR b\r\x1b[2J\x9b\u202e\u2028\ud800"
    about(log, RUN, partner=nasty).info("said %s", nasty)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text[:-1].isprintable()


def test_a_name_that_another_side_gave_is_cut_to_a_names_length(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    about(log, run="f" * 10_000, partner="n" * 10_000, code="c" * 10_000).info("x")
    line = as_json(capsys.readouterr().err.splitlines())[0]
    assert [len(line[name]) for name in ("run", "partner", "code")] == [64, 64, 64]


def test_a_traceback_is_a_field_of_its_line_and_its_named_error_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")

    def fails() -> None:
        raise OutOfSpace("full", code="disk.full")

    try:
        fails()
    except OutOfSpace:
        log.exception("cannot go on", extra=subject(RUN))
    (line,) = as_json(capsys.readouterr().err.splitlines())
    assert (line["code"], line["run"]) == ("disk.full", RUN)
    assert "raise OutOfSpace" in line["trace"]
    assert "raise OutOfSpace" not in line["event"]
