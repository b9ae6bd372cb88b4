"""What computes here, by version: with others the last bits of a run may be others."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

__all__ = ["software"]

_COMPUTING: Final = ("aimass", "numpy", "torch", "pyspark")


def software() -> dict[str, str]:
    """Versions of the interpreter and of the packages that decide bits, as far as they are installed."""
    found = {name: _version(name) for name in _COMPUTING}
    return {"python": platform.python_version(), **{name: held for name, held in found.items() if held}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
