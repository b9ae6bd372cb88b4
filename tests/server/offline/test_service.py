"""Offline runs at a real service over real TLS: reported by a driver elsewhere, or with a driver that it sees to."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aimass.proto.api import Federation
from aimass.proto.commands import main
from aimass.proto.errors import BadInput, NotFound, Refused
from aimass.proto.hashing import file_digest
from aimass.proto.objects import open_objects
from aimass.proto.reporting import Record
from aimass.proto.reports import ReportedRun
from aimass.proto.sharding import Split
from aimass.proto.views import RunState
from tests.support.dealt_sets import registered
from tests.support.edge_federation import Members, run, serving
from tests.support.offline_runs import PLAN
from tests.support.simulations import shards_of


class House:
    """A server with a data set, and a scientist's folder; `do` calls what blocks while the server runs."""

    def __init__(self, folder: Path, rounds: int = 3, *, offered: bool = True) -> None:
        self.folder, self.store = folder, f"file://{folder}/store"
        self.members = Members.create(folder)
        shards = shards_of(folder / "shards", "heart", Split(rule="iid", partners=3, seed=1))
        registered(open_objects(self.store), "heart", shards)
        self.plan = folder / "plan.toml"
        self.plan.write_text(PLAN.replace("rounds = 3", f"rounds = {rounds}"))
        self.home = Path()
        if offered:
            settings = folder / "hub" / "server.toml"
            settings.write_text(settings.read_text().replace("stores = []", f'stores = ["{self.store}"]'))

    def do(self, *works: Callable[[], None]) -> None:
        """Each with a server of its own in another thread, one after the other over the same folder."""
        for work in works:
            started, over = queue.SimpleQueue[str](), threading.Event()
            with ThreadPoolExecutor(1) as pool:
                server = pool.submit(run, self._serve(started, over), 120)
                try:
                    self._know(started.get(timeout=30))
                    work()
                finally:
                    over.set()
                server.result()

    async def _serve(self, started: queue.SimpleQueue[str], over: threading.Event) -> None:
        async with serving(self.members) as edge:
            started.put(edge.address)
            await asyncio.to_thread(over.wait)

    def _know(self, address: str) -> None:
        """Where the server listens now."""
        if self.home == Path():
            self.home = self.members.home("anna", address)
        settings = self.home / "client.toml"
        settings.write_text(f'name = "anna"\nserver = "{address}"\nenrol = "{address}"\n')

    def aimass(self, *words: object) -> int:
        return main([*map(str, words), "--as", str(self.home)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_driver_that_reports_and_one_that_the_service_sees_to_leave_equal_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(here)

    def both() -> None:
        out = f"file://{here}/out"
        offline = ("offline", "run", house.plan, "--data", "heart", "--store", house.store, "--out", out)
        assert house.aimass(*offline, "--workers", 1) == 0
        assert house.aimass("offline", "submit", house.plan, "--data", "heart@1", "--watch", "--quiet") == 0
        capsys.readouterr()
        assert house.aimass("offline", "list", "--json") == 0
        seen, reported = json.loads(capsys.readouterr().out)
        assert (seen["state"], reported["state"]) == ("finished", "finished")
        assert seen["model"] == reported["model"]
        assert (seen["round"], seen["rounds"], seen["partners"]) == (3, 3, 3)
        assert house.aimass("offline", "compare", seen["run_id"], reported["run_id"]) == 0
        assert house.aimass("offline", "compare", out, seen["run_id"]) == 0
        with Federation.open(house.home) as federation:
            standing = ReportedRun(run_id=seen["run_id"], state=RunState.RUNNING, next_step=0)
            with pytest.raises(Refused) as caught:  # the owner's word is not the driver's
                Record(federation, standing).end(RunState.FINISHED, "better than it was")
            assert caught.value.code == "report.own_driver"
            federation.export(seen["model"], here / "model.safetensors")
            manifest = federation.manifest(seen["run_id"])
        assert seen["model"] in manifest.decode()

    house.do(both)


@pytest.mark.slow
def test_a_run_that_is_stopped_a_driver_that_is_killed_and_a_server_that_restarts_go_on_to_the_same_model(
    here: Path,
) -> None:
    house = House(here, rounds=20)
    held: dict[str, str] = {}

    def stop() -> None:
        with Federation.open(house.home) as federation:
            stopped = federation.submit_offline(house.plan, "heart", key="one-to-stop")
            for view in stopped.watch():
                if view.summary.round >= 2:
                    break
        assert house.aimass("offline", "stop", stopped.id, "--quiet") == 0
        with Federation.open(house.home) as federation:
            assert federation.run(stopped.id).view.summary.state is RunState.PAUSED
        held["run"] = stopped.id

    def resume() -> None:
        assert house.aimass("offline", "resume", held["run"], "--quiet") == 0
        with Federation.open(house.home) as federation:
            resumed = federation.run(held["run"])
            for view in resumed.watch():
                if view.summary.round >= 6:
                    break
            (order,) = (here / "hub" / "data" / "drivers").glob("*/order.json")
            (pid,) = _drivers_of(order)
            os.kill(pid, signal.SIGKILL)
            for view in resumed.watch():
                if view.summary.round >= 12:
                    break  # and the server stops under it

    def finish() -> None:
        with Federation.open(house.home) as federation:
            view = federation.run(held["run"]).wait()
        assert view.summary.state is RunState.FINISHED
        held["model"] = view.summary.model

    house.do(stop, resume, finish)
    out = f"file://{here}/out"
    offline = ["offline", "run", str(house.plan), "--data", "heart", "--store", house.store, "--out", out]
    assert main([*offline, "--workers", "1", "--quiet"]) == 0
    assert (here / "out" / "model.safetensors").is_file()
    assert file_digest(here / "out" / "model.safetensors") == held["model"]


def _drivers_of(order: Path) -> list[int]:
    """Processes whose command names this order."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(order).encode() in words:
            found.append(int(folder.name))
    return found


def test_a_service_that_offers_nothing_and_data_that_it_has_not_are_told_by_name(here: Path) -> None:
    house = House(here, offered=False)

    def refused() -> None:
        with Federation.open(house.home) as federation, pytest.raises(Refused) as caught:
            federation.submit_offline(house.plan, "heart")
        assert caught.value.code == "offline.not_offered"

    house.do(refused)


def test_a_data_set_that_no_store_has_or_of_another_schema_begins_nothing(here: Path) -> None:
    house = House(here)

    def refused() -> None:
        with Federation.open(house.home) as federation:
            with pytest.raises(NotFound) as caught:
                federation.submit_offline(house.plan, "heart@7")
            assert caught.value.code == "dataset.unknown"
            house.plan.write_text(house.plan.read_text().replace('"heart', '"digits'))
            with pytest.raises(BadInput) as other:
                federation.submit_offline(house.plan, "heart")
            assert other.value.code == "dataset.schema"
            assert federation.runs() == ()

    house.do(refused)
