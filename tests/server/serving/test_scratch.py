"""Scratch folders of serving processes that share a cache: those of the living stay, those of the killed go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from aimass.server.serving.dispatching import local_dispatcher
from aimass.server.serving.settings import ServeSettings, WorkerSettings
from aimass.server.serving.workers.scratch import scratch_folder

_KILLED = """
import os, signal, sys
from pathlib import Path
from aimass.server.serving.workers.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "tmpleft").mkdir()
    (folder / "tmpleft" / "file").write_bytes(b"left")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def folders(parent: Path) -> set[Path]:
    return {path for path in parent.iterdir() if path.is_dir()}


def test_a_folder_is_its_processs_alone_and_goes_with_it(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert folders(tmp_path) == {first, second}
        assert first != second
    assert folders(tmp_path) == set()


def test_what_a_killed_process_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    [left] = folders(tmp_path)
    assert (left / "tmpleft" / "file").is_file()
    with scratch_folder(tmp_path) as folder:
        assert folders(tmp_path) == {folder}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "link").symlink_to(tmp_path / "elsewhere")
    with scratch_folder(tmp_path / "scratch"):
        assert (tmp_path / "elsewhere" / "file").is_file()


def test_a_serving_process_clears_its_cache_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "workers" / "tmpleft"
    left.mkdir(parents=True)

    async def start() -> None:
        settings = ServeSettings(cache=str(tmp_path), worker=WorkerSettings(preload=()))
        async with local_dispatcher(settings):
            assert not left.exists()
            assert len(folders(tmp_path / "workers")) == 1

    asyncio.run(start())
    assert folders(tmp_path / "workers") == set()
