"""Find blocks of code that stand twice: eight or more equal lines, blank lines, comments and imports passed over."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LINES = 8


def significant(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that count, stripped."""
    kept = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.strip()
        if len(text) > 3 and not text.startswith(("#", "import ", "from ", '"""')):
            kept.append((number, text))
    return kept


def repeated(paths: list[Path]) -> Iterator[str]:
    """A line for every block that stands in two places."""
    seen: dict[tuple[str, ...], list[tuple[Path, int, int]]] = defaultdict(list)
    for path in paths:
        lines = significant(path)
        for start in range(len(lines) - LINES + 1):
            window = lines[start : start + LINES]
            seen[tuple(text for _, text in window)].append((path, window[0][0], start))
    last: tuple[Path, Path, int] | None = None
    for places in seen.values():
        if len(places) > 1:
            (one, line_one, start), (other, line_other, _) = places[:2]
            if last is None or last[:2] != (one, other) or start != last[2] + 1:
                yield f"{one}:{line_one} stands again at {other}:{line_other}"
            last = (one, other, start)


def main() -> int:
    """Print what stands twice; 1 if anything does."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    # The first migration repeats the tables on purpose: it must not change when they do.
    paths = [
        Path(name) for name in listed if "_pb2" not in name and "/migrations/" not in name and Path(name).is_file()
    ]
    found = list(repeated(paths))
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
