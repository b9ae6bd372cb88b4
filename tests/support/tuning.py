"""`aimass tune` as a person types it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["started"]


def started(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.Popen[str]:
    """The command in a folder; what it says can be read while it goes."""
    command = [python, "-m", "aimass.proto.commands", "tune", *arguments, "--formats", "json"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
