"""Words and tables as HTML: everything that comes from outside is escaped here, and nowhere else."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aimass.explain.results import Columns
from aimass.explain.words import number

__all__ = ["escaped", "listed", "markdown", "paragraphs", "slug", "table"]

_MOST_ROWS: Final = 100
_PERCENT: Final = re.compile(r"(\d) %")
_RULE: Final = re.compile(r"\|(\s*:?-+:?\s*\|)+")
_CODE: Final = re.compile(r"`([^`]*)`")
_ESCAPED: Final = re.compile(r"\\([\\|`*_\[\]<>#])")
_BETWEEN_CELLS: Final = re.compile(r"(?<!\\)\|")


def escaped(text: str) -> str:
    """Text that cannot become markup, in an element or in an attribute."""
    return html.escape(text)


def slug(text: str) -> str:
    """An id made of a title."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def paragraphs(lines: Iterable[str]) -> str:
    """Each line a paragraph."""
    return "".join(f"<p>{_said(line)}</p>" for line in lines)


def _said(line: str) -> str:
    """A sentence, whose per cent signs stay with their numbers where it is broken."""
    return escaped(_PERCENT.sub("\\1\u00a0%", line))


def listed(lines: Sequence[str], kind: str = "") -> str:
    """A list, nothing of nothing."""
    items = "".join(f"<li>{_said(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if lines else ""


def table(columns: Columns, caption: str) -> str:
    """A table with a caption; of very many rows the first, and how many there are."""
    names, rows = list(columns), list(zip(*columns.values(), strict=True))
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows[:_MOST_ROWS])
    cut = f"; the first {_MOST_ROWS} of {len(rows):,} rows" if len(rows) > _MOST_ROWS else ""
    return (
        f'<div class="wide" tabindex="0"><table><caption>{escaped(caption + cut)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: object) -> str:
    if isinstance(cell, bool) or cell is None:
        return f"<td>{'' if cell is None else 'yes' if cell else 'no'}</td>"
    if isinstance(cell, int | float):
        return f'<td class="number">{"" if cell != cell else escaped(number(cell, 4))}</td>'  # noqa: PLR0124
    return f"<td>{escaped(str(cell))}</td>"


def markdown(text: str, below: int = 2) -> str:
    """A model card as HTML: headings, lists, tables, code and paragraphs, its first heading `below` as deep as that.

    Cards are written by publishers, so nothing else of markdown is read, and no HTML of theirs.
    """
    blocks = itertools.groupby(text.splitlines(), _kind)
    return "".join(_block(kind, list(lines), below) for kind, lines in blocks)


def _kind(line: str) -> str:
    for begin, kind in (("#", "heading"), ("- ", "list"), ("|", "table")):
        if line.startswith(begin):
            return kind
    return "text" if line.strip() else ""


def _block(kind: str, lines: list[str], below: int) -> str:
    match kind:
        case "heading":
            return "".join(_heading(line, below) for line in lines)
        case "list":
            return "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
        case "table":
            return _table(lines)
        case "text":
            return f"<p>{_inline(' '.join(lines))}</p>"
        case _:
            return ""


def _heading(line: str, below: int) -> str:
    words = line.lstrip("#")
    depth = min(6, below + len(line) - len(words))
    return f"<h{depth}>{_inline(words.strip())}</h{depth}>"


def _table(lines: list[str]) -> str:
    head, *rest = lines
    rows = "".join(f"<tr>{_cells(line, 'td')}</tr>" for line in rest if not _RULE.fullmatch(line.strip()))
    top = f"<thead><tr>{_cells(head, 'th')}</tr></thead>"
    return f'<div class="wide" tabindex="0"><table>{top}<tbody>{rows}</tbody></table></div>'


def _cells(line: str, tag: str) -> str:
    cells = _BETWEEN_CELLS.split(line.strip().strip("|"))
    return "".join(f"<{tag}>{_inline(cell.strip())}</{tag}>" for cell in cells)


def _inline(text: str) -> str:
    return "".join(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    for place, piece in enumerate(_CODE.split(text)):
        words = escaped(_ESCAPED.sub(r"\1", piece) if place % 2 == 0 else piece)
        yield f"<code>{words}</code>" if place % 2 else words
