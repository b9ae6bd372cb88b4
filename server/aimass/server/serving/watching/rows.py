"""The rows that a model answers, looked at once a second: what is to be said of them, for the version that serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import groupby

from aimass.proto.serving_views import ColumnDrift
from aimass.server.serving.watching.cells import Unsaid as UnsaidColumn
from aimass.server.serving.watching.cells import reference_cells
from aimass.server.serving.watching.releases import Prepared
from aimass.server.serving.watching.sample import Sample
from aimass.server.serving.watching.settings import DriftSettings
from aimass.server.serving.watching.state import Drifted, Release, Unsaid
from aimass.server.serving.watching.windows import Window, Windows

__all__ = ["RowWatch"]


class RowWatch:
    """Of one model. `last` is what the last window of rows came to."""

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        self._release: Release | None = None
        self._windows: Windows | None = None
        self.last: tuple[ColumnDrift, ...] = ()
        self.not_watched = ""

    def look(
        self, release: Release, prepared: Prepared, sampled: Sample | None, now: float
    ) -> Sequence[Drifted | Unsaid]:
        """Count what came, and judge windows that are full; another version begins anew."""
        said: list[Drifted | Unsaid] = []
        if release != self._release:
            said += self._begin(release, prepared, now)
        if self._windows is None:
            return said
        if sampled is not None:
            self._windows = self._windows.plus(sampled.inputs, sampled.outputs)
        if self._windows.inputs.is_full(now, self._settings):
            self._windows, self.last = self._windows.inputs_closed(now, self._settings)
            said.append(Drifted(release, "input", self.last))
        if self._windows.outputs.is_full(now, self._settings):
            self._windows, columns = self._windows.outputs_closed(now, self._settings)
            said += [Drifted(release, "output", columns)] if columns else []
        return said

    def _begin(self, release: Release, prepared: Prepared, now: float) -> Sequence[Unsaid]:
        self._release, self.last, self.not_watched = release, (), ""
        schema, reference = prepared.found.version.schema, prepared.reference
        if schema is None:
            self._windows, self.not_watched = None, "its task has no schema"
            return [Unsaid(release, ("its rows",), self.not_watched)]
        cells, unsaid = reference_cells(schema, reference)
        self._windows = Windows(schema, cells, reference.noise, Window(now), Window(now))
        told = _by_reason(release, unsaid)
        self.not_watched = "; ".join(f"{', '.join(one.columns)}: {one.reason}" for one in told)
        return told


def _by_reason(release: Release, unsaid: Sequence[UnsaidColumn]) -> list[Unsaid]:
    ordered = sorted(map(dataclasses.astuple, unsaid), key=lambda one: one[1])
    return [
        Unsaid(release, tuple(column for column, _ in columns), reason)
        for reason, columns in groupby(ordered, key=lambda one: one[1])
    ]
