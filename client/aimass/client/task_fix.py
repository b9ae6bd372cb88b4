"""A task's source with its model passed through `private_layers`: what `aimass task check` shows and can write."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aimass.proto.task import Task

__all__ = ["SourceFix", "source_fix"]

_CALL: Final = "private_layers"
_MODULE: Final = "aimass.proto.private_layers"
_IMPORT: Final = f"from {_MODULE} import {_CALL}\n"


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFix:
    """A file, what is in it, and what should be."""

    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change, for people."""
        before, after, name = self.before.splitlines(), self.after.splitlines(), self.path.name
        return "\n".join(difflib.unified_diff(before, after, name, name, lineterm="", n=1))


def source_fix(task: Task) -> SourceFix | None:
    """What `build` returns, passed through `private_layers`; None where the source of it cannot be found."""
    build = type(task).build
    try:
        path = Path(inspect.getsourcefile(build) or "")
        before = path.read_text("utf-8")
        tree = ast.parse(before)
    except (OSError, TypeError, SyntaxError):
        return None
    returned = [value for function in _functions(tree, build.__code__.co_firstlineno) for value in _returned(function)]
    if not returned or _CALL in before:
        return None
    lines = before.encode().splitlines(keepends=True)
    for value in sorted(returned, key=lambda value: value.lineno, reverse=True):
        assert value.end_lineno is not None  # noqa: S101  (parsed just now)
        assert value.end_col_offset is not None  # noqa: S101
        _insert(lines, value.end_lineno, value.end_col_offset, ")")
        _insert(lines, value.lineno, value.col_offset, f"{_CALL}(")
    lines.insert(_place(tree), _IMPORT.encode())
    return SourceFix(path, before, b"".join(lines).decode())


def _functions(tree: ast.Module, first_line: int) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if node.name == "build" and first == first_line:
                yield node


def _returned(node: ast.AST) -> Iterator[ast.expr]:
    """The values of a function's own return statements, not of functions within it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return) and child.value is not None:
            yield child.value
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _returned(child)


def _insert(lines: list[bytes], number: int, column: int, text: str) -> None:
    line = lines[number - 1]
    lines[number - 1] = line[:column] + text.encode() + line[column:]


def _place(tree: ast.Module) -> int:
    """The line before the import that would stand after ours in the order of names, or after the last import."""
    last = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and _MODULE < (node.module or "") < "aimass.~":
            return node.lineno - 1
        if isinstance(node, ast.Import | ast.ImportFrom):
            last = node.end_lineno or node.lineno
    return last
