"""The data set service as processes of its own: the one that leads is killed, and another looks after the data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.data_api import DataSets
from aimass.proto.objects import open_objects
from aimass.server.datasets.placement import Placement, place
from tests.support.edge_federation import Members
from tests.support.stores import stored

CONTENTS = tuple(b"shard %d " % number * 50 for number in range(4))


def started(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A service as a process, and its port."""
    environment = {
        **os.environ, "AIMASS_DATA_CARE__QUICK_EVERY_S": "0.1", "AIMASS_DATA_CARE__TERM_S": "3",
        "AIMASS_DATA_LOOK_S": "0.1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "aimass.proto.commands", "data", "serve", "--dir", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready: port "), process.communicate()[1]
    return process, int(line.split()[-1])


@pytest.mark.slow
def test_the_one_that_leads_is_killed_and_another_mends_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = Members.create(tmp_path, services={"data-one": ("127.0.0.1",), "data-two": ("127.0.0.1",)})
    urls = [f"file://{tmp_path}/{name}" for name in ("first", "second")]
    home, other = map(open_objects, urls)
    stored(home, "t", CONTENTS)
    place(home, "t", Placement(stores=tuple(urls), copies=2, created_at=1.0))
    processes = []
    try:
        for name in ("data-one", "data-two"):
            folder = members.home(name, "127.0.0.1:1")
            (folder / "trust" / "bundle.json").write_bytes(members.bundle)
            stores = [word for url in urls for word in ("--store", url)]
            assert main(["data", "init", str(folder), *stores, "--listen", "127.0.0.1:0"]) == 0
            processes.append(started(folder))
        (leader, _), (follower, port) = processes
        with DataSets(f"127.0.0.1:{port}", members.identity("anna")) as service:
            whole = (found for found in service.watch() if (health := found.data_sets[0].health) and health.whole)
            assert next(whole).data_sets[0].health
            assert len(list(other.list("t/shards/"))) == len(CONTENTS)
            leader.send_signal(signal.SIGKILL)
            other.delete(next(other.list("t/shards/")).key)
            mended = (found for found in whole if (health := found.data_sets[0].health) and health.mended)
            assert next(mended).data_sets[0].health
            assert len(list(other.list("t/shards/"))) == len(CONTENTS)
        capsys.readouterr()
        person = members.home("anna", "127.0.0.1:1")
        assert main(["data", "status", "--as", str(person), "--service", f"127.0.0.1:{port}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["data_sets"][0]["name"] == "t"
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(20) == 0
    finally:
        for process, _ in processes:
            process.kill()
            process.communicate()
