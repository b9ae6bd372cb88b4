"""The explainer as a process of its own, over a house of services."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.demos.house import free_port

from tests.support.app_house import ANALYST, HOSPITALS, Furnished

__all__ = ["App", "explainer", "options_of"]

_LOOK_S = 0.1


class App:
    """A process of `aimass explain app`; what it says on standard error goes to `log`."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        """`folder` is where it keeps what it found, and nothing of another's."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._options = folder, tuple(options)
        self.log = folder / "app.log"
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = self._started()

    @property
    def pid(self) -> int:
        """The process's."""
        return self.process.pid

    def _started(self) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "aimass.proto.commands", "explain", "app", "--listen", f"127.0.0.1:{self.port}",
            *self._options,
        ]  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIMASS_", "STREAMLIT_"))}
        environment = {**kept, "XDG_CACHE_HOME": str(self.folder / "cache"), "HOME": str(self.folder)}
        with self.log.open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=self.folder, env=environment)
        self._until_healthy(process)
        return process

    def _until_healthy(self, process: subprocess.Popen[str]) -> None:
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=10).close()
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
                raise AssertionError(f"the app ended: {self.log.read_text()[-3000:]}")

    def again(self) -> None:
        """End it and start it at the same address."""
        self.stop()
        self.process = self._started()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As Ctrl-C does; it must end by itself."""
        self.process.terminate()
        self.process.wait(30)


def options_of(found: Furnished, who: str = ANALYST) -> list[str]:
    """What a person types to see the whole house; their file of settings names the rows."""
    settings = found.folder / "app.toml"
    settings.write_text(
        _rows("heart", "heart", [found.rows[name] for name in HOSPITALS])
        + _rows("many", "heart", [found.rows["many"]])
        + _rows("clothes", "fashion", [found.rows["clothes"]])
    )
    return [
        "--settings", str(settings), "--as", str(found.home(who)), "--registry", found.registry, "--trust",
        str(found.trust), "--serving", found.serving, "--data", found.data,
        "--studies", str(found.studies),
    ]  # fmt: skip


def _rows(name: str, task: str, files: Sequence[Path]) -> str:
    listed = ", ".join(f'"{path}"' for path in files)
    return f'[[rows]]\nname = "{name}"\ntask = "{task}"\nheld_out = true\nfiles = [{listed}]\n'


@contextlib.contextmanager
def explainer(folder: Path, options: Sequence[str]) -> Iterator[App]:
    """The app, as long as the block runs."""
    app = App(folder, options)
    try:
        yield app
    finally:
        app.stop()
