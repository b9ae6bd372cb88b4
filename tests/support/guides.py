"""The guides' commands, run as they stand: a folder for each machine, `scp` between them, host names on the loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["Blocks", "Machines", "blocks_of"]

Blocks = Mapping[tuple[str, str], tuple[str, str]]
"""(guide, number) -> (machine, text)."""

_BLOCK: Final = re.compile(r"```(?:sh|python)\n# (\d+)\. on ([a-z]+)\.example[^\n]*\n(.*?)```", re.DOTALL)
_ANY: Final = re.compile(r"```(?:sh|python)\n")
_SCP: Final = """#!/bin/sh
# Copies to a machine of this test: its folder stands beside ours.
recursive=""
if [ "$1" = -r ]; then recursive=-r; shift; fi
for last; do :; done
machine=$(echo "$last" | sed 's/\\.example:$//')
while [ $# -gt 1 ]; do cp $recursive "$1" "$MACHINES/$machine/"; shift; done
"""


def blocks_of(guides: Iterable[Path]) -> Blocks:
    """Every block of commands; a block that says no machine and number fails the test."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for guide in guides:
        text = guide.read_text("utf-8")
        blocks = _BLOCK.findall(text)
        assert len(blocks) == len(_ANY.findall(text)), f"{guide.name}: a block has no number and machine"
        for number, machine, body in blocks:
            key = (guide.stem, number)
            found[key] = (machine, found[key][1] + body if key in found else body)
    return found


class Machines:
    """Runs blocks. `start` commands and enrolments that wait go on in the background until the end."""

    def __init__(self, folder: Path, hosts: Mapping[str, str]) -> None:
        self.folder, self._hosts = folder, hosts
        self._background: list[subprocess.Popen[str]] = []
        self._waiting: list[tuple[str, subprocess.Popen[str]]] = []
        tools = folder / "tools"
        venv.create(tools, with_pip=True)
        packages = next(tools.glob("lib/python*/site-packages"))
        here = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "tests.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in here))
        (tools / "bin" / "aimass").write_text(f'#!/bin/sh\nexec {tools}/bin/python -m aimass.proto.commands "$@"\n')
        (tools / "bin" / "scp").write_text(_SCP)
        for name in ("aimass", "scp"):
            (tools / "bin" / name).chmod(0o755)
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIMASS_", "PYTHONPATH"))
        } | {
            "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
            "MACHINES": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def __enter__(self) -> Machines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [*self._background, *(waiting for _, waiting in self._waiting)]:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()

    def machine(self, name: str) -> Path:
        """The folder that stands for a machine."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def run(self, blocks: Blocks, guide: str, number: str, instead: Sequence[tuple[str, str]] = ()) -> str:
        """Run one block; what it printed. `instead` are names that another partner has in place of the guide's."""
        machine, text = blocks[guide, number]
        for old, new in instead:
            machine, text = machine.replace(old, new), text.replace(old, new)
        for host, address in self._hosts.items():
            text = re.sub(rf"\b{re.escape(host)}(?!:(\s|$))", address, text)
        if "import Federation" in text:
            return self._shell(machine, f"python - <<'END'\n{text}END")
        printed = ""
        for line in text.strip().splitlines():
            printed += self._command(machine, line)
        return printed

    def _command(self, machine: str, line: str) -> str:
        if re.search(r"aimass (server|client) start ", line):
            self._start(machine, line)
            return ""
        if " enroll " in line and "--token" in line and "--offline" not in line:
            self._waiting.append((line, self._popen(machine, line)))
            return ""
        return self._shell(machine, line)

    def _popen(self, machine: str, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            line, shell=True, cwd=self.machine(machine), env=self._environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def _start(self, machine: str, line: str) -> None:
        log = self.machine(machine) / "start.log"
        process = self._popen(machine, f"exec {line} 2>> {log}")
        self._background.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready"), log.read_text()

    def _shell(self, machine: str, line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=self.machine(machine), env=self._environment, capture_output=True, text=True,
            check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, f"on {machine}: {line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def enrolled(self) -> None:
        """Wait for the enrolments that wait; all have to come to a good end."""
        for line, process in self._waiting:
            printed, _ = process.communicate(timeout=60)
            assert process.returncode == 0, f"{line}\n{printed}"
        self._waiting.clear()

    def shows(self, machine: str, line: str, text: str) -> None:
        """Run a command until it prints `text`: what came from another machine takes a moment."""
        for _ in range(100):
            if text in self._shell(machine, line):
                return
        raise AssertionError(f"on {machine}: {line} never showed {text!r}")

    def reads_python(self, code: str) -> str:
        """Run Python with what the machines have installed."""
        return self._shell("sam", f"python -c {code!r}")


def remove(folder: Path) -> None:
    """Remove what the machines left."""
    shutil.rmtree(folder, ignore_errors=True)
