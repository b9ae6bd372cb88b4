"""Endpoints for people: predictions by named features, their explanations, and pages that say how to ask."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

from aimass.proto.errors import BadInput, WrongState
from aimass.proto.explaining import Explainer, ToExplain, find_explainer
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.servable import Array
from aimass.server.serving.access import ANYBODY
from aimass.server.serving.catalogue import Catalogue
from aimass.server.serving.dispatch.requests import Answer, NotReady
from aimass.server.serving.dispatch.requests import Request as Inference
from aimass.server.serving.dispatch.seam import Dispatching, Loaded
from aimass.server.serving.http.endpoints import at_once, bound_json, later
from aimass.server.serving.http.features import Features, read_rows, soon_read
from aimass.server.serving.http.messages import HTML, Response, json_response
from aimass.server.serving.http.openapi import Described, openapi
from aimass.server.serving.http.page import PAGE_HEADERS, page
from aimass.server.serving.http.predictions import prediction
from aimass.server.serving.http.routing import Call, Route
from aimass.server.serving.http.settings import HttpLimits
from aimass.server.serving.input_rules import InputRules
from aimass.server.serving.neighbours import neighbourhood
from aimass.server.serving.v2.bridge import version_of

__all__ = ["PeopleEndpoints"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What `/predict` and `/explain` begin with."""

    loaded: Loaded
    version: ModelVersion
    features: Features
    pinned: int | None
    deadline: float


class PeopleEndpoints:
    """Named features in, a labelled answer out."""

    def __init__(
        self,
        dispatcher: Dispatching,
        catalogue: Catalogue,
        rules: InputRules,
        now: Callable[[], float],
        infer_s: float,
        release: str,
        find: Callable[[str], Explainer] = find_explainer,
        json_bytes: int = HttpLimits().json_bytes,
    ) -> None:
        """`now` is the dispatcher's clock, and no request may take longer than `infer_s`."""
        self._dispatcher, self._catalogue, self._rules = dispatcher, catalogue, rules
        self._now, self._infer_s, self._release, self._find = now, infer_s, release, find
        self._json_bytes = json_bytes

    def routes(self) -> list[Route]:
        """All of them. Without a model in the path the only one that is served is meant."""
        predict, explain = later(self._predict), later(self._explain)
        return [
            *(
                Route(name, "POST", f"/{name}{end}", "infer", endpoint, meant)
                for name, endpoint in (("predict", predict), ("explain", explain))
                for end, meant in (("", self._only_model), ("/{model}", None), ("/{model}/{version}", None))
            ),
            Route("openapi", "GET", "/openapi.json", None, at_once(self._openapi)),
            Route("docs", "GET", "/docs", None, at_once(self._page)),
            Route("docs", "GET", "/", None, at_once(self._page)),
        ]

    async def _predict(self, call: Call) -> Response:
        asked = await self._asked(call)
        answer = await self._infer(call, asked, asked.features.tensors)
        loaded = self._dispatcher.loaded(answer.model, answer.version)
        return json_response(200, prediction(answer, asked.features, {spec.name: spec for spec in loaded.outputs}))

    async def _explain(self, call: Call) -> Response:
        method = parse_qs(call.request.query).get("method", [""])[0]
        explainer = self._find(method)
        asked = await self._asked(call)
        pinned = dataclasses.replace(asked, pinned=asked.loaded.version)

        async def predict(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
            return (await self._infer(call, pinned, tensors)).tensors

        features = asked.features
        known = call.caller.name not in ("", ANYBODY)
        who = call.caller.name if known else neighbourhood(call.request.peer.address)
        told = await explainer.explain(ToExplain(asked.version, features.tensors, features.rows, predict, who))
        return json_response(200, {"model": asked.loaded.model, "version": asked.loaded.version} | dict(told))

    async def _asked(self, call: Call) -> _Asked:
        model = call.model
        if not model:
            raise self._several(call)
        pinned = version_of(model, call.version)
        loaded = self._dispatcher.loaded(model, pinned)
        version = self._catalogue.version(model, loaded.version)
        if version is None or version.schema is None:
            raise _tensors_alone(model)
        schema, body = version.schema, call.request.body
        if not {column.name for column in schema.columns} <= {spec.name for spec in loaded.inputs}:
            raise _tensors_alone(model)
        bound_json(len(body), self._json_bytes)
        if soon_read(body, schema):
            features = read_rows(body, schema, self._rules)
        else:
            features = await asyncio.to_thread(read_rows, body, schema, self._rules)
        return _Asked(loaded, version, features, pinned, self._now() + self._infer_s)

    async def _infer(self, call: Call, asked: _Asked, tensors: Mapping[str, Array]) -> Answer:
        request = Inference(asked.loaded.model, tensors, asked.pinned, call.request.id, asked.deadline)
        return await self._dispatcher.infer(request)

    def _only_model(self) -> str:
        models = self._catalogue.models
        return models[0] if len(models) == 1 else ""

    def _several(self, call: Call) -> BadInput:
        return BadInput(
            "several models are served here: say which",
            code="predict.which",
            limit=", ".join(filter(call.caller.may_ask, self._catalogue.models)),
            cure="Ask /predict/NAME.",
        )

    def _openapi(self, _: Call) -> Response:
        return json_response(200, openapi(self._described(), self._release))

    def _page(self, call: Call) -> Response:
        host = call.request.headers.get(b"host", b"").decode("latin-1")
        return Response(200, (page(self._described(), self._release, host),), HTML, PAGE_HEADERS)

    def _described(self) -> list[Described]:
        return [self._describe(model) for model in self._catalogue.models]

    def _describe(self, model: str) -> Described:
        try:
            loaded = self._dispatcher.loaded(model)
        except NotReady:
            return Described(model)
        version = self._catalogue.version(model, loaded.version)
        return Described(model, loaded, None if version is None else version.schema)


def _tensors_alone(model: str) -> WrongState:
    return WrongState(
        "this model has no named features",
        code="predict.tensors",
        value=model,
        cure="Ask it by /v2/models/NAME/infer; its metadata says what it takes and gives.",
    )
