"""What stands in a run's way at the server itself: it pauses, says why, and goes on when that is put right."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.plan import Cohort
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.flower import process
from tests.server.flower.test_desk import WAITING, run, state_of, until, workers
from tests.support.flower import FOUR
from tests.support.flower_apps import app_of, serving_app

PATIENT = Cohort(partners=FOUR, quorum=1, step_deadline_s=10_000.0)


def paused(run: runs.Run) -> bool:
    return run.state is RunState.PAUSED or run.state.final


def test_a_run_whose_worker_was_killed_pauses_and_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    waiting = WAITING.replace("if number == 1:", f"if number == 1 and not os.path.exists({str(tmp_path / 'go')!r}):")

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, f"import os\n{waiting}"), rounds=4)
            await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 1)
            os.kill(workers()[0], signal.SIGKILL)
            held = await apps.serve(run_id, until=paused)
            assert held.state is RunState.PAUSED
            assert held.reason.startswith(
                "flower.died: the worker of the Flower app ended without a word; got exit code -9"
            )
            assert held.reason.endswith("Then: aimass run resume.")
            (tmp_path / "go").touch()
            await apps.bench.engine.change(run_id, "resume", "olga")
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            assert state_of(ended).trained == 4

    run(scenario())


def _gone(apps: Path, patch: pytest.MonkeyPatch) -> None:
    apps.rename(apps.with_name("elsewhere"))


def _changed(apps: Path, patch: pytest.MonkeyPatch) -> None:
    (code,) = apps.rglob("adder_server.py")
    code.chmod(0o600)
    code.write_text("app = None")


def _no_room(apps: Path, patch: pytest.MonkeyPatch) -> None:
    (apps.parent / "flower").rename(apps.parent / "old")
    (apps.parent / "flower").touch()


def _other_series(apps: Path, patch: pytest.MonkeyPatch) -> None:
    code = (
        "import socket, sys, time\nfrom aimass.proto.frames import send\nsend(socket.socket(fileno=int(sys.argv[1])), "
        """b'{"type": "broken", "id": 0, "code": "flower.series", "place": "", "what": "another series"}')"""
    )
    patch.setattr(process, "_WORKER", ("-c", code))


@pytest.mark.parametrize(
    ("happens", "code"),
    [(_other_series, "flower.series"), (_gone, "app.absent"), (_changed, "app.changed"), (_no_room, "flower.disk")],
)
def test_what_this_machine_lacks_pauses_a_run_and_ends_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Any, code: str
) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, WAITING), rounds=4)
            await apps.bench.engine.change(run_id, "pause", "olga")
            await until(lambda: not workers())
            happens(tmp_path / "apps", monkeypatch)
            await apps.bench.engine.change(run_id, "resume", "olga")
            held = await apps.bench.until(run_id, paused)
            assert held.state is RunState.PAUSED
            assert held.reason.startswith(code)

    run(scenario())


def test_an_app_that_asks_nothing_for_long_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [line.getMessage() for line in caplog.records if "has asked nothing" in line.getMessage()]

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, WAITING), rounds=4, cohort=PATIENT)
            await apps.bench.until(run_id, lambda run: bool(run.open))
            for _ in range(20):  # partners are waited for
                apps.bench.clock.advance(200)
                await asyncio.sleep(0.01)
            assert not told()
            await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 1)
            await asyncio.sleep(0.05)
            apps.bench.clock.advance(590)
            await asyncio.sleep(0.05)
            assert not told()
            for _ in range(20):
                apps.bench.clock.advance(200)
                await asyncio.sleep(0.01)
            (line,) = told()
            assert "4 of 4" in line
            assert f"{run_id}/app.log" in line

    with caplog.at_level(logging.WARNING):
        run(scenario())
