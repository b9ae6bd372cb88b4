"""Logs that a person reads at night: time, what, who, on one line each, to standard error."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure_logs"]


def configure_logs(*, quiet: bool = False) -> None:
    """Send the project's logs to standard error; warnings alone with `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("aimass")
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
