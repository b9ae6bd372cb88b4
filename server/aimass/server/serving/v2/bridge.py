"""Between what a client says and what a dispatcher is asked: names, versions, datatypes, deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aimass.proto.errors import BadInput, InternalError
from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.requests import ANY_TIME, Answer, ModelUnknown, Request
from aimass.server.serving.v2.values import NO_PARAMETERS, InferRequest, InferResponse, Tensor

__all__ = ["to_request", "to_response", "version_of"]

_MOST_DIGITS: Final = 8
_WARNINGS: Final = "warnings"


def version_of(model: str, text: str) -> int | None:
    """The version that an address or a message names, None where it names none; raises `ModelUnknown` for no number."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ModelUnknown(model)
    return int(text)


def to_request(
    model: str,
    version: int | None,
    asked: InferRequest,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    deadline: float = ANY_TIME,
) -> Request:
    """What the dispatcher is asked. Shapes it checks itself; datatypes are checked here, where they have names.

    Raises `BadInput` for inputs and outputs that the model does not have, an input twice, or of another datatype.
    """
    tensors = {one.name: one.array for one in asked.inputs}
    if len(tensors) < len(asked.inputs):
        raise BadInput("an input is given twice", code="v2.input_twice")
    specs = {one.name: one for one in inputs}
    for tensor in asked.inputs:
        spec = specs.get(tensor.name)
        if spec is None:
            raise _unknown("input", tensor.name, inputs)
        if tensor.datatype != spec.datatype and tensor.datatype not in spec.also:
            raise BadInput(
                f"input {tensor.name} has another datatype",
                code="v2.datatype",
                value=tensor.datatype,
                limit="/".join((spec.datatype, *spec.also)),
            )
    if not asked.outputs:
        return Request(model, tensors, version, asked.id, deadline)
    wanted = tuple([one.name for one in asked.outputs])
    if unknown := set(wanted).difference(one.name for one in outputs):
        raise _unknown("output", min(unknown), outputs)
    if len(set(wanted)) < len(wanted):
        raise BadInput("an output is asked for twice", code="v2.output_twice")
    return Request(model, tensors, version, asked.id, deadline, wanted)


def to_response(
    answer: Answer, asked: InferRequest, outputs: Sequence[TensorSpec], warnings: Sequence[str] = ()
) -> InferResponse:
    """What the client is told: the outputs that it asked for, in its order, or all in the model's.

    `warnings` stand in the parameter of that name.
    """
    datatypes = {one.name: one.datatype for one in outputs}
    names = [one.name for one in asked.outputs] if asked.outputs else list(datatypes)
    try:
        tensors = tuple([Tensor(name, datatypes[name], answer.tensors[name]) for name in names])
    except KeyError as error:
        raise InternalError("the model left out an output", code="serving.invalid_output", value=error) from error
    parameters = {_WARNINGS: "; ".join(warnings)} if warnings else NO_PARAMETERS
    return InferResponse(
        model_name=answer.model,
        model_version=str(answer.version),
        outputs=tensors,
        id=asked.id,
        parameters=parameters,
    )


def _unknown(what: str, name: str, specs: Sequence[TensorSpec]) -> BadInput:
    return BadInput(
        f"the model has no {what} of this name",
        code=f"serving.{what}_unknown",
        value=name,
        limit=", ".join(one.name for one in specs),
    )
