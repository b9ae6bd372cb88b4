"""What is printed: to a person, to a program, and to nobody any more."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.errors import BadInput
from aimass.proto.up.services import SERVICES, Home, named
from aimass.proto.up.settings import Ports
from aimass.proto.up.state import Service, State
from aimass.proto.up.words import Teller, next_lines

_HOME = Home(Path("/srv/one home"), Ports())


def _teller(*, as_json: bool = False, quiet: bool = False) -> Teller:
    return Teller(_HOME, SERVICES, lambda: 1_764_187_200.0, as_json=as_json, quiet=quiet)


def _all(phase: str = "ready") -> State:
    return State(tuple(Service(spec.name, phase=phase, pid=7) for spec in SERVICES))  # type: ignore[arg-type]


def test_addresses_and_next_lines_are_told_once_when_nothing_is_on_its_way(capsys: pytest.CaptureFixture[str]) -> None:
    teller, state = _teller(), _all()
    starting = state.put(Service("app", phase="starting", pid=9))
    teller.told(starting, starting.of("app"))
    assert "Ctrl-C" not in capsys.readouterr().out
    teller.told(state, state.of("app"))
    said = capsys.readouterr().out
    assert said.startswith("20:00:00Z  app      ready     http://127.0.0.1:8501\n")
    assert "AIMass runs in /srv/one home. Ctrl-C stops it." in said
    assert "aimass model promote heart@1" in said
    teller.told(state, state.of("app"))
    assert "Ctrl-C" not in capsys.readouterr().out


def test_one_that_was_given_up_is_told_with_its_log_and_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    state = _all().put(Service("data", phase="failed", why="it ended with exit code 9"))
    _teller(quiet=True).told(state, state.of("data"))
    said = capsys.readouterr().out
    assert "GIVEN UP" in said
    assert "/srv/one home/logs/data.log" in said
    assert "aimass up --retry --home '/srv/one home'" in said


def test_quiet_tells_troubles_alone(capsys: pytest.CaptureFixture[str]) -> None:
    teller, state = _teller(quiet=True), _all()
    teller.told(state, state.of("app"))
    assert capsys.readouterr().out == ""


def test_a_program_gets_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    state = _all()
    _teller(as_json=True).told(state, state.of("server"))
    _teller(as_json=True).warned("no space")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["service", "up", "warning"]
    assert lines[0] | {"service": "server", "phase": "ready", "pid": 7, "address": "127.0.0.1:8443"} == lines[0]
    assert set(lines[1]["addresses"]) == {spec.name for spec in SERVICES}


def test_nobody_who_reads_stops_nothing() -> None:
    code = """
import os, sys
from pathlib import Path
from tests.proto.up.test_words import _all, _teller
teller, state = _teller(), _all()
os.close(1)
r, w = os.pipe(); os.dup2(w, 1); os.close(r)
for _ in range(3):
    teller.told(state, state.of("app"))
os._exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stderr) == (7, "")


def test_next_lines_can_be_typed_in_a_folder_with_a_space() -> None:
    for line in next_lines(_HOME):
        words = shlex.split(line)
        assert words[0] in ("aimass", "export")
        assert not any(word.startswith("home") for word in words), line


def test_services_are_named_in_the_tables_order() -> None:
    assert [spec.name for spec in named("app, server")] == ["server", "app"]
    assert named("") == SERVICES
    for wrong in ("server,", "sever"):
        with pytest.raises(BadInput) as caught:
            named(wrong)
        assert caught.value.code == "up.service"


def test_every_service_has_a_command_that_there_is_and_ports_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [name for spec in SERVICES for name in spec.ports]
    assert sorted(listed) == sorted(Ports.__struct_fields__)
    for spec in SERVICES:
        command = spec.command(_HOME, ("heart",))
        verbs = command[: next(place for place, word in enumerate(command) if word.startswith("-") or word == "heart")]
        with pytest.raises(SystemExit) as ended:
            main([*verbs, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in command if word.startswith("--")), spec.name
        port, *paths = spec.health(_HOME.ports)
        assert port in {getattr(_HOME.ports, name) for name in spec.ports}
        assert all(path.startswith("/") for path in paths)
