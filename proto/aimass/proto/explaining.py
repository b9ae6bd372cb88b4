"""The seam between serving and whatever explains a prediction: found by entry point, never imported by name.

A package names an `Explainer` in the group `aimass.serving.explain`, under the name of its method.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from aimass.proto.errors import NotFound, NotInstalled
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.servable import Array

__all__ = ["GROUP", "Explainer", "ToExplain", "find_explainer"]

GROUP: Final = "aimass.serving.explain"


@dataclasses.dataclass(frozen=True, slots=True)
class ToExplain:
    """Rows of one version, as the tensors that it is asked with, and `predict`, which asks it for others likewise.

    `caller` tells who asks from others: no one of them shall keep the rest waiting.
    """

    version: ModelVersion
    tensors: Mapping[str, Array]
    rows: int
    predict: Callable[[Mapping[str, Array]], Awaitable[Mapping[str, Array]]]
    caller: str = ""


class Explainer(Protocol):
    """One method of explanation."""

    async def explain(self, asked: ToExplain) -> Mapping[str, Any]:
        """A document for each row, as what JSON can hold. It leaves long work to a thread."""
        ...


def find_explainer(method: str = "") -> Explainer:
    """The explainer of this name, the first without one; raises `NotInstalled` where there is none at all."""
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if not entries:
        raise NotInstalled(
            "nothing that explains predictions is installed here",
            code="explain.not_installed",
            cure="Type: pip install 'aimass[explain]'",
        )
    name = method or min(entries)
    if name not in entries:
        raise NotFound("no such method", code="explain.method", value=name, limit=", ".join(sorted(entries)))
    found: Explainer = entries[name].load()
    return found
