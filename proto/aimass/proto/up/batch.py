"""Commands of `aimass` one after the other in one process, read from its input: a line of JSON each, a list of words.

It ends with the exit code of the first that fails, whose error stands on standard error as JSON.
"""

from __future__ import annotations

import json
import sys

from aimass.proto.commands import main

__all__: list[str] = []


def _run() -> int:
    for line in sys.stdin:
        if code := main([*json.loads(line), "--json"]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(_run())
