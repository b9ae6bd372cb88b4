"""Find blocks of code that stand twice: eight or more equal lines, blank lines, comments and imports passed over."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LINES = 8


def significant(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that count, stripped."""
    kept, source = [], path.read_text("utf-8")
    imports = _imports(source)
    for number, line in enumerate(source.splitlines(), start=1):
        text = line.strip()
        if len(text) > 3 and number not in imports and not text.startswith(("#", '"""')):
            kept.append((number, text))
    return kept


def _imports(source: str) -> set[int]:
    """The lines of imports, however many names they bring."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {number for node in found for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


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
