"""What every explanation comes to: a frozen value that says what it shows, how sure it is, and what it does not show.

A result is written as JSON and read again to the same value. Arrays stand there as
`{"dtype": ..., "shape": [...], "values": [...]}`, row by row with null for NaN, unsigned bytes as base64 instead.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage
from aimass.proto.errors import BadInput
from aimass.proto.values import prepared

if TYPE_CHECKING:
    import altair as alt
    from matplotlib.figure import Figure

    from aimass.explain.charts.picture import Picture

    Array = npt.NDArray[Any]
else:
    Array = np.ndarray  # what a field is decoded as

__all__ = ["Array", "Check", "Columns", "Part", "Result", "Whole", "csv_text"]

Columns = Mapping[str, Sequence[object]]
"""A table by column, as CSV has it."""
_DTYPES: Final = frozenset({"float64", "float32", "int64", "int32", "bool", "uint8"})


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, eq=False):
    """A frozen part of a result; two are equal that are written alike."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _written(self) == _written(other)

    def __hash__(self) -> int:
        return hash(_written(self))


class Check(Part, frozen=True, kw_only=True, eq=False):
    """What a result holds against itself: `error` may be `limit` at most. What `passed` not is said as a warning."""

    name: str
    error: float
    limit: float
    says: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the limit."""
        return self.error <= self.limit


class Result(Part, frozen=True, kw_only=True, eq=False, tag_field="kind"):
    """Of one question about one model. `caveats` are limits that were met and what the result does not show.

    A kind is a subclass (`frozen=True, kw_only=True, eq=False, tag="gap.importance"`): the module, then the view.
    """

    lineage: Lineage
    caveats: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def rows_held(self) -> int:
        """Of how many single rows, or images, something stands in it; 0 where all are sums over rows."""
        return max((part.rows_held for part in self.views().values() if part is not self), default=0)

    def describe(self) -> tuple[str, ...]:
        """The sentences that a person would say, with figures and units."""
        raise NotImplementedError

    def views(self) -> Mapping[str, Result]:
        """Its parts by name, each a result with a picture of its own, in the order that a reader wants them."""
        return {type(self).__name__: self}

    def picture(self) -> Picture:
        """What is to be seen, as data: see `aimass.explain.charts.picture`."""
        raise NotImplementedError

    def to_chart(self, theme: str = "light") -> alt.TopLevelMixin:
        """The picture for screens: an Altair chart in the theme `light` or `dark`."""
        from aimass.explain.charts.altair_charts import chart_of  # noqa: PLC0415  (only who draws loads what draws)
        from aimass.explain.charts.theme import theme_of  # noqa: PLC0415

        return chart_of(self.picture(), theme_of(theme))

    def to_figure(self, theme: str = "light") -> Figure:
        """The same for papers, by matplotlib."""
        from aimass.explain.charts.figures import figure_of  # noqa: PLC0415
        from aimass.explain.charts.theme import theme_of  # noqa: PLC0415

        return figure_of(self.picture(), theme_of(theme))

    def to_svg(self, theme: str = "light") -> str:
        """The chart as SVG."""
        from aimass.explain.charts.rendering import svg_of  # noqa: PLC0415
        from aimass.explain.charts.theme import theme_of  # noqa: PLC0415

        return svg_of(self.picture(), theme_of(theme))

    def to_png(self, theme: str = "light", *, scale: float = 2.0) -> bytes:
        """The chart as PNG of `scale` pixels a unit."""
        from aimass.explain.charts.rendering import png_of  # noqa: PLC0415
        from aimass.explain.charts.theme import theme_of  # noqa: PLC0415

        return png_of(self.picture(), theme_of(theme), scale=scale)

    def to_columns(self) -> Columns:
        """The figures as a table, for CSV."""
        raise NotImplementedError

    def to_json(self) -> bytes:
        """UTF-8 JSON with sorted keys; `from_json` reads it to an equal value."""
        return _written(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Raises `BadInput` for anything but what this kind's `to_json` writes."""
        try:
            return msgspec.json.decode(data, type=prepared(cls), dec_hook=_read)
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadInput(f"this is no {cls.__name__}: {error}", code="explain.json") from error

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON."""
        return hashlib.sha256(_written(self)).hexdigest()

    def headlines(self) -> tuple[str, ...]:
        """The few sentences that somebody reads who reads no more: the first of all, unless another says more."""
        return self.describe()[:1]

    def warnings(self) -> tuple[str, ...]:
        """What of the result's own checks did not hold, then its caveats."""
        failed = (check for check in self.checks if not check.passed)
        return (
            *(f"{c.name}: {c.error:.2g} where {c.limit:.2g} is allowed. {c.says}".strip() for c in failed),
            *self.caveats,
        )

    def _repr_html_(self) -> str:
        """Notebooks show the sentences, the picture and the caveats."""
        said = "".join(f"<p>{html.escape(line)}</p>" for line in self.describe())
        doubts = "".join(f"<li>{html.escape(line)}</li>" for line in self.warnings())
        head = f"<p><small>{html.escape(self.lineage.line())}</small></p>"
        return f"{head}{said}{self.to_svg()}<ul>{doubts}</ul>"


class Whole(Result, frozen=True, kw_only=True, eq=False):
    """The answer to a question: several views, of which it says what they say, and doubts what they doubt.

    Its picture and its table are those of the first view, unless it says otherwise.
    """

    def views(self) -> Mapping[str, Result]:
        """The views that there are."""
        raise NotImplementedError

    def describe(self) -> tuple[str, ...]:
        """What each view says, one after another."""
        return tuple(line for view in self.views().values() for line in view.describe())

    def picture(self) -> Picture:
        """The first that a reader wants."""
        return next(iter(self.views().values())).picture()

    def to_columns(self) -> Columns:
        """The first view's table; the others have their own."""
        return next(iter(self.views().values())).to_columns()

    def warnings(self) -> tuple[str, ...]:
        """Its own, then those of all views, each once."""
        said = (*super().warnings(), *(line for view in self.views().values() for line in view.warnings()))
        return tuple(dict.fromkeys(said))


def _written(part: Part) -> bytes:
    return msgspec.json.encode(part, enc_hook=_write, order="sorted")


def _write(value: object) -> object:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a result holds no {type(value).__name__}")
    form: dict[str, object] = {"dtype": str(value.dtype), "shape": value.shape}
    if value.dtype == np.uint8:
        return form | {"base64": base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()}
    if value.dtype.kind == "f" and np.isinf(value).any():
        raise BadInput("a result holds an infinite number", code="explain.infinite")
    return form | {"values": value.ravel().tolist()}  # (NaN is written as null)


def _read(kind: type, form: Any) -> Any:
    if kind is not np.ndarray:
        raise TypeError(f"a result holds no {kind.__name__}")
    if not isinstance(form, dict) or form.get("dtype") not in _DTYPES or not _is_shape(form.get("shape")):
        raise ValueError("an array has `dtype`, `shape` and `values`")
    dtype, shape = np.dtype(form["dtype"]), tuple(form["shape"])
    if dtype == np.uint8:
        found = np.frombuffer(base64.b64decode(form["base64"], validate=True), np.uint8)
    else:
        found = np.array([math.nan if v is None else v for v in form["values"]], dtype)
    found = found.reshape(shape)
    found.flags.writeable = False
    return found


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)


def csv_text(columns: Columns) -> str:
    """A table as CSV that a spreadsheet opens without running it: cells that begin like a formula get an apostrophe."""
    import csv  # noqa: PLC0415

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    writer.writerows([_cell(one) for one in row] for row in zip(*columns.values(), strict=True))
    return out.getvalue()


def _cell(value: object) -> object:
    risky = isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}
    return f"'{value}" if risky else value
