"""Real processes, watched while they run: figures that add up, logs for programs, readiness that turns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.demos.house import CommandFailed, House, free_port

from aimass.proto.api import Federation
from aimass.proto.task import locate
from aimass.proto.views import RunView
from tests.e2e.test_run import PARTNERS, PLAN
from tests.support.datasets import dataset
from tests.support.figures import fetched, samples


class WatchedHouse(House):
    """A federation in which everybody may be watched, and logs are for programs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.watched = {name: free_port() for name in ("server", *PARTNERS)}

    def start_server(self) -> None:
        self.watch("server/server.toml", "server")
        super().start_server()

    def watch(self, settings: str, name: str) -> None:
        path = self.folder / settings
        text = path.read_text().replace('log = "text"', 'log = "json"')
        if not text.startswith("watch_listen"):
            path.write_text(f'watch_listen = "127.0.0.1:{self.watched[name]}"\n{text}')

    def ready(self, name: str) -> tuple[int, list[str]]:
        status, body = fetched(self.watched[name], "/readyz")
        return status, [reason["code"] for reason in body["reasons"]]

    def figures(self, name: str) -> dict[tuple[str, str], float]:
        return samples(fetched(self.watched[name], "/metrics")[1])

    def log(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / f"{name}.log").read_text().splitlines()]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    folder = tmp_path_factory.mktemp("watched")
    house = WatchedHouse(folder)
    with house:
        house.found(PARTNERS)
        for partner in PARTNERS:
            house.permit(partner, "heart", locate("heart").digest)
            house.run(
                "client", "data", "add", "heart", "--dir", partner, "--schema", "heart/1", "--uri",
                str(dataset("heart") / f"{partner}.parquet"), "--format", "parquet",
            )  # fmt: skip
            house.watch(f"{partner}/client.toml", partner)
            house.start_partner(partner)
        (folder / "plan.toml").write_text(PLAN)
        yield house


@pytest.fixture(scope="module")
def view(house: WatchedHouse) -> RunView:
    """A run that has finished; everybody is looked at while it runs."""
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "plan.toml")
        for _ in run.watch():
            for name in house.watched:
                assert house.ready(name) == (200, [])
                assert house.figures(name)["aimass_ready", ""] == 1
        view = run.wait()
    assert view.summary.state == "finished", view.summary.reason
    return view


def test_the_servers_figures_are_those_of_the_run(house: WatchedHouse, view: RunView) -> None:
    found = house.figures("server")
    kinds = {step.kind for step in view.steps}
    for kind in kinds:
        steps = sum(step.kind == kind for step in view.steps)
        assert found["aimass_steps_opened_total", f'kind="{kind}"'] == steps
        assert found["aimass_steps_ended_total", f'kind="{kind}",outcome="committed"'] == steps
        assert found["aimass_step_seconds_count", f'kind="{kind}"'] == steps
        assert found["aimass_step_slots_total", f'kind="{kind}",state="counted"'] == steps * len(PARTNERS)
    assert found["aimass_contributions_total", 'code="",outcome="stored"'] == len(view.steps) * len(PARTNERS)
    assert found["aimass_runs", 'state="finished"'] == 1
    assert found["aimass_runs_ended_total", 'state="finished"'] == 1
    assert found["aimass_partners_connected", ""] == len(PARTNERS)
    assert found["aimass_transfers_open", 'direction="up"'] == 0
    assert found["aimass_transfer_bytes_total", 'direction="up"'] > 0
    assert found["aimass_sum_seconds_count", ""] == len(view.steps)
    assert found["aimass_loop_lag_seconds_count", ""] >= 0


def test_what_went_up_at_the_daemons_came_in_at_the_server(house: WatchedHouse, view: RunView) -> None:
    server = house.figures("server")
    daemons = [house.figures(partner) for partner in PARTNERS]
    sent = sum(found["aimass_daemon_bytes_total", 'direction="up"'] for found in daemons)
    assert server["aimass_transfer_bytes_total", 'direction="up"'] >= sent > 0  # and the first model, of a person
    for found in daemons:
        assert found["aimass_daemon_journal_lines", ""] == len(view.steps)
        done = sum(value for (name, _), value in found.items() if name == "aimass_daemon_steps_total")
        assert done == len(view.steps)
        for part in ("fetched", "worked", "checked", "saved", "sent"):
            assert found["aimass_daemon_part_seconds_count", f'part="{part}"'] == len(view.steps)
        assert found["aimass_daemon_child_starts_total", ""] == 1


def test_no_figure_names_the_run_or_a_path(house: WatchedHouse, view: RunView) -> None:
    for port in house.watched.values():
        text = fetched(port, "/metrics")[1]
        assert view.summary.run_id[:8] not in text
        assert str(house.folder) not in text


def test_every_line_of_the_logs_is_an_object_and_those_of_the_run_say_so(house: WatchedHouse, view: RunView) -> None:
    for name in house.watched:
        lines = house.log(name)
        assert all({"time", "level", "event"} <= line.keys() for line in lines)
        of_the_run = [line for line in lines if line.get("run") == view.summary.run_id]
        assert {line["step"] for line in of_the_run if "step" in line} == {step.index for step in view.steps}
    by_partner = {line.get("partner") for line in house.log("server") if line.get("step") == 0}
    assert set(PARTNERS) <= by_partner


def test_the_doctor_finds_nothing_wrong_in_a_federation_that_works(house: WatchedHouse, view: RunView) -> None:
    for name in ("server", "operator", "scientist", *PARTNERS):
        told = house.run("doctor", "--dir", name)
        assert told["sound"], (name, [each for each in told["findings"] if each["state"] == "fault"])
    told = house.run("doctor", "--dir", PARTNERS[0])
    assert {"clock", "data", "task", "confinement", "journal"} <= {each["check"] for each in told["findings"]}


def test_a_daemon_whose_server_died_is_not_ready_and_is_again_when_it_comes_back(
    house: WatchedHouse, view: RunView
) -> None:
    house.kill("server")
    partner = PARTNERS[0]
    while house.ready(partner)[0] == 200:
        pass
    assert house.ready(partner) == (503, ["daemon.not_connected"])
    with pytest.raises(CommandFailed):
        house.run("doctor", "--dir", partner)
    house.start_server()
    while house.ready(partner)[0] == 503:
        pass
    found = house.figures(partner)
    assert found["aimass_daemon_connections_total", ""] == 2
    assert sum(value for (name, _), value in found.items() if name == "aimass_daemon_disconnections_total") >= 1
    assert house.figures("server")["aimass_runs", 'state="finished"'] == 1
