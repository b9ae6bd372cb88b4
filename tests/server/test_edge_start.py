"""`aimass server start` as a real process: quick to start, clean to stop, and clear about what is missing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimass.server.main import Started
from aimass.server.settings import template
from tests.support.edge_federation import Edge, Members, run, welcomed

COMMAND = [sys.executable, "-m", "aimass.proto.commands", "server", "start", "--dir"]


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ports(line: str) -> Started:
    main, enrol = (int("".join(filter(str.isdigit, part))) for part in line.split(","))
    return Started(main, enrol, ())


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_is_ready_quickly_and_stops_cleanly_with_an_open_stream(tmp_path: Path, number: int) -> None:
    members = Members.create(tmp_path)
    began = time.monotonic()
    process = start(tmp_path / "hub")
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready: port"), process.stderr.read() if process.stderr else ""
        assert time.monotonic() - began < 5  # 2 s on a machine that does nothing else

        async def scenario() -> None:
            edge = Edge(members, ports(line), asyncio.Event(), [])
            await welcomed(edge, "north")
            os.kill(process.pid, number)
            await asyncio.to_thread(process.wait, 10)
            for channel in edge.channels:
                await channel.close()

        run(scenario())
        assert process.returncode == 0
    finally:
        process.kill()
        _, log = process.communicate()
    assert "north: connected" in log
    assert "Traceback" not in log
    assert "PRIVATE" not in log


def test_the_server_imports_neither_torch_nor_pyarrow() -> None:
    code = "import sys, aimass.server.main; print([m for m in ('torch', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_port_that_is_taken_is_named_and_the_process_ends(tmp_path: Path) -> None:
    Members.create(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "hub" / "server.toml").write_text(template("hub", address, "127.0.0.1:0"))
        ended = subprocess.run([*COMMAND, str(tmp_path / "hub")], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 5
    assert address in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_key_that_others_can_read_is_refused_at_the_start(tmp_path: Path) -> None:
    Members.create(tmp_path)
    (tmp_path / "hub" / "keys" / "tls.key").chmod(0o644)
    ended = subprocess.run([*COMMAND, str(tmp_path / "hub")], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 3
    assert "others can read a private key" in ended.stderr


def test_a_server_without_a_bundle_says_what_to_do(tmp_path: Path) -> None:
    Members.create(tmp_path)
    (tmp_path / "hub" / "bundle.json").unlink()
    ended = subprocess.run([*COMMAND, str(tmp_path / "hub")], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 4
    assert "aimass server admit" in ended.stderr


def test_an_unknown_setting_is_an_error(tmp_path: Path) -> None:
    Members.create(tmp_path)
    with (tmp_path / "hub" / "server.toml").open("a") as file:
        file.write("\nmax_modle_bytes = 3\n")
    ended = subprocess.run([*COMMAND, str(tmp_path / "hub")], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 2
    assert "max_modle_bytes" in ended.stderr
