"""What a plan asks of partners for a federated explanation: an analysis by name and digest, and every number of it.

The sums of each phase stand in the plan as `Cells`, so that daemon, server and secure aggregation know shapes, counts
and bounds without a line of the analysis' code; where that runs, it is held against them. What is shared (a background,
a grid) is in the plan as well: one digest covers all that a partner agrees to.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.names import Digest, Name
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.proto.values import Scalar, Value

__all__ = [
    "EXPLAIN",
    "MOST_PHASES",
    "MOST_SHARED_BYTES",
    "Ask",
    "AskedAnalysis",
    "Cells",
    "Phase",
    "Shared",
    "phase_at",
]

EXPLAIN: Final = "explain"
"""The driver of federated explanations, and the purpose of their steps."""
MOST_PHASES: Final = 1_000
MOST_SHARED_BYTES: Final = 512 << 10
"""A plan has a MiB, and bytes stand in it as base64."""
_MOST_CELLS: Final = 1 << 16

TensorName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,62}\\Z")]
Size = Annotated[int, msgspec.Meta(ge=1, le=_MOST_CELLS)]


class Cells(Value, frozen=True):
    """One tensor of a phase: float64 sums of `shape` over a partner's rows.

    With `counts` each cell counts rows. The first `tables` axes number tables of their own, the others span a table, in
    which a row falls into one cell at most. Any other tensor is of sums: of the rows that the cell of the counts `of`
    has, whose shape its own begins with, and `row_norm` is the largest L2 norm of what one row adds to all of it.

    Counts without axes are of different rows. A table of some of the rows only says of which: the rows of its cells are
    among those of one cell of the counts `within`, that at the same place of the axes that both begin with. Where a
    table is of several cells there, `parts` has the place of each, -1 where it has none; they are repeated over further
    tables, each within the next as many. `parts` without `within` number cells whose rows another step may tell
    together, as those where something is missing. Counts that are `overlapping` have rows in several cells of a table.
    """

    name: TensorName
    shape: Annotated[tuple[Size, ...], msgspec.Meta(max_length=6)] = ()
    counts: bool = False
    tables: Annotated[int, msgspec.Meta(ge=0, le=6)] = 0
    of: str = ""
    row_norm: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    within: str = ""
    parts: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=-1, le=_MOST_CELLS)], ...], msgspec.Meta(max_length=4_096)
    ] = ()
    overlapping: bool = False

    def __post_init__(self) -> None:
        if self.size > _MOST_CELLS:
            raise ValueError(f"{self.name!r} has {self.size} cells, and {_MOST_CELLS} are the most")
        if self.counts and (self.of or self.row_norm or self.tables > len(self.shape)):
            raise ValueError(f"{self.name!r} counts rows: it has neither `of` nor `row_norm`, and no more axes")
        if not self.counts and (not self.of or not self.row_norm or self.tables):
            raise ValueError(f"{self.name!r} is of sums: it needs the counts that it is `of`, and a `row_norm`")
        if (self.within or self.parts or self.overlapping) and (not self.counts or not self.shape):
            raise ValueError(f"{self.name!r} is no table of counts, and so within none, nor `overlapping`")
        if self.parts and self.size % len(self.parts):
            raise ValueError(f"{self.name!r} has {self.size} cells, and `parts` of {len(self.parts)} do not fit them")
        if self.overlapping and (self.within or self.parts):
            raise ValueError(f"{self.name!r} is `overlapping`, so that its cells have no total")

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def norm(self) -> float:
        """The largest L2 norm of what one row adds: a one in each table, or what is stated."""
        if self.overlapping:
            return math.sqrt(self.size)
        return math.sqrt(math.prod(self.shape[: self.tables])) if self.counts else self.row_norm


class Phase(Value, frozen=True):
    """The tensors that partners send in one step; `times` steps in a row may ask for them."""

    cells: Annotated[tuple[Cells, ...], msgspec.Meta(min_length=1, max_length=100)]
    times: Annotated[int, msgspec.Meta(ge=1, le=MOST_PHASES)] = 1

    def __post_init__(self) -> None:
        by_name = {cells.name: cells for cells in self.cells}
        if len(by_name) != len(self.cells):
            raise ValueError("two tensors of a phase have one name")
        if self.size > _MOST_CELLS:
            raise ValueError(f"a phase has {self.size} numbers, and {_MOST_CELLS} are the most")
        for cells in self.cells:
            counted = by_name.get(cells.of)
            if cells.of and (counted is None or not counted.counts):
                raise ValueError(f"{cells.name!r} is of {cells.of!r}, which counts no rows of this phase")
            if counted is not None and cells.shape[: len(counted.shape)] != counted.shape:
                raise ValueError(f"the shape of {cells.name!r} does not begin with that of {cells.of!r}")
        for place, cells in enumerate(self.cells):
            if cells.within:
                before = {one.name: one for one in self.cells[:place] if one.counts and not one.overlapping}
                _check_within(cells, before.get(cells.within))

    @property
    def size(self) -> int:
        """Numbers in all tensors together."""
        return sum(cells.size for cells in self.cells)

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape by tensor."""
        return {cells.name: ("F64", cells.shape) for cells in self.cells}

    def deviation(self, cells: Cells, multiplier: float) -> float:
        """Standard deviation of the noise on each number of a tensor at one partner.

        Each tensor is scaled to what one row adds to it, so that a row adds a norm of the root of their number at most
        to all together, of which the noise is a `multiplier`.
        """
        return multiplier * math.sqrt(len(self.cells)) * cells.norm


def _check_within(cells: Cells, whole: Cells | None) -> None:
    if whole is None:
        raise ValueError(f"{cells.name!r} is within {cells.within!r}, which counts no rows before it in this phase")
    if not cells.parts:
        if cells.shape[: len(whole.shape)] != whole.shape:
            raise ValueError(f"the shape of {cells.name!r} does not begin with that of {cells.within!r}")
        return
    repeated = cells.size // len(cells.parts)
    if whole.size % repeated or max(cells.parts) >= whole.size // repeated:
        raise ValueError(f"{cells.name!r} has `parts` that {cells.within!r} has not")


class Shared(Value, frozen=True):
    """What all partners compute with: a background, a grid, edges. It is nobody's rows.

    `public`: known to everybody, `synthetic`: made from the schema alone, `noised`: a release with differential
    privacy. `says` is where it comes from, in words, for who approves the run and for who reads the result.
    """

    kind: Literal["public", "synthetic", "noised"]
    says: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    blob: bytes

    def __post_init__(self) -> None:
        if len(self.blob) > MOST_SHARED_BYTES:
            raise ValueError(f"what is shared has {len(self.blob)} bytes, and {MOST_SHARED_BYTES} are the most")
        if not self.says.isprintable():  # it stands on a terminal where somebody decides
            raise ValueError(f"where what is shared comes from has characters that cannot be shown: {self.says!a}")

    @staticmethod
    def of(kind: Literal["public", "synthetic", "noised"], says: str, arrays: dict[str, Array]) -> Shared:
        """These arrays; raises `ValueError` for what is too large."""
        return Shared(kind=kind, says=says, blob=encode_numpy(arrays))

    @property
    def told(self) -> str:
        """For a person: of what kind, where from, and that nobody but who asks knows it to be so.

        What is synthetic an analysis makes again and compares; of public rows and noised ones it cannot.
        """
        word = "" if self.kind == "synthetic" else ", by the word of who asks"
        return f"{self.kind}{word}: {self.says}"

    def arrays(self) -> dict[str, Array]:
        """The arrays, read-only; raises `BadInput` for bytes that hold none."""
        return Blob(self.blob).arrays()


class AskedAnalysis(Value, frozen=True):
    """What a plan's stage `explain` is about: code by its digest, the rows, the phases, what is shared.

    Without noise, cells of fewer than `least_count` rows at a partner are left out there; a partner whose policy asks
    for more refuses the plan, so that a result says what was left out of it. An analysis that is `repeated` counts rows
    in groups of at least `group` alike ones, so that no two of its steps differ by fewer.
    """

    name: Name
    digest: Digest
    phases: Annotated[tuple[Phase, ...], msgspec.Meta(min_length=1, max_length=MOST_PHASES)]
    rows: Literal["held_out", "train"] = "held_out"
    shared: Shared | None = None
    least_count: Annotated[int, msgspec.Meta(ge=1)] = 5
    group: Annotated[int, msgspec.Meta(ge=1)] = 1

    def __post_init__(self) -> None:
        if self.steps > MOST_PHASES:
            raise ValueError(f"an analysis of {self.steps} steps, and {MOST_PHASES} are the most")
        if self.group > 1 and not self.repeated:
            raise ValueError(f"`group` {self.group} is for searches, and {self.name} asks each of its tables once")

    @property
    def steps(self) -> int:
        """The most steps that the analysis takes."""
        return sum(phase.times for phase in self.phases)

    @property
    def repeated(self) -> bool:
        """Whether one phase is asked for more than once: of boxes or slices that lie in each other, each from the last.

        Two such steps may differ in one row, of which their difference tells.
        """
        return len(set(self.phases)) < self.steps


class Ask(Value, frozen=True):
    """What an analysis is asked: everything that decides its sums but the model and the rows.

    `seed` names its random streams; `options` are the stage's, checked by the analysis.
    """

    schema: Schema
    options: dict[str, Scalar] = {}
    seed: int = 0
    rows: Literal["held_out", "train"] = "held_out"
    shared: Shared | None = None

    def background(self) -> dict[str, Array]:
        """The shared arrays by name; none where nothing is shared."""
        return {} if self.shared is None else self.shared.arrays()


def phase_at(phases: tuple[Phase, ...], number: int) -> Phase:
    """The phase of a step, of which `number` came before; raises `BadInput` where there is none."""
    left = number
    for phase in phases:
        if 0 <= left < phase.times:
            return phase
        left -= phase.times
    raise BadInput("the analysis has no such step", code="explain.phase", value=number)
