"""What the daemon shows to whoever watches it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from aimass.client.daemon import Daemon
from aimass.client.figures import reasons
from aimass.client.meters import DaemonMeters
from aimass.proto.errors import Refused, Unavailable
from aimass.proto.meters import meters_of
from tests.client.test_daemon import partner_folder
from tests.support.edge_federation import Members, run, serving
from tests.support.figures import get, samples

GOOD = {"connected": True, "stopping": False, "free_bytes": 1 << 40, "certificate_ends_at": 11.0, "now": 10.0}


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"connected": False}, ["daemon.not_connected"]),
        ({"stopping": True, "connected": False}, ["daemon.stopping"]),
        ({"free_bytes": 1}, ["daemon.low_space"]),
        ({"now": 11.0}, ["trust.expired"]),
        ({"ledgers": [Refused("no", code="ledger.E_LEDGER_ROLLBACK")] * 2}, ["ledger.E_LEDGER_ROLLBACK"]),
    ],
)
def test_every_reason_has_its_name(change: dict[str, object], codes: list[str]) -> None:
    found = reasons(**(GOOD | change))  # type: ignore[arg-type]
    assert [reason.code for reason in found] == codes


def test_a_refusal_counts_under_its_rule_only_where_the_rule_is_ours() -> None:
    meters = DaemonMeters()
    meters.failed("train", Refused("no", code="release.mechanism"))
    meters.failed("train", Refused("no", code="made-up-by-a-server"))
    meters.failed("train", Unavailable("no", code="release.mechanism"))
    assert meters.refusals.read() == {("release.mechanism",): 1}
    assert meters.steps.read() == {("train", "failed"): 3}


def test_no_meter_has_a_label_that_grows_with_runs() -> None:
    labels = {label for meter in meters_of(DaemonMeters()) for label in meter.labels}
    assert labels == {"kind", "outcome", "code", "part", "direction", "level"}


def test_a_daemon_is_ready_while_its_server_is_there_and_shows_no_path_and_no_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = _free_port()
        members = Members.create(tmp_path)
        stop, ready, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        async with serving(members) as edge:
            folder = partner_folder(edge, "north")
            settings = folder / "client.toml"
            settings.write_text(f'watch_listen = "127.0.0.1:{port}"\n{settings.read_text()}')
            daemon = Daemon(folder, clock=_Told(gone))
            task = asyncio.create_task(daemon.serve(stop, ready.set))
            await ready.wait()
            assert await _ready(port) == (200, [])
            text = (await get(port, "/metrics"))[2].decode()
            found = samples(text)
            assert found["aimass_daemon_connected", ""] == 1
            assert found["aimass_daemon_connections_total", ""] == 1
            assert found["aimass_daemon_journal_lines", ""] == 0
            assert found["aimass_daemon_runs", 'phase="joined"'] == 0
            assert found["aimass_certificate_ends_seconds", ""] > 1e9
            for secret in (str(tmp_path), "PRIVATE", edge.address, members.root.root.fingerprint):
                assert secret not in text
        await gone.wait()
        assert await _ready(port) == (503, ["daemon.not_connected"])
        found = samples((await get(port, "/metrics"))[2].decode())
        assert found["aimass_daemon_connected", ""] == 0
        assert sum(value for (name, _), value in found.items() if name == "aimass_daemon_disconnections_total") >= 1
        stop.set()
        await task

    run(scenario())


class _Told:
    """The machine's clock, on which nobody comes back from a sleep."""

    def __init__(self, slept: asyncio.Event) -> None:
        self._slept = slept

    def now(self) -> float:
        import time

        return time.time()

    async def sleep(self, seconds: float) -> None:
        self._slept.set()
        await asyncio.Event().wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _ready(port: int) -> tuple[int, list[str]]:
    status, _, body = await get(port, "/readyz")
    return status, [reason["code"] for reason in json.loads(body)["reasons"]]
