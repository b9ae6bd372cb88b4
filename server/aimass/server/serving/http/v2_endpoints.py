"""The Open Inference Protocol over HTTP: routes, each a few lines between its codec and the dispatcher.

KServe, "Open Inference Protocol", version 2, HTTP/REST; Triton, "Model Repository Extension" and "Binary Tensor Data
Extension".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aimass.proto.errors import AimassError, BadInput
from aimass.server.serving.catalogue import Repository
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.dispatch.seam import Dispatching, Loaded
from aimass.server.serving.http.connection import Reply
from aimass.server.serving.http.endpoints import at_once, bound_json, failed, later, raw_json
from aimass.server.serving.http.faults import error_response
from aimass.server.serving.http.messages import Request, Response
from aimass.server.serving.http.routing import Call, Endpoint, Route
from aimass.server.serving.http.settings import HttpLimits
from aimass.server.serving.models import is_ready, outputs_of, state_of
from aimass.server.serving.ranges import InputCheck, unchecked
from aimass.server.serving.tokens import May
from aimass.server.serving.v2.bridge import to_request, to_response, version_of
from aimass.server.serving.v2.json_codec import HEADER_LENGTH, decode_raw, decode_request, encode_response
from aimass.server.serving.v2.metadata import (
    decode_index_request,
    decode_repository_request,
    index_entries,
    index_json,
    live_json,
    model_json,
    model_ready_json,
    ready_json,
    server_json,
    versions_of,
)
from aimass.server.serving.v2.values import InferRequest

__all__ = ["V2Endpoints"]

_LENGTH: Final = HEADER_LENGTH.lower().encode()
_MOST_DIGITS: Final = 12
_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = "/v2/models/{model}/versions/{version}"
_REPOSITORY: Final = "/v2/repository/models/{model}"


class V2Endpoints:
    """Health, metadata, inference and the repository."""

    def __init__(
        self,
        dispatcher: Dispatching,
        repository: Repository,
        now: Callable[[], float],
        infer_s: float,
        release: str,
        ready: Callable[[], bool],
        json_bytes: int = HttpLimits().json_bytes,
        check: InputCheck = unchecked,
    ) -> None:
        """`now` is the dispatcher's clock, and no request may take longer than `infer_s`."""
        self._dispatcher, self._repository = dispatcher, repository
        self._now, self._infer_s, self._release, self._ready = now, infer_s, release, ready
        self._json_bytes, self._check = json_bytes, check

    def routes(self) -> list[Route]:
        """All of the protocol."""
        infer = self._infer
        both = [
            ("v2_infer", "POST", "/infer", infer),
            ("v2_model", "GET", "", at_once(self._metadata)),
            ("v2_model_ready", "GET", "/ready", at_once(self._model_ready)),
        ]
        return [
            *(
                Route(name, method, base + end, "infer", do)
                for base in (_MODEL, _VERSION)
                for name, method, end, do in both
            ),
            _open("v2_server", "/v2", at_once(lambda _: raw_json(server_json(self._release)))),
            _open("v2_live", "/v2/health/live", at_once(lambda _: raw_json(live_json(live=True)))),
            _open("v2_ready", "/v2/health/ready", at_once(self._server_ready)),
            Route("v2_index", "POST", "/v2/repository/index", "infer", at_once(self._index)),
            Route("v2_load", "POST", f"{_REPOSITORY}/load", "manage", later(self._load)),
            Route("v2_unload", "POST", f"{_REPOSITORY}/unload", "manage", later(self._unload)),
        ]

    def _infer(self, call: Call, reply: Reply) -> None:
        loaded = self._dispatcher.loaded(call.model, version_of(call.model, call.version))
        asked = _decoded(call.request, loaded, self._json_bytes)
        wait_s = self._infer_s if asked.timeout_s is None else min(asked.timeout_s, self._infer_s)
        version = loaded.version if call.version else None
        request = to_request(call.model, version, asked, loaded.inputs, loaded.outputs, self._now() + wait_s)
        warnings = self._check(loaded.model, loaded.version, request.tensors)
        self._dispatcher.submit(request, lambda outcome: reply(self._told(call, asked, loaded, warnings, outcome)))

    def _told(
        self,
        call: Call,
        asked: InferRequest,
        loaded: Loaded,
        warnings: tuple[str, ...],
        outcome: Answer | AimassError,
    ) -> Response:
        if isinstance(outcome, AimassError):
            return error_response(outcome)
        try:
            outputs = outputs_of(self._dispatcher, outcome, loaded)
            body = encode_response(to_response(outcome, asked, outputs, warnings), asked)
        except AimassError as error:
            return error_response(error)
        except Exception as error:  # noqa: BLE001  (it is logged, and who asked gets an answer)
            return failed(call, error)
        headers = {} if body.header_bytes is None else {HEADER_LENGTH: str(body.header_bytes)}
        return Response(200, (body.content,), body.content_type, headers)

    def _metadata(self, call: Call) -> Response:
        loaded = self._dispatcher.loaded(call.model, version_of(call.model, call.version))
        return raw_json(model_json(loaded, versions_of(state_of(self._dispatcher, call.model))))

    def _model_ready(self, call: Call) -> Response:
        found = is_ready(self._dispatcher, call.model, version_of(call.model, call.version))
        return raw_json(model_ready_json(call.model, ready=found), 200 if found else 503)

    def _server_ready(self, _: Call) -> Response:
        found = self._ready()
        return raw_json(ready_json(ready=found), 200 if found else 503)

    def _index(self, call: Call) -> Response:
        bound_json(len(call.request.body), self._json_bytes)
        only_ready = decode_index_request(call.request.body)
        shown = [state for state in self._dispatcher.models() if call.caller.may_ask(state.name)]
        return raw_json(index_json(index_entries(shown, ready=only_ready)))

    async def _load(self, call: Call) -> Response:
        self._no_overrides(call.request)
        await self._repository.load(call.model)
        return raw_json(b"{}")

    async def _unload(self, call: Call) -> Response:
        self._no_overrides(call.request)
        await self._repository.unload(call.model)
        return raw_json(b"{}")

    def _no_overrides(self, request: Request) -> None:
        bound_json(len(request.body), self._json_bytes)
        decode_repository_request(request.body)


def _open(name: str, path: str, endpoint: Endpoint, may: May | None = None) -> Route:
    return Route(name, "GET", path, may, endpoint)


def _decoded(request: Request, loaded: Loaded, json_bytes: int) -> InferRequest:
    if request.headers.get(b"content-encoding", b"identity") != b"identity":
        raise BadInput("the body is encoded", code="http.encoding", cure="Send it without a Content-Encoding.")
    length = _json_length(request.headers.get(_LENGTH))
    if length == 0:
        return decode_raw(request.body, loaded.inputs)
    bound_json(min(length or len(request.body), len(request.body)), json_bytes)
    return decode_request(request.body, length)


def _json_length(said: bytes | None) -> int | None:
    """How much of the body is JSON, by its header; None where there is none."""
    if said is None:
        return None
    if not said.isdigit() or len(said) > _MOST_DIGITS:
        raise BadInput(f"{HEADER_LENGTH} is no number", code="v2.header_length")
    return int(said)
