"""A model that is served elsewhere, by anybody: what its metadata has to say, and what is told where it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimass.explain.opening.served import served_model
from aimass.proto.errors import (
    AimassError,
    BadInput,
    LimitExceeded,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)

AGE = {"name": "age", "datatype": "FP64", "shape": [-1, 1]}
SEX = {"name": "sex", "datatype": "BYTES", "shape": [-1, 1], "parameters": {"labels": ["f", "m"]}}
RISK = {"name": "risk", "datatype": "FP32", "shape": [-1, 1]}


class Server:
    """Answers a model's metadata as a test says, and sums: age, and 100 for men."""

    def __init__(self) -> None:
        self.metadata: Any = {"name": "m", "versions": ["7"], "inputs": [AGE, SEX], "outputs": [RISK]}
        self.asked: list[tuple[str, str, Any]] = []
        self.token = ""
        self.answer: Any = None
        self.status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(server.metadata)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, self.headers.get("Authorization", ""), body))
                cells = {one["name"]: one["data"] for one in body["inputs"]}
                said = [
                    a if a == "NaN" else a + 100 * (s == "m") for a, s in zip(cells["age"], cells["sex"], strict=True)
                ]
                answer = {"outputs": [{"name": "risk", "datatype": "FP32", "shape": [len(said), 1], "data": said}]}
                self._send(answer if server.answer is None else server.answer)

            def _send(self, document: Any) -> None:
                refused = bool(server.token) and self.headers.get("Authorization") != f"Bearer {server.token}"
                known = self.path.startswith("/v2/models/m")
                found = document if known and not refused else {"error": "no", "code": "x.no"}
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(401 if refused else server.status if known else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v2/models/m"


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    serving = threading.Thread(target=found.http.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield found
    found.http.shutdown()
    found.http.server_close()
    serving.join()


def test_metadata_alone_makes_columns_and_one_version_answers_to_the_end(server: Server) -> None:
    model = served_model(server.url)
    values = np.array([[40.0, 0.0], [np.nan, 1.0], [50.0, np.nan]])
    said = model.predict(values)
    np.testing.assert_array_equal(said, [[40.0], [np.nan], [50.0]])
    path, _, body = server.asked[0]
    assert path.endswith("/v2/models/m/versions/7/infer")
    assert [one["data"] for one in body["inputs"]] == [[40.0, "NaN", 50.0], ["f", "m", ""]]
    assert [(one.name, one.kind, one.values, one.minimum) for one in model.features] == [
        ("age", "number", (), None),
        ("sex", "category", ("f", "m"), None),
    ]
    assert (model.name, model.outputs, model.classifies, model.digest) == ("m@7", ("risk",), False, "")


def test_many_rows_are_asked_in_parts_and_none_is_lost(server: Server) -> None:
    values = np.stack([np.arange(8_193.0), np.ones(8_193)], axis=1)
    np.testing.assert_array_equal(served_model(server.url).predict(values)[:, 0], np.arange(8_193.0) + 100)
    assert [len(body["inputs"][0]["data"]) for _, _, body in server.asked] == [4_096, 4_096, 1]
    assert served_model(server.url).predict(values[:0]).shape == (0, 1)


def test_a_token_comes_from_a_file_that_its_owner_alone_reads(server: Server, tmp_path: Path) -> None:
    server.token, held = "secret", tmp_path / "token"
    held.write_text("secret\n")
    held.chmod(0o600)
    assert served_model(server.url, token=held).name == "m@7"
    with pytest.raises(Unauthenticated):
        served_model(server.url)


def test_a_token_crosses_no_network_that_others_read(tmp_path: Path) -> None:
    held = tmp_path / "token"
    held.write_text("secret\n")
    held.chmod(0o600)
    for host in ("hospital.example", "127.0.0.1@hospital.example", "127.0.0.1.example:8080"):
        with pytest.raises(Refused, match="for all to read"):
            served_model(f"http://{host}/v2/models/m", token=held)
    for address in ("https://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"):
        with pytest.raises(Unavailable):
            served_model(f"{address}/v2/models/m", token=held)


def test_what_a_server_refuses_with_says_nothing_to_the_terminal(server: Server) -> None:
    model = served_model(server.url)
    server.answer, server.status = {"error": "\x1b[2Jall is well" + "x" * 9_999, "code": "a\x07"}, 400
    with pytest.raises(BadInput) as refused:
        model.predict(np.zeros((1, 2)))
    assert refused.value.sentence().isprintable()
    assert len(refused.value.sentence()) < 500


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"versions": ["1", "2"]}, "explain.version"),
        ({"inputs": [{"name": "scan", "datatype": "UINT8", "shape": [-1, 28, 28]}]}, "explain.tensor"),
        ({"inputs": [{"name": "word", "datatype": "BYTES", "shape": [-1, 1]}]}, "explain.tensor"),
        ({"outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}]}, "explain.answer"),
        ({"outputs": [RISK, RISK | {"name": "other"}]}, "explain.answer"),
        ({"inputs": None}, "explain.protocol"),
        ({"inputs": [AGE, AGE]}, "explain.tensor"),
        ({"inputs": [AGE | {"name": "\x1b[2J"}]}, "explain.tensor"),
        ({"inputs": [SEX | {"parameters": {"labels": 5}}]}, "explain.tensor"),
        ({"inputs": [SEX | {"parameters": {"labels": ["f", "f"]}}]}, "explain.tensor"),
        ({"outputs": [RISK | {"parameters": {"labels": "no"}}]}, "explain.tensor"),
        ({"outputs": [RISK | {"shape": [-1, 10**12]}]}, "explain.wide"),
        ({"versions": ["../../admin?"]}, "explain.version"),
    ],
)
def test_what_cannot_be_explained_is_told_by_name(server: Server, change: dict[str, Any], code: str) -> None:
    server.metadata |= change
    with pytest.raises((BadInput, LimitExceeded)) as refused:
        served_model(server.url)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"outputs": []}, "explain.answer"),
        ({"outputs": [{"name": "risk", "shape": [1, 1], "data": [1.0]}]}, "explain.shape"),
        ({"nothing": 1}, "explain.protocol"),
        ({"outputs": [{"name": "risk", "shape": [2, 1], "data": ["high", 1]}]}, "explain.answer"),
        ({"outputs": [{"name": "risk", "shape": [2, 1], "data": [[1], 2]}]}, "explain.answer"),
        ({"outputs": [{"name": "risk", "shape": [2, 1], "data": [1, [2]]}]}, "explain.answer"),
        ({"outputs": [{"name": "risk", "shape": [2, 1], "data": [10**400, 1]}]}, "explain.answer"),
        ({"outputs": [{"name": "risk", "shape": [2, 1], "data": [True, 1]}]}, "explain.answer"),
        ("deep", "explain.protocol"),
        ("long", "explain.bytes"),
    ],
)
def test_an_answer_that_is_none_is_not_believed(server: Server, answer: Any, code: str) -> None:
    model = served_model(server.url)
    server.answer = {"deep": b"[" * 100_000, "long": b" " * 3_000_000}[answer] if isinstance(answer, str) else answer
    with pytest.raises((BadInput, LimitExceeded)) as refused:
        model.predict(np.zeros((2, 2)))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda url: url.replace("models/m", "models/other"), NotFound), (lambda url: url + "/infer", BadInput),
     (lambda _: "http://127.0.0.1:9/v2/models/m", Unavailable)],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_told(server: Server, change: Any, kind: type[AimassError]) -> None:
    with pytest.raises(kind):
        served_model(change(server.url))
