"""Colours and sizes of all pictures, light and dark: Okabe and Ito's for series, viridis for amounts.

Okabe and Ito, "Color Universal Design" (2008): eight colours that people with any colour vision tell apart.
"""

from __future__ import annotations

import dataclasses
from typing import Final

__all__ = ["DARK", "LIGHT", "Theme", "theme_of"]

_SERIES: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_BANDS: Final = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""viridis at five places (van der Walt and Smith 2015)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Theme:
    """`ink` writes, `quiet` stands back, `paper` lies below."""

    name: str
    ink: str
    quiet: str
    grid: str
    paper: str
    series: tuple[str, ...] = _SERIES
    more: str = "#D55E00"
    less: str = "#0072B2"
    warn: str = "#D55E00"
    sequential: str = "viridis"
    bands: tuple[str, ...] = _BANDS
    diverging: tuple[str, str, str] = ("#0072B2", "#f7f7f7", "#D55E00")
    font: str = "DejaVu Sans"
    font_px: int = 12
    title_px: int = 14
    width: int = 520
    row_height: int = 24
    height: int = 300

    def colour(self, token: str) -> str:
        """The colour of a `picture.Colour`."""
        kind, _, place = token.partition(":")
        match kind:
            case "series":
                return self.series[int(place) % len(self.series)]
            case "band":
                at, _, count = place.partition("/")
                return self.band_colours(int(count))[int(at)] if count else self.bands[int(at) % len(self.bands)]
            case "more":
                return self.more
            case "less":
                return self.less
            case "warn":
                return self.warn
            case "quiet":
                return self.quiet
            case _:
                return self.ink

    def band_colours(self, count: int) -> tuple[str, ...]:
        """So many of viridis, evenly spread."""
        if count == 1:
            return (self.bands[2],)
        return tuple(_mixed(self.bands, place / (count - 1) * (len(self.bands) - 1)) for place in range(count))


def _mixed(bands: tuple[str, ...], at: float) -> str:
    low = min(int(at), len(bands) - 2)
    share = at - low
    ends = [[int(bands[low + step][1 + 2 * part : 3 + 2 * part], 16) for part in range(3)] for step in (0, 1)]
    return "#" + "".join(f"{round((1 - share) * a + share * b):02x}" for a, b in zip(*ends, strict=True))


LIGHT: Final = Theme("light", ink="#1b1b1b", quiet="#6b6b6b", grid="#e4e4e4", paper="#ffffff")
DARK: Final = Theme(
    "dark",
    ink="#f2f2f2",
    quiet="#a9a9a9",
    grid="#3a3a3a",
    paper="#14171c",
    diverging=("#56B4E9", "#2a2d33", "#E69F00"),
    less="#56B4E9",
    more="#E69F00",
    bands=("#3b528b", "#2c728e", "#21918c", "#5ec962", "#fde725"),  # viridis without what is as dark as the paper
    series=("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#7aa6ff"),
)


def theme_of(name: str) -> Theme:
    """`light` or `dark`."""
    return DARK if name == "dark" else LIGHT
