"""What a result is of: which model said what about which rows, by whose software. Every result carries it."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Annotated, Final

import msgspec

from aimass.proto.values import Value

__all__ = ["Lineage", "software"]

_NAMED: Final = ("aimass", "numpy", "torch", "captum")


class Lineage(Value, frozen=True):
    """`model` and `data` are the names that people know them by, the digests what they were.

    `model_digest` is the SHA-256 of the parameters, empty of a bare function, of which nobody knows. `held_out` says
    whether the model was trained without these rows; None where that is not known. `partners` counts those whose rows
    a federated result is over; 0 where the rows were at hand. `round` and `run` are empty where no run made the model.
    """

    model: str
    model_digest: str = ""
    data: str = ""
    data_digest: str = ""
    rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    held_out: bool | None = None
    partners: Annotated[int, msgspec.Meta(ge=0)] = 0
    run: str = ""
    round: int | None = None
    seed: int | None = None
    software: dict[str, str] = {}

    def line(self) -> str:
        """The header of a view: model, run, round, data, and whether its numbers are held out."""
        held = {True: "held out", False: "rows that it was trained on", None: "not known whether held out"}[
            self.held_out
        ]
        made = f"{self.model}" + (f" {self.model_digest[:12]}" if self.model_digest else " (a function)")
        where = f" of run {self.run}" if self.run else ""
        at = "" if self.round is None else f", round {self.round}"
        whose = f" at {self.partners} partners" if self.partners else ""
        rows = f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}"
        return f"{made}{where}{at}; {self.data or 'data'}: {rows}{whose}, {held}"


def software() -> dict[str, str]:
    """Versions of what computes results here; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _NAMED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
