"""Which of a model's outputs a view is of, and what people call it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.explain.models import Model
from aimass.proto.errors import NotFound

__all__ = ["output_of", "output_title"]


def output_of(model: Model, said: npt.NDArray[np.float64], name: str = "") -> int:
    """The place of the output with this name; without, the last of two, else the one that is predicted most often."""
    if name:
        if name not in model.outputs:
            known = ", ".join(model.outputs[:20])
            raise NotFound("the model has no such output", code="explain.output", value=name, limit=known)
        return model.outputs.index(name)
    if len(model.outputs) <= 2 or not len(said):
        return len(model.outputs) - 1
    return int(np.bincount(said.argmax(axis=1)).argmax())


def output_title(model: Model, place: int) -> str:
    """`predicted probability of disease`, or `predicted length of stay`."""
    output = model.outputs[place]
    if model.classifies:
        return f"predicted probability of {output}"
    return output if output == "prediction" else f"predicted {output}"
