"""What fronts ask of the models that a dispatcher holds, the same over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.requests import Answer, ModelUnknown, NotReady
from aimass.server.serving.dispatch.seam import Dispatching, Loaded, ModelState

__all__ = ["is_ready", "outputs_of", "state_of"]


def state_of(dispatcher: Dispatching, model: str) -> ModelState:
    """How a model stands; raises `ModelUnknown`."""
    found = next((state for state in dispatcher.models() if state.name == model), None)
    if found is None:
        raise ModelUnknown(model)
    return found


def is_ready(dispatcher: Dispatching, model: str, version: int | None) -> bool:
    """Whether a model, or one version of it, would answer now; raises `ModelUnknown`."""
    try:
        dispatcher.loaded(model, version)
    except NotReady:
        return False
    return version is not None or state_of(dispatcher, model).state == "READY"


def outputs_of(dispatcher: Dispatching, answer: Answer, expected: Loaded) -> Sequence[TensorSpec]:
    """The outputs of the version that answered, which a canary or a fallback makes another than was expected."""
    if answer.version == expected.version:
        return expected.outputs
    try:
        return dispatcher.loaded(answer.model, answer.version).outputs
    except (ModelUnknown, NotReady):  # unloaded meanwhile
        return expected.outputs
