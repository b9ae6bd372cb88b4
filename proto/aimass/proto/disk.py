"""How much room a folder takes, while others write into it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["bytes_below"]


def bytes_below(folder: Path) -> int:
    """Bytes of the files below `folder`; what goes meanwhile does not count."""
    total, folders = 0, [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return total
