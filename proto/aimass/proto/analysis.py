"""An analysis: what runs at partners for a federated explanation, found by entry point, approved by digest like a task.

An analysis is pure. Each step of it is a phase: partners `compute` sums over their rows, the sums are added up (plain
or in secret), and `next` says from them what the following phase works with. What the sums say is the analyst's to
compute, so a server needs no more of it than `phases` and `next`, and these no more than numpy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from aimass.proto.asks import Ask, Cells, Phase
from aimass.proto.errors import BadInput, IntegrityError, NotFound
from aimass.proto.rows import Batch
from aimass.proto.task import Task, digest_folder, package_folder
from aimass.proto.tensors import Array, Blob

__all__ = [
    "GROUP",
    "Analysis",
    "AnalysisSource",
    "AtPartner",
    "Summed",
    "analysis_folders",
    "check_sums",
    "installed_analyses",
    "load_analysis",
    "locate_analysis",
    "parts_of",
    "row_keys",
    "spread",
]

GROUP: Final = "aimass.analyses"


@dataclasses.dataclass(frozen=True, slots=True)
class AtPartner:
    """What an analysis has at a partner: the task with the model's parameters, and the rows that are asked about.

    `keys` uint64 [rows] are of what a row holds and of nothing else, see `row_keys`. `inputs` are the arrays that
    `next` gave, none in the first phase. Sums that differ from one step to the next may differ by `least` rows at
    least, or by none: 1 where noise hides single rows, or where nobody asks for more.
    """

    task: Task
    model: Blob
    rows: Batch
    keys: npt.NDArray[np.uint64]
    inputs: Mapping[str, Array]
    least: int = 1

    @staticmethod
    def of(
        task: Task, model: Blob, rows: Batch, inputs: Mapping[str, Array] | None = None, least: int = 1
    ) -> AtPartner:
        """With the rows' own keys."""
        return AtPartner(task, model, rows, row_keys(rows), inputs or {}, least)

    def predict(self) -> npt.NDArray[np.float64]:
        """float64 [rows, outputs] of the model."""
        return self.task.scored(self.model, self.rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Summed:
    """What a phase came to: float64 sums by tensor over all `partners` that were counted."""

    sums: Mapping[str, Array]
    partners: tuple[str, ...]


@runtime_checkable
class Analysis(Protocol):
    """See the module. Nothing here keeps a state, and equal arguments give equal sums."""

    @property
    def name(self) -> str:
        """Of its entry point."""
        ...

    def check(self, ask: Ask) -> None:
        """Raise `BadInput` for options, a schema or shared arrays that do not suit it."""
        ...

    def phases(self, ask: Ask) -> tuple[Phase, ...]:
        """The tensors of each step, and the most steps. They follow from `ask` alone, never from sums."""
        ...

    def compute(self, ask: Ask, number: int, at: AtPartner) -> Mapping[str, Array]:
        """The sums of a partner's rows in step `number`, from 0; of no rows zeros. float64 of the phase's shapes."""
        ...

    def next(self, ask: Ask, found: Sequence[Summed]) -> Mapping[str, Array] | None:
        """What the next step's `AtPartner.inputs` are, from what all steps before came to; None where that was all."""
        ...


def row_keys(rows: Batch) -> npt.NDArray[np.uint64]:
    """uint64 [rows]: 64 bits of the SHA-256 of what each row holds, label included.

    A row has the same key wherever it lies, so that draws by keys are the same over partners and pooled; equal rows
    share theirs.
    """
    labels = np.asarray(rows.labels, "<f8").reshape(len(rows.labels), math.prod(rows.labels.shape[1:]))
    parts = [rows.numbers.astype("<f4"), rows.categories.astype("<i8"), labels]
    whole = [np.ascontiguousarray(part).view(np.uint8) for part in parts]
    cells = np.concatenate(whole, axis=1)
    images, texts = rows.images, rows.texts
    found = np.empty(len(cells), np.uint64)
    for place, cell in enumerate(cells):
        digest = hashlib.sha256(b"AIMass row v1\0" + cell.tobytes())
        digest.update(b"" if images is None else images[place].tobytes())
        digest.update(b"" if texts is None else str(texts[place]).encode())
        found[place] = int.from_bytes(digest.digest()[:8], "big")
    return found


def check_sums(phase: Phase, sums: Mapping[str, Array]) -> None:
    """Raise `BadInput` where sums are not what the phase says: other tensors, or counts that are none.

    A sum where nothing was counted would tell of a row that is not.
    """
    found = {name: ("F64" if one.dtype == np.float64 else str(one.dtype), one.shape) for name, one in sums.items()}
    if found != phase.shapes:
        odd = sorted(name for name in found.keys() | phase.shapes if found.get(name) != phase.shapes.get(name))
        raise _bad("has other tensors than its plan", ", ".join(odd[:5]))
    for cells in phase.cells:
        one = sums[cells.name]
        if not np.isfinite(one).all():
            raise _bad("holds what is no number", cells.name)
        if cells.counts and ((one < 0) | (one != np.rint(one))).any():
            raise _bad("counts no whole rows", cells.name)
        if cells.of and (np.where(spread(sums[cells.of], one) == 0, one, 0.0) != 0).any():
            raise _bad("sums where it counts no row", cells.name)
        if cells.within and _too_many(cells, one, sums[cells.within].reshape(-1)):
            raise _bad("counts more rows in cells than they are within", cells.name)


def spread(counts: Array, sums: Array) -> Array:
    """Counts in the shape of the sums that are of them: theirs begins with that of the counts."""
    return np.broadcast_to(counts.reshape(counts.shape + (1,) * (sums.ndim - counts.ndim)), sums.shape)


def _too_many(cells: Cells, counts: Array, whole: Array) -> bool:
    """Whether a table has more rows than a cell that they are within."""
    tables = math.prod(cells.shape[: cells.tables])
    parts = parts_of(cells, len(whole)).reshape(tables, -1)
    at, some = parts + np.arange(tables)[:, None] * len(whole), parts >= 0
    found = np.bincount(at[some], counts.reshape(tables, -1)[some], minlength=tables * len(whole))
    return bool((found.reshape(tables, -1) > whole).any())


def parts_of(cells: Cells, whole: int) -> npt.NDArray[np.int64]:
    """int64 [size]: of each cell of a table the one that it is within, of `whole` cells in order; -1 of none."""
    if not cells.parts:
        return np.repeat(np.arange(whole), cells.size // whole)
    parts, repeated = np.array(cells.parts, np.int64), cells.size // len(cells.parts)
    first = np.arange(repeated)[:, None] * (whole // repeated)
    return np.where(parts < 0, -1, parts + first).reshape(-1)


def _bad(what: str, value: str) -> BadInput:
    return BadInput(f"the analysis {what}", code="analysis.sums", value=value)


@dataclasses.dataclass(frozen=True, slots=True)
class AnalysisSource:
    """An installed analysis that has not been run: where its package's files are and what they hash to."""

    name: str
    module: str
    attribute: str
    folder: Path
    digest: str


def installed_analyses() -> tuple[str, ...]:
    """Names of all analyses that are installed here."""
    return tuple(sorted(entry.name for entry in importlib.metadata.entry_points(group=GROUP)))


def locate_analysis(name: str) -> AnalysisSource:
    """Find and hash an installed analysis without running any of it: the folder of its module, with all files in it.

    Raises `NotFound` where there is none of this name.
    """
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if name not in entries:
        raise NotFound(
            "no such analysis is installed",
            code="analysis.unknown",
            value=name,
            limit=", ".join(sorted(entries)) or "none",
            cure="Install its package here; code never travels with a plan.",
        )
    module, _, attribute = entries[name].value.partition(":")
    folder = _folder(entries[name])
    return AnalysisSource(name, module, attribute or "analysis", folder, digest_folder(folder))


def analysis_folders() -> tuple[Path, ...]:
    """The folders of all analyses that are installed here: code, which a confined process may read."""
    return tuple(sorted({_folder(entry) for entry in importlib.metadata.entry_points(group=GROUP)}))


def _folder(entry: importlib.metadata.EntryPoint) -> Path:
    return package_folder(entry.value.partition(":")[0].rpartition(".")[0], entry.name)


def load_analysis(source: AnalysisSource) -> Analysis:
    """Import a located analysis; raises `IntegrityError` where its files have changed, `BadInput` where it is none."""
    if (found := digest_folder(source.folder)) != source.digest:
        raise IntegrityError("the analysis' files have changed", code="task.changed", value=found, limit=source.digest)
    analysis = getattr(importlib.import_module(source.module), source.attribute, None)
    if not isinstance(analysis, Analysis):
        raise BadInput(
            "the entry point gives no Analysis", code="analysis.kind", value=f"{source.module}:{source.attribute}"
        )
    return analysis
