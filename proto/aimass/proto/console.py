"""What commands print: one way for tables, `--json`, questions and output files, so that every command feels alike.

Texts of others (a plan's, a partner's) come to a person's terminal here: what would move its cursor, hide what follows
or turn its lines round is shown as a replacement character. `--json` escapes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import BadInput, printable

__all__ = ["Bar", "Handler", "ask", "common", "emit", "group", "lines", "plain", "say", "table", "write_output"]

Handler = Callable[[argparse.Namespace], int]
_BAR: Final = 30
_TIMES: Final = frozenset({"at", "expires", "since"})


def group(parser: argparse.ArgumentParser, example: str) -> Any:
    """Sub-commands of `parser`, with an example above everything else in its help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{example}\n{parser.description or ''}"
    return parser.add_subparsers(required=True, metavar="COMMAND")


def common(parser: argparse.ArgumentParser, handler: Handler) -> None:
    """Give a command its handler and the options that all share."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--quiet", action="store_true", help="print nothing but results and errors")
    parser.set_defaults(handler=handler)


def say(args: argparse.Namespace, text: str) -> None:
    """A line of progress on standard error."""
    if not args.quiet and not args.json:
        sys.stderr.write(_clean(text) + "\n")
        sys.stderr.flush()


class Bar:
    """A progress bar on standard error, where that is a terminal and nobody asked for quiet."""

    def __init__(self, args: argparse.Namespace, text: str, of: str = "MB") -> None:
        """`of` is what a million of what it counts is called."""
        self._text, self._of, self._shown = _clean(text), of, -1
        self._stream = sys.stderr if sys.stderr.isatty() and not args.quiet and not args.json else None

    def __enter__(self) -> Bar:
        return self

    def __call__(self, done: int, of: int) -> None:
        """Redraw it where it moved by a per cent."""
        percent = 100 * done // of if of else 100
        if self._stream is None or percent == self._shown:
            return
        self._shown = percent
        filled = percent * _BAR // 100
        self._stream.write(
            f"\r{self._text} [{'#' * filled}{'.' * (_BAR - filled)}] {percent:3} % of {of / 1e6:.1f} {self._of}"
        )
        self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None and self._shown >= 0:
            self._stream.write("\n")


def plain(value: object) -> Any:
    """`value` as mappings, lists and scalars."""
    return msgspec.to_builtins(value)


def lines(texts: Iterable[str]) -> None:
    """Print sentences, one a line."""
    sys.stdout.write("".join(f"{_clean(text)}\n" for text in texts))


def emit(args: argparse.Namespace, value: object) -> None:
    """Print a result: JSON with `--json`, else names and values, lists of records as tables, times in UTC."""
    fields = plain(value)
    if args.json:
        sys.stdout.write(json.dumps(fields, indent=2) + "\n")
        return
    if isinstance(fields, Mapping):
        for name, item in fields.items():
            if isinstance(item, list | tuple) and item and isinstance(item[0], Mapping):
                sys.stdout.write(f"{_clean(name)}:\n")
                table(item)
            else:
                sys.stdout.write(f"{_clean(name):<18} {_cell(item, name)}\n")
    elif isinstance(fields, list | tuple) and fields and isinstance(fields[0], Mapping):
        table(fields)
    else:
        sys.stdout.write(f"{_cell(fields)}\n")


def table(records: Sequence[Mapping[str, Any]]) -> None:
    """Print records under one heading, as wide as they need."""
    names = list(records[0])
    rows = [[_cell(record.get(name), name) for name in names] for record in records]
    heads = [_clean(name) for name in names]
    widths = [max(len(name), *(len(row[column]) for row in rows)) for column, name in enumerate(heads)]
    for row in [heads, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  " + line.rstrip() + "\n")


def _cell(value: object, name: str = "") -> str:
    """One value for a person; seconds since 1970, known by their `name`, as a time."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and (name in _TIMES or name.endswith("_at")):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{_clean(str(name))}={_cell(item, str(name))}" for name, item in value.items()) or "-"
    return _clean(str(value))


def _clean(text: str) -> str:
    return printable(text, len(text))


def ask(question: str) -> bool:
    """A yes-or-no question; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{_clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def write_output(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a command's output file whole or not at all; raises `BadInput` where no file can stand."""
    if path.is_dir() or not path.parent.is_dir():
        raise BadInput(
            "no file can be written here", code="file.output", value=path, cure="Name a file in a folder that exists."
        )
    write_file(path, data, UNINTERRUPTED, "output", mode)
