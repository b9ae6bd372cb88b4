"""A model that is served elsewhere, asked by the Open Inference Protocol, version 2, over HTTP.

Its metadata says what it takes: a number for a tensor of one number a row, a category for one of texts whose labels are
given. https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import urllib3

from aimass.explain.rows import WIDEST, Feature, features_of
from aimass.proto.errors import (
    AimassError,
    BadInput,
    LimitExceeded,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
    printable,
)
from aimass.proto.home import read_key_file
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.values import prepared

__all__ = ["ServedModel", "served_model"]

Floats = npt.NDArray[np.float64]
_PATH: Final = re.compile(r"(?P<host>https?://[^/]+)/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?/?")
_PATIENCE_S: Final = 60.0
_ROWS: Final = 4_096
"""A request: half a megabyte of JSON for a dozen columns, an eighth of what `aimass serve` takes."""
_METADATA_BYTES: Final = 4 << 20
_BESIDE_BYTES: Final = 1 << 20
"""An answer's names and shapes, and outputs that nobody asked for."""
_NUMBER_BYTES: Final = 64
"""Of JSON for one number: 17 digits, sign, exponent, and white space by which people indent."""
_WIDEST: Final = 10_000
"""Outputs of a model at most."""
_VERSION: Final = re.compile(r"[\w.+-]{1,128}")
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
    """Requests to one server, with the caller's token, which goes over TLS or stays on this machine."""

    def __init__(self, host: str, token: Path | None, authority: Path | None) -> None:
        self._headers = {}
        if token is not None:
            if not _is_private(host):
                raise Refused(
                    "a token would cross the network for all to read",
                    code="explain.token",
                    value=host,
                    cure="Ask by https://, with --ca where its authority is your own.",
                )
            words = read_key_file(token).reveal().split()
            self._headers["Authorization"] = f"Bearer {words[0].decode('latin-1') if words else ''}"
        self._pool = urllib3.PoolManager(
            retries=False, timeout=_PATIENCE_S, maxsize=8, ca_certs=None if authority is None else str(authority)
        )

    def ask(self, url: str, most_bytes: int, body: bytes | None = None) -> bytes:
        """What a GET answers, or a POST of `body`; raises the named error that was answered.

        No more than `most_bytes` are read, and nothing is unpacked: a server may not fill this machine.
        """
        method = "GET" if body is None else "POST"
        try:
            answer = self._pool.request(method, url, body=body, headers=self._headers, preload_content=False)
            data = answer.read(most_bytes + 1, decode_content=False)
            answer.close() if len(data) > most_bytes else answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                "no serving process answers there",
                code="explain.away",
                value=f"{url}: {type(error).__name__}",
                cure="Check the address; with TLS name its authority with --ca.",
            ) from error
        if len(data) > most_bytes:
            raise LimitExceeded("the server answers with too much", code="explain.bytes", value=url, limit=most_bytes)
        if answer.status != 200:
            raise _refused(answer.status, data, url)
        return data


def _is_private(url: str) -> bool:
    """Whether nobody between reads what goes there: by TLS, or within this machine."""
    parts = urllib3.util.parse_url(url)
    host = (parts.host or "").strip("[]")
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        most = _BESIDE_BYTES + _NUMBER_BYTES * len(values) * len(self.outputs)
        answer = _decoded(_Answer, self.caller.ask(f"{self.url}/infer", most, body))
        found = next((one for one in answer.outputs if one.name == self.output), None)
        if found is None:
            raise BadInput("the server left out what it was asked for", code="explain.answer", value=self.output)
        numbers = np.array([_number(cell) for cell in _flat(found.data)], np.float64)
        if numbers.size != len(values) * len(self.outputs):
            raise BadInput(
                "the server answers in another shape",
                code="explain.shape",
                value=_short(found.shape),
                limit=len(values),
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
    caller, base = _Caller(parts["host"], token, authority), f"{parts['host']}/v2/models/{parts['name']}"
    version = parts["version"] or ""
    known = _decoded(_Metadata, caller.ask(f"{base}/versions/{version}" if version else base, _METADATA_BYTES))
    _check_names(known)
    if unsaid := [one for one in known.versions if not _VERSION.fullmatch(one)]:
        raise BadInput("a version's name is no part of an address", code="explain.version", value=_short(unsaid[0]))
    if not version and len(known.versions) > 1:
        raise BadInput(
            "several versions of this model are served: say which is meant",
            code="explain.version",
            value=url,
            limit=_short(known.versions),
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
            value=_short([one.name for one in known.outputs]),
        )
    if (wide := chosen[0].shape[-1] if chosen[0].shape else 1) > _WIDEST:
        raise LimitExceeded("the model has too many outputs", code="explain.wide", value=wide, limit=_WIDEST)
    return chosen[0]


def _labels(tensor: _Tensor) -> tuple[str, ...]:
    """The labels that its parameters name, each once."""
    said = tensor.parameters.get("labels", ())
    labels = tuple(map(str, said)) if isinstance(said, list | tuple) else ()
    if len(set(labels)) < len(labels) or (said and not labels) or not all(map(str.isprintable, labels)):
        raise BadInput("a tensor's labels are no list of names", code="explain.tensor", value=_short(tensor.name))
    return labels


def _check_names(known: _Metadata) -> None:
    """Names head pictures and terminals, and tell columns apart."""
    for tensors in (known.inputs, known.outputs):
        names = [one.name for one in tensors]
        if len(set(names)) < len(names) or not all(name and name.isprintable() for name in names):
            raise BadInput("tensors are not told apart by their names", code="explain.tensor", value=_short(names))


def _schema(known: _Metadata, output: _Tensor) -> Schema:
    """A schema made of metadata: any finite number is in range, and nothing has a unit."""
    columns = tuple(_column(one) for one in known.inputs if one.name != "rows" or len(known.inputs) == 1)
    labels = _labels(output)
    wide = output.shape[-1] if len(output.shape) == 2 else 1
    if not labels and wide > 1:
        labels = tuple(f"{output.name} {place}" for place in range(wide))
    label = (
        Category(name="label", values=labels) if labels else Number(name=output.name, minimum=-WIDEST, maximum=WIDEST)
    )
    return Schema(name="served/1", columns=columns, label=label)


def _column(tensor: _Tensor) -> Number | Category:
    labels = _labels(tensor)
    one = len(tensor.shape) == 1 or tensor.shape[1:] == [1]
    if one and tensor.datatype in _NUMBERS:
        return Number(name=tensor.name, minimum=-WIDEST, maximum=WIDEST)
    if one and tensor.datatype == "BYTES" and labels:
        return Category(name=tensor.name, values=labels)
    raise BadInput(
        "a tensor of this model is neither a number nor a category of known values",
        code="explain.tensor",
        value=_short(f"{tensor.name}: {tensor.datatype} {tensor.shape}"),
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


def _flat(data: Sequence[Any]) -> Sequence[Any]:
    """The numbers, row by row; a list beside a number is refused."""
    while any(isinstance(part, list) for part in data):
        if not all(isinstance(part, list) for part in data):
            raise BadInput("the server answers with lists beside numbers", code="explain.answer", value=_short(data))
        data = [cell for part in data for cell in part]
    return data


def _number(cell: Any) -> float:
    """A number, or NaN and infinity as the protocol's JSON writes them."""
    try:
        return float(cell if not isinstance(cell, bool) else str(cell))
    except (TypeError, ValueError, OverflowError):
        what = "the server answers with what is no number"
        raise BadInput(what, code="explain.answer", value=_short(cell)) from None


def _short(said: object) -> str:
    """What a server says, as far as one line of an error holds it."""
    return printable(", ".join(map(str, said[:20])) if isinstance(said, list | tuple) else str(said), 200)


def _decoded(kind: type[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=prepared(kind))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the server does not speak the protocol: {_short(error)}", code="explain.protocol") from error


def _refused(status: int, body: bytes, url: str) -> AimassError:
    try:
        said = msgspec.json.decode(body)
        what, code = _short(said["error"]), _short(said.get("code", ""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
        what, code = f"the server answered {status}", ""
    kinds: dict[int, type[AimassError]] = {400: BadInput, 401: Unauthenticated, 403: Refused, 404: NotFound}
    return kinds.get(status, Unavailable)(what, code=code or "explain.served", value=url)
