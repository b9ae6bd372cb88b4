"""Pictures within a page: SVG without a script, whose colours follow the reader's theme."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Final

from aimass.explain.charts.theme import DARK, LIGHT

__all__ = ["dark_rules", "placed"]

_ID: Final = re.compile(r'\bid="([^"]+)"|url\(#([^)]+)\)')
_SIZE: Final = re.compile(r'width="(\d+)" height="\d+"')
_UNREAD: Final = re.compile(r' (?:aria-[a-z]+|role|pointer-events)="[^"]*"| opacity="1"')
"""What nobody reads of a drawing that is read aloud as one: a third of its bytes."""
_LEAST: Final = 0.72
"""A chart that is wider than the page shrinks so far, and is moved sideways from there: its words stay readable."""


def placed(svg: str, name: str, alt: str) -> str:
    """A chart's SVG under ids of its own, as one picture that a screen reader reads as `alt` (escaped already)."""

    def renamed(found: re.Match[str]) -> str:
        return f'id="{name}-{found[1]}"' if found[1] else f"url(#{name}-{found[2]})"

    size = _SIZE.search(svg)
    least = f' style="min-width:{int(_LEAST * int(size[1]))}px"' if size else ""
    drawn = _ID.sub(renamed, _UNREAD.sub("", svg)).replace("<svg ", f'<svg aria-hidden="true"{least} ', 1)
    return f'<div class="chart" role="img" aria-label="{alt}" tabindex="0">{drawn}</div>'


def dark_rules() -> str:
    """CSS that draws a light chart's colours as the dark theme has them: rules come before a drawing's attributes."""
    return "".join(
        f'.chart [{what}="{light}" i]{{{what}:{dark}}}' for light, dark in _pairs() for what in ("fill", "stroke")
    )


def _pairs() -> Iterator[tuple[str, str]]:
    seen = set()
    for field in dataclasses.fields(LIGHT):
        light, dark = getattr(LIGHT, field.name), getattr(DARK, field.name)
        both = zip(light, dark, strict=True) if isinstance(light, tuple) else [(light, dark)]
        for before, after in both:
            if isinstance(before, str) and before.startswith("#") and before != after and before not in seen:
                seen.add(before)
                yield before, after
