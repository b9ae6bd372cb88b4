"""A driver that a server sees to does not outlive it, however the server ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = """
import sys, time
from aimass.proto.parent import end_with
end_with(int(sys.argv[1]))
print("working", flush=True)
time.sleep(600)
"""
SERVER = """
import os, signal, subprocess, sys, time
if sys.argv[2] == "background":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], start_new_session=True)
time.sleep(600)
"""


@pytest.mark.parametrize("started", ["foreground", "background"])
def test_a_server_that_is_killed_takes_its_driver_along(started: str) -> None:
    command = [sys.executable, "-c", SERVER, CHILD, started]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"working\n"
    server.kill()
    _, said = server.communicate(timeout=30)  # the pipes end with the last process that has them
    assert b"KeyboardInterrupt" in said


def test_a_driver_whose_server_ended_before_it_began_does_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(os.getpid() + 1)], stdout=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stdout) == (1, b"")
