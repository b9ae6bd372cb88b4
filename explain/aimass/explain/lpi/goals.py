"""What another prediction would have to be: a label, or a level."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.scale import level
from aimass.explain.models import Model
from aimass.proto.errors import BadInput

__all__ = ["Goal", "goal_of"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Goal:
    """`margin` maps predictions float64 [n, outputs] to [n], above 0 where the goal is reached. `says` is a clause."""

    says: str
    margin: Callable[[Floats], Floats]


def goal_of(model: Model, said: Floats, target: str, output: str = "") -> Goal:
    """The goal that `target` names for a row of which the model `said` [outputs] so far.

    A label; `>=0.5` or `<=0.5` of `output`, the last one unless said; or, of a model of labels, whichever is the
    likeliest but the one that is said. Raises `BadInput` for what is no goal, or is reached already.
    """
    goal = _level(model, target, output) if target[:2] in {">=", "<="} else _label(model, said, target)
    if goal.margin(said[None])[0] > 0:
        raise BadInput("the row is there already", code="explain.target", value=target, cure="Name another goal.")
    return goal


def _label(model: Model, said: Floats, target: str) -> Goal:
    if not model.classifies or len(model.outputs) < 2:
        raise BadInput(
            "the model chooses between no labels",
            code="explain.target",
            value=target or "none",
            cure="Name a level that the prediction is to reach: >=10, say.",
        )
    if target and target not in model.outputs:
        known = ", ".join(model.outputs[:20])
        raise BadInput("the model has no such label", code="explain.target", value=target, limit=known)
    place = model.outputs.index(target) if target else int(np.argsort(-said, kind="stable")[1])

    def margin(values: Floats) -> Floats:
        found: Floats = values[:, place] - np.delete(values, place, axis=1).max(axis=1)
        return found

    return Goal(f"the model says {model.outputs[place]}", margin)


def _level(model: Model, target: str, output: str) -> Goal:
    try:
        least = float(target[2:])
    except ValueError:
        raise BadInput("a level is a number", code="explain.target", value=target, limit=">=number, <=number") from None
    place = model.outputs.index(output) if output in model.outputs else len(model.outputs) - 1
    sign = 1.0 if target[0] == ">" else -1.0
    inside = float(np.nextafter(least, -sign * np.inf))  # the level itself counts
    title = f"the probability of {model.outputs[place]}" if model.classifies else model.outputs[place]
    words = "at least" if sign > 0 else "at most"
    told = level(least, "probability" if model.classifies else "number")
    return Goal(f"{title} is {words} {told}", lambda values: sign * (values[:, place] - inside))
