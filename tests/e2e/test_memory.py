"""What a large model costs in memory: server and daemon hold blocks of it, and the rest is files that they map.

The training child has the model and its gradients, and at no time a second copy of either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from scripts.demos.bulk import bulk_federation, round_seconds
from scripts.demos.house import House
from scripts.demos.processes import Peak, peak_bytes

PARTNERS = ("north", "south")
MB = 1_000_000
SERVER_MB = 200
"""Beside 2.5 models: what a server has at all."""
DAEMON_MB = 100
"""What a daemon has at all, chunks on their way included."""
CHILD_MB = 390
"""What a training child has at all, torch above all: 256 to 367 from run to run; another copy of 60 MB is beyond."""


@pytest.fixture(params=[60, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def federation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[House, int]]:
    with bulk_federation(tmp_path, request.param * MB, PARTNERS, trained=True) as house:
        yield house, request.param


def test_rounds_of_a_large_model_copy_it_into_nobodys_memory(federation: tuple[House, int]) -> None:
    house, megabytes = federation
    pids = {name: house.pid(name) for name in ("server", *PARTNERS)}
    with ExitStack() as watched:
        own = {name: watched.enter_context(Peak(pid)) for name, pid in pids.items()}
        children = [watched.enter_context(Peak(pids[name], children=True)) for name in PARTNERS]
        round_seconds(house, 3, len(PARTNERS))
    assert house.run("run", "show", "last", "--as", "scientist")["summary"]["state"] == "finished"
    peaks = {name: peak_bytes(pid) / MB for name, pid in pids.items()}
    # It maps the model that all fetch, and of everything else a few blocks.
    assert peaks["server"] <= 1.5 * megabytes + SERVER_MB, peaks
    assert own["server"].bytes / MB <= SERVER_MB, own["server"].bytes
    for name, child in zip(PARTNERS, children, strict=True):
        # It maps the child's sealed contribution while that is checked, and the file of it while that is sent.
        assert peaks[name] <= 1.5 * megabytes + DAEMON_MB, peaks
        assert own[name].bytes / MB <= DAEMON_MB, own[name].bytes
        assert megabytes <= child.bytes / MB <= 2 * megabytes + CHILD_MB, child.bytes
