"""Requests to the routes of a front over a dispatcher that computes at once."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.proto.errors import NotFound, NotInstalled
from aimass.proto.explaining import Explainer, ToExplain
from aimass.proto.manifest import Category
from aimass.proto.watch import Reason
from aimass.server.serving.access import Access
from aimass.server.serving.dispatch.requests import InvalidOutput, NotReady, Overloaded, QueueDeadline, WorkerLost
from aimass.server.serving.http.front import Front, HttpMeters
from aimass.server.serving.http.messages import Request, Response
from aimass.server.serving.http.openapi import Described
from aimass.server.serving.http.page import page
from aimass.server.serving.http.people import PeopleEndpoints
from aimass.server.serving.http.service_endpoints import ServiceEndpoints
from aimass.server.serving.http.v2_endpoints import V2Endpoints
from aimass.server.serving.input_rules import InputRules, Rule
from aimass.server.serving.ranges import RangeCheck
from aimass.server.serving.rates import Rates
from aimass.server.serving.request_log import LogRequests, RequestLog
from tests.server.serving.test_access import SECRET, Listed, token
from tests.support.fronts import (
    PATIENTS,
    ROW,
    DirectDispatcher,
    Doubled,
    ListedVersions,
    Patients,
    answer_of,
    asking,
    body_of,
)
from tests.support.registries import version_of

X = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}], "id": "mine"}


class Explains:
    """Says what the model makes of the row with the age of nobody."""

    async def explain(self, asked: ToExplain) -> Mapping[str, Any]:
        other = await asked.predict({**asked.tensors, "age": np.full(asked.rows, 12.0)})
        return {"without": other["probabilities"].tolist(), "schema": asked.version.name, "who": asked.caller}


class House:
    """A front with everything behind it."""

    def __init__(
        self,
        access: Access | None = None,
        rates: float = 0.0,
        log_requests: LogRequests = "failed",
        rule: Rule = "warn",
    ) -> None:
        self.dispatcher = DirectDispatcher(
            {("heart", 3): Patients(), ("heart", 4): Patients(), ("plain", 1): Doubled()}
        )
        self.dispatcher.shares["heart"] = {3: 0.1, 4: 0.9}
        self.versions = ListedVersions(
            msgspec.structs.replace(version_of("heart", 4), schema=PATIENTS),
            msgspec.structs.replace(version_of("heart", 3), schema=PATIENTS),
            msgspec.structs.replace(version_of("plain", 1), schema=None),
        )
        self.reasons: tuple[Reason, ...] = ()
        self.explainer: Explainer | None = Explains()
        self.meters = HttpMeters()
        self.dispatcher_time = 50.0

        def clock() -> float:
            return self.dispatcher_time

        self.check = RangeCheck(self.versions, rule)
        v2 = V2Endpoints(
            self.dispatcher, self.versions, clock, 30.0, "1.2", lambda: not self.reasons, 1 << 20, self.check
        )
        people = PeopleEndpoints(self.dispatcher, self.versions, InputRules(), clock, 30.0, "1.2", self._find, 1 << 20)
        service = ServiceEndpoints(self._reasons, self._figures, lambda: {"models": 2})
        routes = [*v2.routes(), *people.routes(), *service.routes()]
        self.front = Front(
            routes,
            access or Access(None, private=True),
            Rates(rates),
            lambda: 1_000.0,
            self.meters,
            RequestLog(log_requests),
            lambda: 7.0,
        )

    async def _reasons(self) -> tuple[Reason, ...]:
        return self.reasons

    async def _figures(self) -> bytes:
        return b"aimass_ready 1\n"

    def _find(self, method: str) -> Explainer:
        if self.explainer is None:
            raise NotInstalled("nothing", code="explain.not_installed", cure="Type: pip install 'aimass[explain]'")
        if method not in {"", "gap"}:
            raise NotFound("no such method", code="explain.method")
        return self.explainer

    def ask(self, method: str, target: str, body: bytes | object = b"", **headers: str) -> Response:
        return asyncio.run(answer_of(self.front.handle, asking(method, target, body, **headers)))


@pytest.fixture
def house() -> House:
    return House()


def test_tensors_in_tensors_out(house: House) -> None:
    response = house.ask("POST", "/v2/models/plain/infer", X)
    assert (response.status, body_of(response)) == (
        200,
        {
            "model_name": "plain",
            "model_version": "1",
            "id": "mine",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [3.0, 4.0]}],
        },
    )
    assert house.dispatcher.asked[0].version is None


def test_binary_tensors_and_their_header(house: House) -> None:
    head = json.dumps(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = head + np.array([1.5, 2], np.float32).tobytes()
    response = house.ask(
        "POST", "/v2/models/plain/versions/1/infer", body, inference_header_content_length=str(len(head))
    )
    length = int(response.headers["Inference-Header-Content-Length"])
    whole = b"".join(response.parts)
    assert np.frombuffer(whole[length:], np.float32).tolist() == [3.0, 4.0]
    raw = house.ask("POST", "/v2/models/plain/infer", body[-8:], inference_header_content_length="0")
    assert raw.status == 200
    assert house.dispatcher.asked[0].version == 1


@pytest.mark.parametrize("said", ["-1", "x", "1" * 5_000, "\N{SUPERSCRIPT TWO}"])
def test_a_length_of_the_json_that_is_no_number_is_refused(house: House, said: str) -> None:
    response = house.ask("POST", "/v2/models/plain/infer", X, inference_header_content_length=said)
    assert (response.status, body_of(response)["code"]) == (400, "v2.header_length")


def test_json_that_would_hold_everybody_up_is_refused_and_as_many_bytes_are_not(house: House) -> None:
    rows = np.zeros((1 << 17, 2), np.float32)
    head = {"name": "x", "datatype": "FP32", "shape": list(rows.shape)}
    response = house.ask("POST", "/v2/models/plain/infer", {"inputs": [{**head, "data": rows.ravel().tolist()}]})
    assert (response.status, body_of(response)["code"]) == (413, "http.json_bytes")
    said = json.dumps(
        {
            "inputs": [{**head, "parameters": {"binary_data_size": rows.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body, length = said + rows.tobytes(), str(len(said))
    assert house.ask("POST", "/v2/models/plain/infer", body, inference_header_content_length=length).status == 200


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/v2/models/none/infer", X, 404),
        ("/v2/models/plain/versions/9/infer", X, 404),
        ("/v2/models/plain/versions/x/infer", X, 404),
        ("/v2/models/plain/infer", b"{", 400),
        ("/v2/models/plain/infer", b"[" * 100_000, 400),
        ("/v2/models/plain/infer", {"inputs": []}, 400),
        ("/v2/models/plain/infer", {**X, "outputs": [{"name": "z"}]}, 400),
        ("/v2/models/plain/infer", {"inputs": [{**X["inputs"][0], "datatype": "FP64"}]}, 400),  # type: ignore[dict-item]
        ("/v2/models/plain/infer", {"inputs": [{**X["inputs"][0], "shape": [2, 1]}]}, 400),  # type: ignore[dict-item]
        ("/v2/models/plain/infer", {"inputs": [{**X["inputs"][0], "name": "w"}]}, 400),  # type: ignore[dict-item]
        ("/v2/nothing", X, 404),
    ],
)
def test_what_cannot_be_answered_is_an_error_with_its_status(house: House, target: str, body: Any, status: int) -> None:
    response = house.ask("POST", target, body)
    assert (response.status, bool(body_of(response)["error"])) == (status, True)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Overloaded("full", retry_after_s=1.2), 429, "2"),
        (NotReady("plain"), 503, "1"),
        (WorkerLost("plain", 1, "died"), 503, "1"),
        (QueueDeadline("plain"), 504, None),
        (InvalidOutput("plain", 1, "output y is not finite"), 500, None),
    ],
)
def test_a_dispatchers_errors_have_the_status_that_clients_act_upon(
    house: House, error: Any, status: int, retry: str | None
) -> None:
    house.dispatcher.fails = error
    response = house.ask("POST", "/v2/models/plain/infer", X)
    assert (response.status, response.headers.get("Retry-After")) == (status, retry)


def test_a_request_has_the_deadline_that_it_asks_for_and_no_longer_one_than_allowed(house: House) -> None:
    for timeout_us in (2_000_000, 90_000_000, 0):
        house.ask("POST", "/v2/models/plain/infer", {**X, "parameters": {"timeout": timeout_us}})
    assert [request.deadline for request in house.dispatcher.asked] == [52.0, 80.0, 80.0]


def test_an_answer_of_another_version_than_was_expected_is_told_as_that_versions(house: House) -> None:
    held = house.dispatcher
    held.servables["plain", 2] = Doubled()
    held.shares["plain"] = {1: 0.9, 2: 0.1}
    original = held.loaded
    held.loaded = lambda model, version=None: original(model, 1 if version is None else version)  # type: ignore[method-assign]
    outcome = held._outcome
    held._outcome = lambda request: outcome(msgspec.structs.replace(request, version=2))  # type: ignore[method-assign]
    assert body_of(house.ask("POST", "/v2/models/plain/infer", X))["model_version"] == "2"


def test_health_and_metadata(house: House) -> None:
    assert body_of(house.ask("GET", "/v2"))["version"] == "1.2"
    assert body_of(house.ask("GET", "/v2/health/live")) == {"live": True}
    assert body_of(house.ask("GET", "/v2/health/ready")) == {"ready": True}
    assert body_of(house.ask("GET", "/v2/models/heart"))["versions"] == ["3", "4"]
    assert body_of(house.ask("GET", "/v2/models/plain/versions/1"))["inputs"][0]["name"] == "x"
    assert house.ask("GET", "/v2/models/plain/ready").status == 200
    assert house.ask("GET", "/v2/models/none/ready").status == 404
    house.dispatcher.shares["plain"] = {}
    assert house.ask("GET", "/v2/models/plain/ready").status == 503
    assert house.ask("GET", "/v2/models/plain/versions/1/ready").status == 200
    house.reasons = (Reason("serving.not_ready", "no"),)
    assert house.ask("GET", "/v2/health/ready").status == 503
    assert (house.ask("GET", "/healthz").status, house.ask("GET", "/readyz").status) == (200, 503)
    assert house.ask("GET", "/metrics").parts == (b"aimass_ready 1\n",)
    assert body_of(house.ask("GET", "/status")) == {"models": 2}


def test_the_repository(house: House) -> None:
    index = body_of(house.ask("POST", "/v2/repository/index"))
    assert [(entry["name"], entry["version"]) for entry in index] == [("heart", "3"), ("heart", "4"), ("plain", "1")]
    assert house.ask("POST", "/v2/repository/models/heart/load").status == 200
    assert house.ask("POST", "/v2/repository/models/heart/unload", {"parameters": {}}).status == 200
    assert house.ask("POST", "/v2/repository/models/heart/load", {"parameters": {"config": "{}"}}).status == 400
    assert house.versions.told == ["load heart", "unload heart"]


def test_another_method_is_told_which_there_are(house: House) -> None:
    response = house.ask("DELETE", "/v2/models/plain")
    assert (response.status, response.headers["Allow"]) == (405, "GET")
    assert house.ask("HEAD", "/v2/models/plain").status == 200


def test_named_features_are_answered_with_a_label_and_its_probability(house: House) -> None:
    response = house.ask("POST", "/predict/heart", dict(ROW))
    chance = 61 / 120
    assert (response.status, body_of(response)) == (
        200,
        {
            "model": "heart",
            "version": 4,
            "label": "yes",
            "probability": chance,
            "probabilities": {"no": 1 - chance, "yes": chance},
        },
    )
    several = body_of(house.ask("POST", "/predict/heart/3", [dict(ROW), {**ROW, "age": 300}]))
    assert (several["version"], [row["label"] for row in several["rows"]]) == (3, ["yes", "no"])
    assert several["rows"][1]["warnings"] == ["age lies outside 0 to 120: it counts as missing"]


def test_the_only_model_needs_no_name(house: House) -> None:
    refused = house.ask("POST", "/predict", dict(ROW))
    assert (refused.status, body_of(refused)["code"]) == (400, "predict.which")
    house.versions.models = ("heart",)
    assert body_of(house.ask("POST", "/predict", dict(ROW)))["label"] == "yes"


def test_a_model_of_tensors_alone_says_how_it_is_asked(house: House) -> None:
    response = house.ask("POST", "/predict/plain", {"x": 1})
    assert (response.status, body_of(response)["code"]) == (409, "predict.tensors")


def test_many_rows_are_read_beside_the_loop_and_answered_alike(house: House) -> None:
    rows = [{**ROW, "age": number % 120} for number in range(500)]
    told = body_of(house.ask("POST", "/predict/heart", rows))["rows"]
    assert [row["probabilities"]["yes"] for row in told] == [row["age"] / 120 for row in rows]


def test_what_people_write_is_bounded_like_what_programs_do(house: House) -> None:
    large = [dict(ROW)] * (1 << 14)
    for target in ("/predict/heart", "/explain/heart", "/v2/repository/index", "/v2/repository/models/heart/load"):
        response = house.ask("POST", target, large)
        assert (response.status, body_of(response)["code"]) == (413, "http.json_bytes"), target


def test_explanations_are_found_by_entry_point_and_ask_one_version(house: House) -> None:
    told = body_of(house.ask("POST", "/explain/heart", dict(ROW)))
    assert told == {"model": "heart", "version": 4, "without": [[0.9, 0.1]], "schema": "heart", "who": "127.0.0.1"}
    assert house.dispatcher.asked[0].version == 4
    assert house.ask("POST", "/explain/heart?method=other", dict(ROW)).status == 404
    house.explainer = None
    response = house.ask("POST", "/explain/heart", dict(ROW))
    assert (response.status, "pip install 'aimass[explain]'" in body_of(response)["error"]) == (501, True)


def test_the_description_has_an_example_for_each_model_that_works(house: House) -> None:
    described = body_of(house.ask("GET", "/openapi.json"))
    tried = 0
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation and not path.startswith("/explain"):
                example = operation["requestBody"]["content"]["application/json"]["example"]
                assert house.ask(method.upper(), path, example).status == 200, path
                tried += 1
    assert tried == 3


def test_the_page_is_whole_in_itself_and_escapes_what_it_shows(house: House) -> None:
    response = house.ask("GET", "/docs", host="<script>")
    text = b"".join(response.parts).decode()
    assert "<script" not in text
    assert "https://" not in text
    assert "curl -s http://localhost:8080/predict/heart" in text
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_tokens_are_asked_for_and_count_against_their_own_rate() -> None:
    house = House(Access(Listed(token(models=("plain",))), private=False), rates=1.0)
    bare = house.ask("POST", "/v2/models/plain/infer", X)
    assert (bare.status, bare.headers["WWW-Authenticate"]) == (401, 'Bearer realm="aimass"')
    said = f"Bearer {SECRET.reveal().decode()}"
    assert house.ask("POST", "/v2/models/plain/infer", X, authorization=said).status == 200
    often = house.ask("POST", "/v2/models/plain/infer", X, authorization=said)
    assert (often.status, often.headers["Retry-After"]) == (429, "1")
    assert house.ask("POST", "/v2/models/heart/infer", X, authorization=said).status == 403
    assert house.ask("POST", "/v2/repository/models/plain/unload", authorization=said).status == 403
    assert house.ask("GET", "/v2/health/ready").status == 200


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "origin", "referer", "sec_fetch_site", "host"])
def test_without_tokens_nothing_that_comes_through_a_proxy_or_a_page_manages(house: House, header: str) -> None:
    for method, target in [("POST", "/v2/repository/models/plain/unload"), ("GET", "/status"), ("GET", "/metrics")]:
        assert house.ask(method, target, **{header: "http://evil.example"}).status == 403
    assert house.versions.told == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]"])
def test_without_tokens_a_request_to_a_name_of_this_machine_is_of_this_machine(house: House, host: str) -> None:
    own = {"host": host, "referer": f"http://{host}/docs", "sec_fetch_site": "same-origin"}
    assert house.ask("GET", "/status", **own).status == 200


@pytest.mark.parametrize("host", ["evil.example:8080", "10.0.0.1", "", "localhost.evil.example", "[::2]:8080", "[evil"])
def test_a_site_whose_name_resolves_to_this_machine_is_answered_nothing(house: House, host: str) -> None:
    response = house.ask("POST", "/v2/models/plain/infer", X, host=host)
    assert (response.status, body_of(response)["code"]) == (403, "serve.host")
    assert house.ask("GET", "/healthz", host=host).status == 200  # a probe names the machine as it likes


def test_a_token_for_one_model_is_for_no_other_where_the_path_names_none() -> None:
    house = House(Access(Listed(token(models=("plain",))), private=False))
    said = f"Bearer {SECRET.reveal().decode()}"
    for path in ("/predict", "/explain"):
        response = house.ask("POST", path, dict(ROW), authorization=said)
        assert (response.status, body_of(response)["code"]) == (400, "predict.which")
        assert "heart" not in body_of(response)["error"]
    house.versions.models = ("heart",)
    for path in ("/predict", "/explain"):
        response = house.ask("POST", path, dict(ROW), authorization=said)
        assert (response.status, body_of(response)["code"]) == (403, "serve.scope")


def test_the_index_lists_what_a_token_is_for() -> None:
    house = House(Access(Listed(token(models=("plain",))), private=False))
    index = body_of(house.ask("POST", "/v2/repository/index", authorization=f"Bearer {SECRET.reveal().decode()}"))
    assert [entry["name"] for entry in index] == ["plain"]


def test_requests_are_counted_by_route_and_status_and_paths_make_no_meter_grow(house: House) -> None:
    house.ask("POST", "/v2/models/plain/infer", X)
    house.ask("POST", "/v2/models/plain/infer", b"{")
    for number in range(20):
        house.ask("GET", f"/{number}")
    assert house.meters.requests.read() == {("v2_infer", "200"): 1, ("v2_infer", "400"): 1, ("none", "404"): 20}


def test_logs_name_the_request_and_none_of_its_values(caplog: pytest.LogCaptureFixture) -> None:
    house = House(log_requests="all")
    with caplog.at_level(logging.INFO, "aimass.serving"):
        house.ask("POST", "/predict/heart", {**ROW, "note": "a secret", "age": 4711})
        house.ask("POST", "/predict/heart", {**ROW, "note": "a secret", "agee": 4711})
    assert [record.getMessage() for record in caplog.records] == [
        "POST /predict/heart of anybody: 200 in 0.0 ms",
        "POST /predict/heart of anybody: 400 in 0.0 ms",
    ]
    assert [record.about.request for record in caplog.records] == ["request-1"] * 2  # type: ignore[attr-defined]
    assert not any(secret in caplog.text for secret in ("a secret", "4711"))


def test_a_fault_of_ours_is_an_answer_and_a_line_in_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Request) -> Any:
        raise ZeroDivisionError

    house.dispatcher._outcome = broken  # type: ignore[method-assign, assignment]
    assert house.ask("POST", "/predict/heart", dict(ROW)).status == 500
    assert "ZeroDivisionError" in caplog.text


def test_who_waits_no_more_is_not_answered(house: House) -> None:
    async def scene() -> None:
        house.dispatcher.held = []
        answered: list[Response] = []
        cancel = house.front.handle(asking("POST", "/predict/heart", dict(ROW)), answered.append)
        await asyncio.sleep(0)
        assert cancel is not None
        cancel()
        await asyncio.sleep(0)
        assert answered == []

    asyncio.run(scene())


def test_what_a_schema_says_is_text_on_the_page_and_one_argument_in_its_line(house: House) -> None:
    odd = Category(name="sex", values=("</pre><script>alert('x')</script>",))
    columns = tuple(odd if column.name == "sex" else column for column in PATIENTS.columns)
    schema = msgspec.structs.replace(PATIENTS, columns=columns)
    text = page([Described("heart", house.dispatcher.loaded("heart"), schema)], "1.2", "here:8080").decode()
    assert "<script" not in text
    line = html.unescape(text.partition("<pre>")[2].partition("</pre>")[0])
    words = shlex.split(line)
    assert words[:3] == ["curl", "-s", "http://here:8080/predict/heart"]
    assert json.loads(words[4])["sex"] == odd.values[0]


def by_tensors(age: float) -> dict[str, Any]:
    """A V2 request for the patient in `ROW`."""
    cells = {"age": ("FP64", [age]), "chol": ("FP64", [240.5]), "sex": ("BYTES", ["Male"]), "note": ("BYTES", ["a"])}
    inputs = [{"name": name, "datatype": kind, "shape": [1], "data": data} for name, (kind, data) in cells.items()]
    return {"inputs": [*inputs, {"name": "scan", "datatype": "UINT8", "shape": [1, 2, 2], "data": [0, 1, 2, 255]}]}


def test_numbers_out_of_range_are_named_to_programs_too_or_refused(house: House) -> None:
    told = body_of(house.ask("POST", "/v2/models/heart/infer", by_tensors(130)))
    assert told["parameters"] == {"warnings": "age lies outside 0 to 120"}
    assert "parameters" not in body_of(house.ask("POST", "/v2/models/heart/infer", by_tensors(61)))
    strict = House(rule="refuse")
    refused = strict.ask("POST", "/v2/models/heart/infer", by_tensors(130))
    assert (refused.status, body_of(refused)["code"], strict.dispatcher.asked) == (400, "serve.range", [])
    assert strict.ask("POST", "/v2/models/heart/infer", by_tensors(61)).status == 200
