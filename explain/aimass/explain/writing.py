"""A result as files: each of its views as picture, table and JSON, and the whole as JSON and a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from aimass.explain.report.page import page_of_result
from aimass.explain.results import Result, csv_text
from aimass.proto.console import write_output
from aimass.proto.errors import BadInput

__all__ = ["FORMATS", "check_folder", "check_formats", "files_of", "write_result"]

FORMATS: Final = ("html", "png", "svg", "json", "csv")


def check_formats(formats: Sequence[str]) -> None:
    """Raise `BadInput` for an unknown one."""
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise BadInput("no such format", code="explain.format", value=", ".join(unknown), limit=", ".join(FORMATS))


def check_folder(folder: Path) -> None:
    """Raise `BadInput` where something else stands that is no folder."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(
            "there is a file where the folder would be", code="explain.out", value=folder, cure="Name another folder."
        )


def files_of(name: str, result: Result, formats: Sequence[str] = FORMATS) -> Iterator[tuple[str, bytes]]:
    """Names and bytes: NAME.html and NAME.json of the whole, NAME-VIEW.png, .svg and .csv of each view.

    Raises `BadInput` for an unknown format.
    """
    check_formats(formats)
    if "json" in formats:
        yield f"{name}.json", result.to_json()
    for view, part in result.views().items():
        called = f"{name}-{_plain(view)}"
        if "png" in formats:
            yield f"{called}.png", part.to_png()
        if "svg" in formats:
            yield f"{called}.svg", part.to_svg().encode()
        if "csv" in formats:
            yield f"{called}.csv", csv_text(part.to_columns()).encode()
    if "html" in formats:
        yield f"{name}.html", page_of_result(result).encode()


def write_result(folder: Path, name: str, result: Result, formats: Sequence[str] = FORMATS) -> tuple[Path, ...]:
    """Write them all into `folder`, which is made; nothing is written where one of them cannot be drawn.

    What holds something of single rows is for its owner alone to read.
    """
    check_folder(folder)
    files = list(files_of(name, result, formats))
    held = {f"{name}-{_plain(view)}." for view, part in result.views().items() if part.rows_held}
    whole = {f"{name}.json", f"{name}.html"} if result.rows_held else set()
    folder.mkdir(parents=True, exist_ok=True)
    for called, data in files:
        private = called in whole or called[: called.rindex(".") + 1] in held
        write_output(folder / called, data, 0o600 if private else 0o644)
    return tuple(folder / called for called, _ in files)


def _plain(view: str) -> str:
    """A view's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", view.lower()).strip("-") or "view"
