"""The API's description as OpenAPI 3.1, with an example for each model that works as it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aimass.proto.manifest import Category, Column, Image, Number, Schema
from aimass.server.serving.dispatch.seam import Loaded
from aimass.server.serving.http.examples import example_row, example_tensors

__all__ = ["Described", "openapi"]

_Document = dict[str, Any]
_FAULT: Final = {
    "description": "What was wrong, and what to do.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}},
}
_FAULTS: Final = {str(status): _FAULT for status in (400, 401, 403, 404, 409, 413, 429, 503, 504)}
_TENSOR: Final[_Document] = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_COMPONENTS: Final[_Document] = {
    "schemas": {
        "Fault": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
        },
        "Tensor": _TENSOR,
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
                "outputs": {"type": "array", "items": {"type": "object"}},
                "parameters": {"type": "object"},
            },
        },
        "InferResponse": {
            "type": "object",
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            },
        },
    },
    "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
}
_PLAIN: Final[Mapping[str, tuple[str, str]]] = {
    "/v2": ("get", "What the server is, and its extensions"),
    "/v2/health/live": ("get", "Whether the process answers"),
    "/v2/health/ready": ("get", "Whether all models answer"),
    "/v2/repository/index": ("post", "The models and versions in memory"),
    "/status": ("get", "Models, versions, shares and the last decisions"),
    "/metrics": ("get", "Figures for Prometheus"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """A model as it is described: what its version takes and answers, and its schema; None while there is none."""

    name: str
    loaded: Loaded | None = None
    schema: Schema | None = None


def openapi(models: Sequence[Described], release: str) -> _Document:
    """The whole document."""
    paths: _Document = {path: {method: _operation(text)} for path, (method, text) in _PLAIN.items()}
    for model in models:
        paths |= dict(_paths(model))
    return {
        "openapi": "3.1.0",
        "info": {"title": "AIMass serving", "version": release},
        "paths": paths,
        "components": _COMPONENTS,
        "security": [{}, {"token": []}],
    }


def _paths(model: Described) -> Iterable[tuple[str, _Document]]:
    base = f"/v2/models/{model.name}"
    yield base, {"get": _operation(f"What {model.name} takes and answers")}
    yield f"{base}/ready", {"get": _operation(f"Whether {model.name} answers")}
    if model.loaded is not None:
        asked = _body({"$ref": "#/components/schemas/InferRequest"}, example_tensors(model.loaded.inputs))
        told = {"$ref": "#/components/schemas/InferResponse"}
        yield f"{base}/infer", {"post": _operation(f"Ask {model.name} by tensors", asked, told)}
    if model.schema is not None:
        asked = _body(_rows(model.schema), example_row(model.schema))
        yield f"/predict/{model.name}", {"post": _operation(f"Ask {model.name} by named features", asked)}
        yield f"/explain/{model.name}", {"post": _operation(f"Why {model.name} answers as it does", asked)}


def _operation(summary: str, asked: _Document | None = None, told: _Document | None = None) -> _Document:
    content = {"application/json": {"schema": told or {"type": "object"}}}
    body = {} if asked is None else {"requestBody": asked}
    return {"summary": summary, **body, "responses": {"200": {"description": "Done.", "content": content}, **_FAULTS}}


def _body(schema: _Document, example: object) -> _Document:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _rows(schema: Schema) -> _Document:
    row = {
        "type": "object",
        "additionalProperties": False,
        "properties": {column.name: _property(column) for column in schema.columns},
    }
    return {"oneOf": [row, {"type": "array", "items": row, "minItems": 1}]}


def _property(column: Column) -> _Document:
    match column:
        case Number():
            unit = {"description": column.unit} if column.unit else {}
            return {"type": ["number", "null"], "minimum": column.minimum, "maximum": column.maximum, **unit}
        case Category():
            return {"enum": [*column.values, None]}
        case Image():
            shape = " x ".join(map(str, column.shape))
            return {"type": "string", "contentEncoding": "base64", "description": f"{shape} pixels, row by row"}
        case _:
            return {"type": "string", "maxLength": column.longest}
