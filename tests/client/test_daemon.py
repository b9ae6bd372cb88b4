"""The daemon against a real server, in one loop: what it does when it is not alone."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from aimass.client.daemon import Daemon, backoff_s
from tests.support.edge_federation import Edge, Members, run, serving, welcomed


class Recording:
    """Real time, but nobody who sleeps wakes up; how long they wanted to is kept."""

    def __init__(self) -> None:
        self.wanted: list[float] = []
        self.slept = asyncio.Event()

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        self.wanted.append(seconds)
        self.slept.set()
        await asyncio.Event().wait()


def partner_folder(edge: Edge, name: str) -> Path:
    """The folder of an enrolled partner of `edge`."""
    members = edge.members
    folder = members.folder / f"{name}-home"
    (folder / "trust").mkdir(parents=True)
    shutil.copytree(next((members.folder / name).glob("keys*")), folder / "keys")
    (folder / "trust" / "bundle.json").write_bytes(members.bundle)
    (folder / "trust" / "root.pem").write_bytes(members.root.root.to_pem())
    (folder / "trust" / "certificate.pem").write_bytes(members.identity(name).certificate_pem)
    (folder / "client.toml").write_text(f'name = "{name}"\nserver = "{edge.address}"\nenrol = "{edge.enrol_address}"\n')
    (folder / "policy.toml").write_text("")
    return folder


def test_a_daemon_that_another_one_replaces_waits_long_and_does_not_fight(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            clock, stop, ready = Recording(), asyncio.Event(), asyncio.Event()
            daemon = Daemon(partner_folder(edge, "north"), clock=clock)
            serving_it = asyncio.create_task(daemon.serve(stop, ready.set))
            await ready.wait()
            other = await welcomed(edge, "north")
            await clock.slept.wait()
            assert 30 <= clock.wanted[-1] <= 90
            assert "another daemon runs with this partner's keys" in caplog.text
            stop.set()
            await serving_it
            other.call.cancel()

    run(scenario())


def test_waiting_doubles_is_capped_and_spread() -> None:
    assert [backoff_s(n, 0.0) for n in (0, 1, 2)] == [0.125, 0.25, 0.5]
    assert backoff_s(50, 0.0) == 15.0
    assert backoff_s(50, 0.999) < 30.0
