"""The analyst's side: reads a server through its API and explains models and runs.

`from aimass.explain import Rows, gap, model_of_estimator` is all that a notebook needs. Names are loaded when they are
asked for: a partner's analyses need numpy alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aimass.explain import gap, lpi, prim, runs, segviz
    from aimass.explain.models import FunctionModel, Model, model_of_estimator, model_of_function, model_of_task
    from aimass.explain.opening import Where, open_rows, open_subject
    from aimass.explain.report.model_report import model_report
    from aimass.explain.results import Result
    from aimass.explain.rows import Feature, Rows
    from aimass.explain.work import Work

__all__ = [
    "Feature",
    "FunctionModel",
    "Model",
    "Result",
    "Rows",
    "Where",
    "Work",
    "gap",
    "lpi",
    "model_of_estimator",
    "model_of_function",
    "model_of_task",
    "model_report",
    "open_rows",
    "open_subject",
    "prim",
    "runs",
    "segviz",
]

_HOLDERS: Final = {
    "aimass.explain.models": ("FunctionModel", "Model", "model_of_estimator", "model_of_function", "model_of_task"),
    "aimass.explain.opening": ("Where", "open_rows", "open_subject"),
    "aimass.explain.report.model_report": ("model_report",),
    "aimass.explain.results": ("Result",),
    "aimass.explain.rows": ("Feature", "Rows"),
    "aimass.explain.work": ("Work",),
}
_WHERE: Final = {name: module for module, names in _HOLDERS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
