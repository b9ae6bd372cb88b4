"""Logs that a person reads at night and a program reads by day: one line each, to standard error.

`about(log, run=..., step=..., partner=...)` says once what a line is about. As text that stands before the message, as
JSON in fields of its own: `{"time", "level", "event", "run", "step", "partner", "request", "code"}`. The code is that
of the named error among the message's arguments. Secrets and rows are in no log.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal

from aimass.proto.errors import AimassError

__all__ = ["About", "Log", "LogForm", "about", "code_of", "configure_logs", "subject"]

LogForm = Literal["text", "json"]
_MOST: Final = 64
"""Letters of a name that another side gave."""


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a line is about. `request` is what a caller of a model and its server both call one request. `code` is for a
    reason that is no error here, such as one that the other side told."""

    run: str = ""
    step: int | None = None
    partner: str = ""
    code: str = ""
    request: str = ""

    def __str__(self) -> str:
        """The same before a message: `run 12345678 step 3 north`."""
        parts = [f"run {self.run[:8]}"] if self.run else []
        parts += [f"step {self.step}"] if self.step is not None else []
        parts += [f"request {self.request[:_MOST]}"] if self.request else []
        return " ".join([*parts, self.partner[:_MOST]]).rstrip()

    def fields(self) -> Iterator[tuple[str, str | int]]:
        """What is known, by name."""
        for name in ("run", "step", "partner", "request"):
            value = getattr(self, name)
            if value not in ("", None):
                yield name, value[:_MOST] if isinstance(value, str) else value


_NOTHING: Final = About()


Log = logging.LoggerAdapter[logging.Logger]
"""A logger whose lines are about one thing."""


def subject(
    run: str = "", step: int | None = None, partner: str = "", code: str = "", request: str = ""
) -> dict[str, About]:
    """What one line is about, as `extra` of a plain logger's call."""
    return {"about": About(run, step, partner, code, request)}


def about(logger: logging.Logger, run: str = "", step: int | None = None, partner: str = "", code: str = "") -> Log:
    """`logger`, for lines about a run, one of its steps, a partner."""
    return logging.LoggerAdapter(logger, subject(run, step, partner, code))


def code_of(record: logging.LogRecord) -> str:
    """The stable name of what a line tells: of its subject, of the error among its arguments, or of the traceback."""
    raised = record.exc_info[1] if record.exc_info else None
    told = [item for item in _arguments(record) if isinstance(item, AimassError)]
    named = told[0] if told else raised
    return _subject(record).code or (named.code if isinstance(named, AimassError) else "")


def _arguments(record: logging.LogRecord) -> tuple[Any, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def _subject(record: logging.LogRecord) -> About:
    held = getattr(record, "about", _NOTHING)
    return held if isinstance(held, About) else _NOTHING


class _OneLine(logging.Formatter):
    """A message stays on its line, whatever the other side put into it; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line without a traceback."""
        on = str(_subject(record))
        record.message = f"{on}: {record.message}" if on else record.message
        return "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in super().formatMessage(record)
        )


class _Json(logging.Formatter):
    """One object a line, ASCII alone: whatever the other side sent stays inside its string."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is a field of it."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, str | int] = {"time": at, "level": record.levelname.lower(), "event": record.getMessage()}
        fields |= dict(_subject(record).fields())
        if code := code_of(record):
            fields["code"] = code[:_MOST]
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class _ToStandardError(logging.Handler):
    """Writes to whatever standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or one with its traceback."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001  (what cannot be logged ends nothing; logging says so where it can)
            self.handleError(record)


def configure_logs(form: LogForm = "text", *, quiet: bool = False) -> None:
    """Send logs to standard error, the libraries' warnings with them; warnings alone with `quiet`."""
    text = _OneLine("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler = _ToStandardError()
    handler.setFormatter(_Json() if form == "json" else text)
    root = logging.getLogger()
    for held in [held for held in root.handlers if isinstance(held, _ToStandardError)]:
        root.removeHandler(held)
    root.addHandler(handler)
    # It tells of every call that a stop cancels; what fails in a call of ours is told by us.
    logging.getLogger("grpc").propagate = False
    logging.getLogger("aimass").setLevel(logging.WARNING if quiet else logging.INFO)
