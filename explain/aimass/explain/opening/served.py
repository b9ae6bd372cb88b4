"""A model that is served elsewhere, asked by the Open Inference Protocol, version 2, over HTTP.

Its metadata says what it takes: a number for a tensor of one number a row, a category for one of texts whose labels are
given. https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import urllib3

from aimass.explain.rows import WIDEST, Feature, features_of
from aimass.proto.errors import AimassError, BadInput, NotFound, Refused, Unauthenticated, Unavailable
from aimass.proto.home import read_key_file
from aimass.proto.manifest import Category, Number, Schema

__all__ = ["ServedModel", "served_model"]

Floats = npt.NDArray[np.float64]
_PATH: Final = re.compile(r"(?P<host>https?://[^/]+)/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?")
_PATIENCE_S: Final = 60.0
_ROWS: Final = 4_096
"""A request: half a megabyte of JSON for a dozen columns, an eighth of what `aimass serve` takes."""
_NUMBERS: Final = frozenset({"FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT8"})


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    versions: list[str] = []


class _Output(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    data: list[Any]


class _Answer(msgspec.Struct, frozen=True):
    outputs: list[_Output]


class _Caller:
    """Requests to one server, with the caller's token."""

    def __init__(self, token: Path | None, authority: Path | None) -> None:
        self._headers = {}
        if token is not None:
            words = read_key_file(token).reveal().split()
            self._headers["Authorization"] = f"Bearer {words[0].decode('latin-1') if words else ''}"
        self._pool = urllib3.PoolManager(
            retries=False, timeout=_PATIENCE_S, maxsize=8, ca_certs=None if authority is None else str(authority)
        )

    def ask(self, url: str, body: bytes | None = None) -> bytes:
        """What a GET answers, or a POST of `body`; raises the named error that was answered."""
        try:
            answer = self._pool.request("GET" if body is None else "POST", url, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                "no serving process answers there",
                code="explain.away",
                value=f"{url}: {type(error).__name__}",
                cure="Check the address; with TLS name its authority with --ca.",
            ) from error
        if answer.status != 200:
            raise _refused(answer.status, answer.data, url)
        return answer.data


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """`url` is that of one version, so that no other answers in between. Who serves it knows its parameters."""

    caller: _Caller
    url: str
    name: str
    schema: Schema
    output: str
    digest: str = ""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The tensors that it takes."""
        return features_of(self.schema)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The labels of its probabilities, or the name of its prediction."""
        return self.schema.classes or (self.output,)

    @property
    def classifies(self) -> bool:
        """Whether it gives probabilities."""
        return bool(self.schema.classes)

    def predict(self, values: Floats) -> Floats:
        """Asks the server, some thousand rows at a time."""
        parts = [self._asked(values[start : start + _ROWS]) for start in range(0, len(values), _ROWS)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.outputs)))

    def _asked(self, values: Floats) -> Floats:
        inputs = [_written(feature, values[:, place]) for place, feature in enumerate(self.features)]
        body = msgspec.json.encode({"inputs": inputs, "outputs": [{"name": self.output}]})
        answer = _decoded(_Answer, self.caller.ask(f"{self.url}/infer", body))
        found = next((one for one in answer.outputs if one.name == self.output), None)
        if found is None:
            raise BadInput("the server left out what it was asked for", code="explain.answer", value=self.output)
        numbers = np.array([_number(cell) for cell in _flat(found.data)], np.float64)
        if numbers.size != len(values) * len(self.outputs):
            raise BadInput(
                "the server answers in another shape", code="explain.shape", value=str(found.shape), limit=len(values)
            )
        return numbers.reshape(len(values), len(self.outputs))


def served_model(
    url: str, schema: Schema | None = None, token: Path | None = None, authority: Path | None = None
) -> ServedModel:
    """The model at http(s)://HOST/v2/models/NAME[/versions/N]; `schema` tells units and ranges that metadata has not.

    Raises `BadInput` where several versions are served and none is named: two might answer in turns.
    """
    parts = _PATH.fullmatch(url)
    if parts is None:
        raise BadInput(
            "this is no address of a served model",
            code="explain.url",
            value=url,
            limit="http(s)://HOST:PORT/v2/models/NAME or …/versions/N",
        )
    caller, base = _Caller(token, authority), f"{parts['host']}/v2/models/{parts['name']}"
    version = parts["version"] or ""
    known = _decoded(_Metadata, caller.ask(f"{base}/versions/{version}" if version else base))
    if not version and len(known.versions) > 1:
        raise BadInput(
            "several versions of this model are served: say which is meant",
            code="explain.version",
            value=url,
            limit=", ".join(known.versions),
            cure=f"Ask for {base}/versions/{known.versions[-1]}.",
        )
    version = version or (known.versions[0] if known.versions else "")
    output = _output(known)
    name = f"{parts['name']}@{version}" if version else parts["name"]
    return ServedModel(
        caller,
        f"{base}/versions/{version}" if version else base,
        name,
        schema or _schema(known, output),
        output.name,
    )


def _output(known: _Metadata) -> _Tensor:
    """What is explained of all that a model answers: its probabilities, or its only number."""
    numbers = [one for one in known.outputs if one.datatype in {"FP64", "FP32"}]
    chosen = [one for one in numbers if one.name in {"probabilities", "prediction"}] or numbers
    if len(chosen) != 1:
        raise BadInput(
            "the model does not answer with one tensor of numbers",
            code="explain.answer",
            value=", ".join(one.name for one in known.outputs),
        )
    return chosen[0]


def _schema(known: _Metadata, output: _Tensor) -> Schema:
    """A schema made of metadata: any finite number is in range, and nothing has a unit."""
    columns = tuple(_column(one) for one in known.inputs if one.name != "rows" or len(known.inputs) == 1)
    labels = tuple(map(str, output.parameters.get("labels", ())))
    wide = output.shape[-1] if len(output.shape) == 2 else 1
    if not labels and wide > 1:
        labels = tuple(f"{output.name} {place}" for place in range(wide))
    label = (
        Category(name="label", values=labels) if labels else Number(name=output.name, minimum=-WIDEST, maximum=WIDEST)
    )
    return Schema(name="served/1", columns=columns, label=label)


def _column(tensor: _Tensor) -> Number | Category:
    labels = tensor.parameters.get("labels", ())
    one = len(tensor.shape) == 1 or tensor.shape[1:] == [1]
    if one and tensor.datatype in _NUMBERS:
        return Number(name=tensor.name, minimum=-WIDEST, maximum=WIDEST)
    if one and tensor.datatype == "BYTES" and labels:
        return Category(name=tensor.name, values=tuple(map(str, labels)))
    raise BadInput(
        "a tensor of this model is neither a number nor a category of known values",
        code="explain.tensor",
        value=f"{tensor.name}: {tensor.datatype} {tensor.shape}",
        cure="Explain it from the registry or its file instead.",
    )


def _written(feature: Feature, cells: Floats) -> dict[str, Any]:
    """A column as the protocol's JSON: NaN as text, and a category that is missing as an empty one."""
    if feature.kind == "category":
        data: list[Any] = ["" if np.isnan(cell) else feature.values[int(cell)] for cell in cells]
    else:
        data = [cell if cell == cell else "NaN" for cell in cells.tolist()]  # noqa: PLR0124
    kind = "BYTES" if feature.kind == "category" else "FP64"
    return {"name": feature.name, "datatype": kind, "shape": [len(cells), 1], "data": data}


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [cell for part in data for cell in part]
    return data


def _number(cell: Any) -> float:
    """A number, or NaN and infinity as the protocol's JSON writes them."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise BadInput("the server answers with what is no number", code="explain.answer", value=str(cell)) from None


def _decoded(kind: type[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"the server does not speak the protocol: {error}", code="explain.protocol") from error


def _refused(status: int, body: bytes, url: str) -> AimassError:
    try:
        said = msgspec.json.decode(body)
        what, code = str(said["error"]), str(said.get("code", ""))
    except (msgspec.MsgspecError, TypeError, KeyError):
        what, code = f"the server answered {status}", ""
    kinds: dict[int, type[AimassError]] = {400: BadInput, 401: Unauthenticated, 403: Refused, 404: NotFound}
    return kinds.get(status, Unavailable)(what, code=code or "explain.served", value=url)
