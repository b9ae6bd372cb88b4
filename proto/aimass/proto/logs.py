"""Logs that a person reads at night: time, what, who, on one line each, to standard error."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure_logs"]


class _OneLine(logging.Formatter):
    """A message stays on its line, whatever the other side put into it; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line without a traceback."""
        return "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in super().formatMessage(record)
        )


def configure_logs(*, quiet: bool = False) -> None:
    """Send the project's logs to standard error; warnings alone with `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("aimass")
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
