"""Whether flwr is here, in the series that our code was tried with; asked before anything of it is loaded."""

from __future__ import annotations

from importlib import metadata
from typing import Final

from aimass.proto.errors import NotInstalled, VersionRefused

__all__ = ["SERIES", "check_installed"]

SERIES: Final = "1.41"
"""The series of flwr whose private names `private` was tried with."""

_INSTALL: Final = "Type `pip install 'aimass[flower]'`."


def check_installed() -> None:
    """Raise `NotInstalled` where flwr is missing, `VersionRefused` where it is of another series."""
    try:
        version = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        raise NotInstalled("Flower apps need flwr", code="flower.missing", cure=_INSTALL) from None
    if not version.startswith(f"{SERIES}."):
        raise VersionRefused(
            "this flwr is of another series", code="flower.series", value=version, limit=f"{SERIES}.*", cure=_INSTALL
        )
