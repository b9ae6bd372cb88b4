"""`aimass up` as an operator has it: real services that are killed, refused, moved, and stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.up.ports import choose, is_free
from aimass.proto.up.processes import identity
from aimass.proto.up.services import Home
from aimass.proto.up.settings import chosen, read_up
from tests.support.patients import visits

_AIMASS = [sys.executable, "-m", "aimass.proto.commands"]
_PORTS = ("server", "enrolment", "data", "serving", "app", "server_health", "data_health", "serving_health")


class Up:
    """A running `aimass up --json`, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    def until(self, **fields: Any) -> dict[str, Any]:
        """Read on to the first line that says all this."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            self.told.append(line)
            if fields.items() <= line.items():
                return line
        error = "" if self.process.stderr is None else self.process.stderr.read()
        raise AssertionError(f"{fields} was never told: {self.told} {error}")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        for text in self.process.stdout or ():
            self.told.append(json.loads(text))
        return self.process.wait()


@contextmanager
def _up(home: Path, *options: str) -> Iterator[Up]:
    command = [*_AIMASS, "up", "--json", "--home", str(home), *options]
    process = subprocess.Popen(
        command, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield Up(process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first start, for all tests: at ports that nobody has, in a folder with a space in its name."""
    home = tmp_path_factory.mktemp("up") / "one machine"
    numbers = list[int]()
    for _ in _PORTS:
        numbers.append(choose(0, numbers))
    ports = [f"--port={name}={port}" for name, port in zip(_PORTS, numbers, strict=True)]
    with _up(home, *ports, "--only", "server,data") as up:
        first = up.until(event="up")
        assert first["ready"] == ["server", "data"]
        assert up.end(signal.SIGTERM) == 0
    return home


@pytest.fixture
def home(founded: Path) -> Path:
    """The home, with nothing running."""
    return founded


def test_one_that_is_killed_is_started_again_and_ctrl_c_stops_all_in_order(home: Path) -> None:
    with _up(home, "--only", "server,data") as up:
        pid = up.until(service="data", phase="ready")["pid"]
        up.until(event="up")
        os.kill(pid, signal.SIGKILL)
        died = up.until(service="data", phase="resting")
        assert "killed" in died["why"]
        again = up.until(service="data", phase="ready")
        assert again["pid"] != pid
        assert again["died"] == 1
        assert up.end(signal.SIGINT) == 0
        stopped = [line["service"] for line in up.told if line.get("phase") == "stopped"]
        assert stopped == ["data", "server"]
        assert identity(again["pid"]) == ""
    assert all(is_free(getattr(read_up(home).ports, name)) for name in _PORTS)


def test_a_second_start_is_told_who_runs_and_status_asks_each_service(home: Path) -> None:
    with _up(home, "--only", "data") as up:
        up.until(event="up")
        second = subprocess.run([*_AIMASS, "up", "--home", str(home)], capture_output=True, text=True)
        assert second.returncode == 6
        assert "[up.running]" in second.stderr
        assert str(up.process.pid) in second.stderr
        status = subprocess.run([*_AIMASS, "up", "--status", "--json", "--home", str(home)], capture_output=True)
        assert status.returncode == 0
        (data,) = json.loads(status.stdout)["services"]
        assert (data["name"], data["phase"], data["answers"]) == ("data", "ready", "ready")
        assert up.end() == 0
    after = subprocess.run([*_AIMASS, "up", "--status", "--home", str(home)], capture_output=True, text=True)
    assert after.returncode == 4
    assert "[up.absent]" in after.stderr


def test_a_kill_of_all_that_watches_leaves_no_service_and_the_next_start_goes_on(home: Path) -> None:
    with _up(home, "--only", "server,data") as up:
        up.until(event="up")
        services = [os.pidfd_open(line["pid"]) for line in up.told if line.get("phase") == "ready"]
        up.end(signal.SIGKILL)
        for descriptor in services:  # by themselves: the next start would end what is left
            assert select.select([descriptor], [], [], 60.0)[0]
            os.close(descriptor)
    with _up(home, "--only", "server,data") as up:
        up.until(event="up")
        assert up.end() == 0


def test_settings_that_no_start_mends_end_it_with_their_own_words(home: Path) -> None:
    settings = home / "data" / "data.toml"
    good = settings.read_text()
    settings.write_text(f"lisen = 1\n{good}")
    try:
        with _up(home, "--only", "data") as up:
            failed = up.until(service="data", phase="failed")
            assert "lisen" in failed["why"]
            assert up.process.wait() == 5
            assert up.process.stderr is not None
            assert "up.given_up" in up.process.stderr.read()
    finally:
        settings.write_text(good)


def test_what_was_mended_is_started_again_by_retry(home: Path) -> None:
    settings = home / "data" / "data.toml"
    good = settings.read_text()
    settings.write_text(f"lisen = 1\n{good}")
    try:
        with _up(home, "--only", "server,data") as up:
            up.until(service="data", phase="failed")
            up.until(service="server", phase="ready")
            settings.write_text(good)
            done = subprocess.run([*_AIMASS, "up", "--retry", "--json", "--home", str(home)], capture_output=True)
            assert json.loads(done.stdout)["tried_again"] == ["data"]
            assert up.until(service="data", phase="ready")["died"] == 0
            assert up.end() == 0
    finally:
        settings.write_text(good)


def test_a_home_that_was_moved_is_noticed_and_serving_begins_with_the_first_champion(home: Path) -> None:
    moved = home.with_name("moved")
    shutil.copytree(home, moved)
    with _up(moved, "--only", "serving") as up:
        up.until(service="serving", phase="waiting")
        _promote_first_model(moved)
        up.until(service="serving", phase="ready")
        bad = moved / "registry" / "bad" / "aliases" / "champion" / "00000001.json"
        bad.parent.mkdir(parents=True)
        bad.write_text("{}")
        without = up.until(service="serving", phase="ready")
        assert "bad cannot be served, the rest is" in without["why"]
        assert without["died"] == 0
        assert up.end() == 0
    with _up(moved, "--only", "data") as up:  # which leaves what is known of serving as it is
        up.until(event="up")
        assert up.end() == 0
    with _up(moved, "--only", "serving") as up:
        assert "bad cannot be served" in up.until(service="serving", phase="ready")["why"]
        assert up.end() == 0
    for name in ("server/server.toml", "data/data.toml", "app.toml", "up.toml"):
        text = (moved / name).read_text()
        assert str(moved) in text, name
        assert str(home) not in text, name
        assert home.as_uri() not in text, name


def _promote_first_model(folder: Path) -> None:
    from aimass.client.tasks.heart import task
    from aimass.proto.task import first_model

    (folder / "first.safetensors").write_bytes(first_model(task, 1))
    into = ["--as", "operator", "--registry", Home(folder, read_up(folder).ports).registry, "--trust", "trust.json"]
    for words in (
        ["publish", "first.safetensors", "--task", "heart", "--name", "heart"],
        ["promote", "heart@1"],
    ):
        subprocess.run([*_AIMASS, "model", *words, *into], cwd=folder, check=True, capture_output=True)


@pytest.mark.timeout(400)
def test_the_lines_that_are_printed_lead_from_nothing_to_a_model_that_answers(home: Path) -> None:
    rows = home.parent / "rows.csv"
    rows.write_text(visits([2] * 300))
    with _up(home) as up:
        first = up.until(event="up")
        assert first["ready"] == ["server", "data", "app"]
        lines = [line.replace("split heart heart", f"split heart {rows}") for line in first["next"]]
        lines = [line for line in lines if "data get" not in line]
        waits = next(place for place, line in enumerate(lines) if "serve status" in line)
        _typed(home.parent, lines[:waits])
        ready = up.until(service="serving", phase="ready")
        assert '"state": "READY"' in _typed(home.parent, [lines[0], f"{lines[waits]} --json"])
        answer = _posted(ready["address"].replace("/docs", "/predict/heart"), {"age": 61, "sex": "Male"})
        assert answer["version"] == 1
        with urllib.request.urlopen(first["addresses"]["app"]) as page:
            assert page.status == 200
        assert up.end() == 0
        assert [line["service"] for line in up.told if line.get("phase") == "stopped"] == [
            "app",
            "serving",
            "data",
            "server",
        ]


def _typed(folder: Path, lines: list[str]) -> str:
    """What a shell prints that is told to stop at the first error."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _posted(url: str, row: dict[str, object]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(row).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_ports_of_a_new_home_are_free_and_differ() -> None:
    ports = chosen(choose)
    numbers = [getattr(ports, name) for name in _PORTS]
    assert len(set(numbers)) == len(numbers)
    assert all(is_free(number) for number in numbers)
