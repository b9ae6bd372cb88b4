"""How a prediction, and a change of one, is told: in per cent and points, in log-odds, or as a number."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.words import number, percent

__all__ = ["Scale", "ScaleName", "axis_title", "change", "level", "on_scale"]

ScaleName = Literal["probability", "log_odds"]
Scale = Literal["probability", "log_odds", "number"]
_LEAST: Final = 1e-12


def on_scale(said: npt.NDArray[np.float64], scale: Scale) -> npt.NDArray[np.float64]:
    """Probabilities as log-odds, natural and cut at 1e-12; anything else as it is."""
    if scale != "log_odds":
        return said
    cut = np.clip(said, _LEAST, 1.0 - _LEAST)
    found: npt.NDArray[np.float64] = np.log(cut) - np.log1p(-cut)
    return found


def level(value: float, scale: Scale) -> str:
    """What the model says: 87 %, or 1.9."""
    return percent(value) if scale == "probability" else number(value)


def change(value: float, scale: Scale) -> str:
    """A difference with its sign: +12 points, or -0.3."""
    sign = "+" if value > 0 else "-" if value < 0 else ""
    if scale == "probability":
        return f"{sign}{number(abs(100 * value), 2)} points"
    return f"{sign}{number(abs(value))}"


def axis_title(output: str, scale: Scale) -> str:
    """Of an axis of predictions."""
    return {"probability": f"probability of {output}", "log_odds": f"log-odds of {output}", "number": output}[scale]
