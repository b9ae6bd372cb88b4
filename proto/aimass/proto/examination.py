"""Checks in order, each told as it comes: what one finds others may need, and one that fails is a finding itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from aimass.proto.checks import Finding, fault, of_error
from aimass.proto.errors import AimassError, NotFound

__all__ = ["Check", "examined", "findings_of"]

Check = Callable[[], Iterable[Finding]]
"""Named for what it looks at; it yields nothing where what it needs was not found."""

_EXAMINERS = {"server.toml": "aimass.server.doctor", "client.toml": "aimass.client.doctor"}
"""What makes a folder, and the module that knows it: loaded by name, as commands are."""


def findings_of(folder: Path) -> Iterator[Finding]:
    """Examine a folder. Raises `NotFound` where it is neither a server's nor anybody's."""
    for file, module in _EXAMINERS.items():
        if (folder / file).is_file():
            checks: Sequence[Check] = importlib.import_module(module).checks(folder)
            return examined(checks)
    raise NotFound(
        "no folder of AIMass",
        code="doctor.folder",
        value=folder,
        limit="one with a server.toml or a client.toml",
        cure="Give it with --dir; `aimass client init` and `aimass server init` make one.",
    )


def examined(checks: Sequence[Check]) -> Iterator[Finding]:
    """What the checks find, one after the other."""
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            yield from check()
        except AimassError as error:
            yield of_error(name, error)
        except OSError as error:
            what = f"the system refused: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")
            yield fault(name, "system.refused", what, "Check that the file is there and that you own it (ls -l).")
        except Exception as error:  # noqa: BLE001  (the doctor goes on with the next check)
            what = f"the check itself failed with {type(error).__name__}"
            yield fault(
                name, "doctor.check", what, "This is a fault of AIMass; please report it with the line above it."
            )
