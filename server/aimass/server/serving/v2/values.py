"""What a request for inference and its answer say, however they are written: JSON, binary tensors or gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from aimass.proto.servable import Array
from aimass.proto.values import Scalar

__all__ = ["NO_PARAMETERS", "InferRequest", "InferResponse", "Parameters", "RequestedOutput", "Tensor"]

Parameters = Mapping[str, Scalar]
NO_PARAMETERS: Final[Parameters] = {}


class Tensor(msgspec.Struct, frozen=True, eq=False):
    """A named array with its datatype in the protocol; the array is held as `servable.DTYPES` says."""

    name: str
    datatype: str
    array: Array


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output that the client asked for. `binary` is whether it comes as bytes; None leaves it to the request."""

    name: str
    binary: bool | None = None


class InferRequest(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A request for inference. Without `outputs` all are wanted."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    binary_outputs: bool = False
    """Whether an output of which nothing else is said comes as bytes."""
    id: str = ""
    parameters: Parameters = NO_PARAMETERS
    timeout_s: float | None = None
    """How long the client waits, where it says so."""


class InferResponse(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An answer: which model and version gave it, and its outputs in order."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Parameters = NO_PARAMETERS
