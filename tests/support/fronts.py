"""Serving without processes: a dispatcher that computes where it is called, models of a few lines, an HTTP caller."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from aimass.proto.errors import AimassError
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import Category, Image, Number, Schema, Text
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.servable import DTYPES, Array, Servable, TensorSpec, check_inputs
from aimass.server.serving.dispatch.requests import Answer, Done, ModelUnknown, NotReady, Request, Tap
from aimass.server.serving.dispatch.seam import Loaded, ModelState, Source
from aimass.server.serving.http.messages import Peer, Response
from aimass.server.serving.http.messages import Request as HttpRequest

PATIENTS = Schema(
    name="patients/1",
    columns=(
        Number(name="age", minimum=0, maximum=120, unit="years"),
        Number(name="chol", minimum=0, maximum=1000, missing_values=(0,), required=True),
        Category(name="sex", values=("Female", "Male")),
        Text(name="note", longest=50),
        Image(name="scan", shape=(2, 2)),
    ),
    label=Category(name="disease", values=("no", "yes")),
)
ROW: Mapping[str, Any] = {"age": 61, "chol": 240.5, "sex": "Male", "note": "no pain", "scan": [[0, 1], [2, 255]]}


class Patients:
    """Says "yes" with the chance age / 120, 0.5 where the age is missing."""

    inputs = (
        TensorSpec("age", "FP64", (-1, 1)),
        TensorSpec("chol", "FP64", (-1, 1)),
        TensorSpec("sex", "BYTES", (-1, 1)),
        TensorSpec("note", "BYTES", (-1, 1)),
        TensorSpec("scan", "UINT8", (-1, 2, 2)),
    )
    outputs = (
        TensorSpec("probabilities", "FP64", (-1, 2), labels=("no", "yes")),
        TensorSpec("label", "BYTES", (-1,)),
    )

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        chance = np.nan_to_num(tensors["age"].reshape(-1) / 120, nan=0.5)
        labels = np.array([b"no", b"yes"], dtype=object)[(chance > 0.5).astype(int)]
        return {"probabilities": np.stack([1 - chance, chance], axis=1), "label": labels}


class Doubled:
    """Twice `x`."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs = (TensorSpec("y", "FP32", (-1, 2)),)

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": tensors["x"] * 2}


class Identity:
    """Gives back its inputs: one tensor of each datatype, all of which may be left out."""

    inputs = tuple(TensorSpec(name.lower(), name, (-1, -1), optional=True) for name in DTYPES)
    outputs = inputs

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return dict(tensors)


class DirectDispatcher:
    """A `Dispatching` that computes at once, in this process. `fails` is what each request ends with, if anything;
    while `held` is a list, requests wait in it for `release`."""

    def __init__(self, servables: Mapping[tuple[str, int], Servable]) -> None:
        self.servables = dict(servables)
        self.shares: dict[str, dict[int, float]] = {}
        for name, number in self.servables:
            self.shares.setdefault(name, {})[number] = 1.0
        self.known = {name for name, _ in self.servables}
        self.fails: AimassError | None = None
        self.held: list[tuple[Request, Done]] | None = None
        self.asked: list[Request] = []
        self.sources: list[Source] = []
        self.taps: list[Tap] = []
        self.taps_of_named: list[Tap] = []
        self.closed = False
        self.came = asyncio.Event()

    async def infer(self, request: Request) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(outcome: Answer | AimassError) -> None:
            if isinstance(outcome, AimassError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.submit(request, done)
        return await future

    def submit(self, request: Request, done: Done) -> None:
        self.asked.append(request)
        self.came.set()
        if self.held is not None:
            self.held.append((request, done))
        else:
            done(self._outcome(request))

    def release(self) -> None:
        held, self.held = self.held or [], None
        for request, done in held:
            done(self._outcome(request))

    def _outcome(self, request: Request) -> Answer | AimassError:
        if self.fails is not None:
            return self.fails
        try:
            loaded = self.loaded(request.model, request.version)
            servable = self.servables[loaded.model, loaded.version]
            check_inputs({spec.name: spec for spec in servable.inputs}, request.tensors)
            return Answer(servable.infer(request.tensors), loaded.model, loaded.version, 0.0, 0.0)
        except AimassError as error:
            return error

    def models(self) -> tuple[ModelState, ...]:
        return tuple(
            ModelState(
                name,
                "READY" if self.shares.get(name) else "UNAVAILABLE",
                tuple(self._loaded(*key) for key in sorted(self.servables) if key[0] == name),
            )
            for name in sorted(self.known)
        )

    def loaded(self, model: str, version: int | None = None) -> Loaded:
        if model not in self.known:
            raise ModelUnknown(model, version)
        if version is None:
            if not self.shares.get(model):
                raise NotReady(model)
            shares = self.shares[model]
            version = max(shares, key=lambda number: shares[number])
        if (model, version) not in self.servables:
            raise ModelUnknown(model, version)
        return self._loaded(model, version)

    def _loaded(self, model: str, version: int) -> Loaded:
        servable = self.servables[model, version]
        share = self.shares.get(model, {}).get(version, 0.0)
        return Loaded(model, version, "0" * 64, servable.inputs, servable.outputs, 1, 0, share)

    def expect(self, model: str) -> None:
        self.known.add(model)

    async def load(self, source: Source) -> Loaded:
        self.sources.append(source)
        self.known.add(source.model)
        self.servables[source.model, source.version] = Patients()
        return self._loaded(source.model, source.version)

    async def unload(self, model: str, version: int) -> None:
        del self.servables[model, version]
        self.shares.get(model, {}).pop(version, None)

    def share(self, model: str, shares: Mapping[int, float], fallback: int | None = None) -> None:
        self.shares[model] = dict(shares)

    async def digest(self, model: str, version: int) -> str:
        held = {(source.model, source.version): source.parameters for source in self.sources}
        return file_digest(held[model, version])

    def tap(self, tap: Tap, *, named: bool = True) -> None:
        self.taps.append(tap)
        if named:
            self.taps_of_named.append(tap)

    async def close(self, drain_s: float = 10.0) -> None:
        self.closed = True


class ListedVersions:
    """A `Catalogue` and a `Repository` of what it is given."""

    def __init__(self, *versions: ModelVersion) -> None:
        self._held: dict[tuple[str, int], ModelVersion] = {}
        self.hold(*versions)
        self.models = tuple(dict.fromkeys(version.name for version in versions))
        self.told: list[str] = []

    def hold(self, *versions: ModelVersion) -> None:
        self._held |= {(version.name, version.number): version for version in versions}

    def version(self, model: str, number: int) -> ModelVersion | None:
        return self._held.get((model, number))

    async def load(self, model: str) -> None:
        self.told.append(f"load {model}")

    async def unload(self, model: str) -> None:
        self.told.append(f"unload {model}")


def asking(method: str, target: str, body: bytes | object = b"", **headers: str) -> HttpRequest:
    """A request as a connection makes it; a body that is no bytes is sent as JSON."""
    path, _, query = target.partition("?")
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpRequest(method, path, query, named, data, Peer("127.0.0.1"), "request-1")


async def answer_of(handler: Any, request: HttpRequest) -> Response:
    """What a handler answers."""
    future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    handler(request, future.set_result)
    return await future


def body_of(response: Response) -> Any:
    """An answer's JSON."""
    return json.loads(b"".join(response.parts))


def soon() -> float:
    """A deadline that no test meets."""
    return time.monotonic() + 60
