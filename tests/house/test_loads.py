"""The loads of the serving benches: what they send, what they call right, and at what rate."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from scripts.benches import dense_task
from scripts.benches.checked_load import Verdict, due_times, judge
from scripts.benches.http_caller import Answer, HttpCaller, request_bytes
from scripts.benches.loads import quantile


async def _answered_in(pieces: list[bytes], calls: int) -> list[Answer]:
    """What a caller makes of a server that answers each request with the same pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(calls):
            await reader.readuntil(b"\r\n\r\nask")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with HttpCaller("127.0.0.1", port) as caller:
            return [await caller.call(request_bytes("host", "/path", b"ask")) for _ in range(calls)]


def test_a_caller_puts_an_answer_together_from_pieces() -> None:
    pieces = [b"HTTP/1.1 503 Away\r\ncontent-le", b"ngth: 5\r\n\r", b"\nhel", b"lo"]
    assert asyncio.run(_answered_in(pieces, 3)) == [Answer(503, b"hello")] * 3


def test_a_caller_is_told_when_the_other_side_hangs_up_in_an_answer() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(_answered_in([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], 1))


def _said(version: str, *values: float) -> Answer:
    body = {"model_name": "dense", "model_version": version, "outputs": [{"name": "prediction", "data": values}]}
    return Answer(200, json.dumps(body).encode())


EXPECTED = {"3": [[0.5], [1.0, 2.0]]}


@pytest.mark.parametrize(
    ("answer", "request_", "verdict"),
    [
        (_said("3", 0.50001), 0, Verdict.RIGHT),
        (_said("3", 1.0, 2.0), 1, Verdict.RIGHT),
        (_said("3", 0.51), 0, Verdict.WRONG),
        (_said("3", 1.0), 1, Verdict.WRONG),
        (_said("3", 2.0, 1.0), 1, Verdict.WRONG),
        (_said("4", 0.5), 0, Verdict.UNKNOWN_VERSION),
        (Answer(200, b'{"model_version": "3", "outputs": [{"data": [NaN]}]}'), 0, Verdict.WRONG),
        (Answer(503, b""), 0, Verdict.STATUS),
    ],
)
def test_an_answer_is_right_only_where_it_is_what_its_own_version_says(
    answer: Answer, request_: int, verdict: Verdict
) -> None:
    assert judge(answer, EXPECTED, request_)[0] is verdict


def test_connections_together_keep_the_rate_and_none_sends_with_another() -> None:
    due = [list(itertools.islice(due_times(10.0, 100.0, 4, place), 25)) for place in range(4)]
    together = sorted(itertools.chain(*due))
    assert together == pytest.approx([10.0 + number / 100 for number in range(100)])


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([], 0.5) == 0.0


def test_the_arithmetic_that_answers_are_checked_against_is_the_networks() -> None:
    import torch

    state = dense_task.chance_parameters(5)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    network = torch.nn.Sequential(linear(13, 64), relu(), linear(64, 64), relu(), linear(64, 1))
    network.load_state_dict({name.removeprefix("layers."): torch.from_numpy(one) for name, one in state.items()})
    rows = dense_task.some_rows(20)
    with torch.inference_mode():
        said = network(torch.from_numpy(rows)).numpy()[:, 0]
    assert dense_task.predicted(state, rows) == pytest.approx(said, rel=1e-4, abs=1e-5)
    assert abs(dense_task.predicted(dense_task.chance_parameters(6), rows) - said).min() > 1e-3


def test_a_body_holds_the_rows_as_they_are() -> None:
    rows = dense_task.some_rows(3)
    tensor = json.loads(dense_task.body(rows))["inputs"][0]
    assert tensor["shape"] == [3, 13]
    assert tensor["data"] == pytest.approx(rows.ravel().tolist())
