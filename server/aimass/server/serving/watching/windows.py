"""Live rows and answers of a version in windows: held against the training rows, and against its first window. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from aimass.proto.manifest import Schema
from aimass.proto.serving_views import ColumnDrift
from aimass.server.serving.watching.answers import answers_of, fine_cells, reference_of
from aimass.server.serving.watching.cells import Cells
from aimass.server.serving.watching.columns import Counted, added, columns_of, counted, judged, rows_of
from aimass.server.serving.watching.settings import DriftSettings

__all__ = ["Window", "Windows"]

Tensors = Mapping[str, npt.NDArray[Any]]
Said = tuple[ColumnDrift, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """Rows by cell since a moment, and in how many windows before it, without a break, a column was over its limit."""

    since: float
    rows: Counted = dataclasses.field(default_factory=dict)
    over: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def plus(self, rows: Counted) -> Window:
        """With more rows."""
        return dataclasses.replace(self, rows=added(self.rows, rows))

    def is_full(self, now: float, settings: DriftSettings) -> bool:
        """Whether it has lasted long enough and has rows enough to be judged."""
        return now - self.since >= settings.window_s and rows_of(self.rows) >= settings.least_rows

    def closed(self, now: float, cells: Sequence[Cells], sigma: float, settings: DriftSettings) -> tuple[Window, Said]:
        """The next window, and what to say of each column: that it drifted only where windows in a row agree on it."""
        found = judged(cells, self.rows, sigma, settings)
        over = {one.column: self.over.get(one.column, 0) + 1 for one in found if one.drifted}
        return Window(now, over=over), tuple(
            one for one in found if not one.drifted or over[one.column] >= settings.windows
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """Of one version. `cells` are its reference's, with noise `sigma`; `good` those of its first good answers."""

    schema: Schema
    cells: tuple[Cells, ...]
    sigma: float
    inputs: Window
    outputs: Window
    good: tuple[Cells, ...] = ()

    def plus(self, inputs: Sequence[Tensors], outputs: Sequence[Tensors]) -> Windows:
        """With more requests and their answers."""
        rows = counted(self.cells, columns_of(self.schema, inputs))
        answers = counted(self.good or fine_cells(self.schema), answers_of(outputs))
        return dataclasses.replace(self, inputs=self.inputs.plus(rows), outputs=self.outputs.plus(answers))

    def inputs_closed(self, now: float, settings: DriftSettings) -> tuple[Windows, Said]:
        """After the window of rows, and what is to be said of it."""
        window, said = self.inputs.closed(now, self.cells, self.sigma, settings)
        return dataclasses.replace(self, inputs=window), said

    def outputs_closed(self, now: float, settings: DriftSettings) -> tuple[Windows, Said]:
        """After the window of answers. The first one is the reference of those to come, unless its rows drifted."""
        if self.good:
            window, said = self.outputs.closed(now, self.good, 0.0, settings)
            return dataclasses.replace(self, outputs=window), said
        good = () if self.inputs.over else reference_of(self.schema, self.outputs.rows)
        return dataclasses.replace(self, outputs=Window(now), good=good), ()
