"""Transfers and control streams over links that fail, against the real server with real TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from aimass.privacy.transcript import Receipt
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.storage import Spool
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, SubmitHeader, fetch, submit
from aimass.proto.values import decode_json
from aimass.proto.wire import connect
from tests.support.edge_federation import Edge, Members, run, serving
from tests.support.edge_runs import model, open_step
from tests.support.fault_proxy import FaultProxy, Faults, Kind

ELEMENTS = 700_000


def contribution(value: float = 1.0) -> bytes:
    return Contribution({"update": Group(1.0, {"w": np.full(ELEMENTS, value, np.float32)})}, {}, {}).encode()


async def until_done(
    proxy: FaultProxy, edge: Edge, who: str, use: Callable[[grpc.aio.Channel], Awaitable[object]]
) -> None:
    """Try again over a new connection each time, as a daemon does."""
    for _ in range(200):
        channel = connect(proxy.address, edge.members.identity(who))
        try:
            with contextlib.suppress(Unavailable):
                await use(channel)
                return
        finally:
            await channel.close()
    raise AssertionError(proxy.log)


@pytest.mark.parametrize("seed", range(6))
def test_cuts_at_random_bytes_and_overtaken_streams_change_no_digest(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            blob, data = model(ELEMENTS), contribution()
            run_id, lines = await open_step(edge, blob)
            faults = Faults(seed, (Kind.CUT, Kind.OVERTAKEN), (0, 2 * len(blob) // 3))
            async with FaultProxy(edge.started.port, faults) as proxy:
                spool, request = Spool(tmp_path / "cache"), FetchRequest(digest=Blob(blob).digest, run_id=run_id)
                await until_done(proxy, edge, "north", lambda channel: fetch(channel, request, spool, 10 << 20))
                assert spool.path(request.digest).read_bytes() == blob
                header = SubmitHeader(kind="contribution", size=len(data), digest=Blob(data).digest, run_id=run_id)
                await until_done(proxy, edge, "north", lambda channel: submit(channel, header, memoryview(data)))
            await submit(edge.channel("south"), header, memoryview(data))
            receipt = decode_json(Receipt, (await lines["north"].until("receipt")).receipt.body, "a receipt")
            assert (receipt.outcome, receipt.contribution) == ("counted", header.digest)

    run(scenario())
