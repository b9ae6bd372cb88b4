"""The tiny app as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.demos.house import free_port

__all__ = ["tiny_app"]

_SCRIPT = Path(__file__).parent / "tiny" / "main.py"


@contextmanager
def tiny_app(folder: Path) -> Iterator[str]:
    """Its address, as long as the block runs."""
    port = free_port()
    command = [
        sys.executable, "-m", "streamlit", "run", str(_SCRIPT), "--server.port", str(port), "--server.address",
        "127.0.0.1", "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType",
        "none",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            said = ""
            while f":{port}" not in said:
                line = process.stdout.readline()
                assert line, f"the app did not start: {said}"
                said += line
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)
