"""Commands that start at once: each in a fork of one process that has imported what they need, so that a federation of
many commands is founded in seconds. What runs is what `aimass` runs, in a process of its own.

As a program it reads one command a line from its input, {"arguments", "folder", "environment"}, and answers each with
{"code", "out", "err"}.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["Warm"]

_ROOT: Final = Path(__file__).parent.parent.parent
_IMPORTED: Final = (
    "aimass.proto.commands", "aimass.proto.api", "aimass.proto.run_cli", "aimass.privacy.cli", "aimass.server.cli",
    "aimass.client.cli", "aimass.client.shards", "aimass.privacy.dp.ledger_file",
)  # fmt: skip


class Warm:
    """The process that commands are forked from, until `close`. One command at a time."""

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "scripts.demos.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=_ROOT, env=dict(environment), start_new_session=True,
        )  # fmt: skip

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `aimass ARGUMENTS` in a folder, to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": list(arguments), "folder": str(folder.absolute()), "environment": dict(environment)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, answer["code"], answer["out"], answer["err"])

    def close(self) -> None:
        """End it: it has nothing more to read."""
        self._process.communicate()


def _serve() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what is opened next would be taken for input otherwise
            _become(asked)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


def _become(asked: dict[str, Any]) -> None:
    """Be the command, to the end of this process."""
    from aimass.proto.commands import main

    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    code = 1
    try:
        code = main(asked["arguments"])
    except SystemExit as end:  # argparse
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
