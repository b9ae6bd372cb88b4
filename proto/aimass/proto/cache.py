"""Where a person's machine keeps what can be fetched again: public data sets, and the bases that tasks build on."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`$AIMASS_CACHE`, else `aimass` in the user's cache folder."""
    if configured := os.environ.get("AIMASS_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aimass"
