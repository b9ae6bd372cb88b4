"""Pictures as files: SVG and PNG of a chart, by the same Vega that draws it in a browser; the network is not asked."""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from aimass.explain.charts.altair_charts import chart_of
from aimass.explain.charts.picture import Picture
from aimass.explain.charts.theme import LIGHT, Theme

__all__ = ["data_url", "png_of", "svg_of"]


def svg_of(picture: Picture, theme: Theme = LIGHT) -> str:
    """The picture as SVG, with its words as text."""
    return str(_converter().vegalite_to_svg(_spec(picture, theme), vl_version=_version()))


def png_of(picture: Picture, theme: Theme = LIGHT, *, scale: float = 2.0) -> bytes:
    """The picture as PNG of `scale` pixels a unit."""
    return bytes(_converter().vegalite_to_png(_spec(picture, theme), vl_version=_version(), scale=scale))


def _converter() -> Any:
    """vl_convert, whose JavaScript ends with a fault where standard input was closed."""
    import vl_convert  # noqa: PLC0415  (its binary takes a moment to load)

    try:
        os.fstat(0)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)  # becomes the lowest descriptor that is free, which is 0
    return vl_convert


def _spec(picture: Picture, theme: Theme) -> dict[str, Any]:
    spec: dict[str, Any] = chart_of(picture, theme).to_dict(validate=False)  # half of the time; tests validate
    return spec


def _version() -> str:
    """Of Vega-Lite, as Altair writes it: v6.1.0 is 6.1."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def data_url(pixels: npt.NDArray[np.uint8]) -> str:
    """An image uint8 [height, width] or [height, width, 3 or 4] as a PNG within a URL."""
    from PIL import Image  # noqa: PLC0415

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
