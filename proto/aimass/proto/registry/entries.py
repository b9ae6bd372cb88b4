"""What stands in a registry: versions of models, and the aliases that point at them, as frozen documents.

A version is immutable and says all that somebody has to know before they rely on it: which parameters and task, how
good on what, where it comes from, what privacy it cost, and what it answers to the rows that it is smoke-tested with.
Each document stands in a `Signed` envelope; its digest is the SHA-256 of its canonical bytes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.bases import Base
from aimass.proto.manifest import Schema
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.plan import TaskRef
from aimass.proto.values import Value

__all__ = [
    "CHAMPION",
    "Alias",
    "AliasName",
    "Contributors",
    "HeldOut",
    "Interval",
    "ModelVersion",
    "Parent",
    "Part",
    "RegistryName",
    "Signed",
    "SmokeInputs",
    "Spent",
    "VersionRun",
]

CHAMPION: Final = "champion"
"""The alias that is meant where a person names a model alone: what is served."""

Number = Annotated[int, msgspec.Meta(ge=1, le=10**8 - 1)]
AliasName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,62}\\Z")]
"""Begins with a letter, so that no alias looks like a version's number."""
RegistryName = Annotated[str, msgspec.Meta(pattern="^([a-z][a-z0-9-]{0,62})?\\Z")]
"""By which people tell registries apart: prod, staging."""
Line = Annotated[str, msgspec.Meta(max_length=1_000, pattern="^[^\\x00-\\x1f\\x7f]*\\Z")]
"""Words for people, on one line."""


class Part(Value, frozen=True):
    """An object beside the documents, by its SHA-256 and size."""

    digest: Digest
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Interval(Value, frozen=True):
    """A metric's mean over so many held-out `rows`, and where its true value lies with 95 % confidence.

    `low` and `high` are None where nobody knows how the metric spreads from row to row.
    """

    mean: float
    rows: Annotated[float, msgspec.Meta(ge=0)]
    low: float | None = None
    high: float | None = None


class HeldOut(Value, frozen=True):
    """What the metrics were measured on: rows whose digest is known, or the `reason` why it is not."""

    digest: Digest | None = None
    reason: Line = ""


class Spent(Value, frozen=True):
    """What the training cost in differential privacy: (epsilon, delta) for one `unit`, as the `accountant` has it.

    Without an epsilon nothing is promised, for the `reason`; with one it says of what model the figure is, where none
    was at hand and that matters.
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0)] | None = None
    delta: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    unit: Line = ""
    accountant: Line = ""
    reason: Line = ""


class Contributors(Value, frozen=True):
    """Who contributed, as counts: `members` whose work is in the model, at least `fewest` of them in every round.

    They are partners of a federation, or shards of an offline run.
    """

    kind: Literal["partners", "shards"]
    members: Annotated[int, msgspec.Meta(ge=0)]
    fewest: Annotated[int, msgspec.Meta(ge=0)]


class VersionRun(Value, frozen=True):
    """The run that made the model: `rounds` until it, and the head of the history that says so."""

    run_id: RunId
    name: Name
    rounds: Annotated[int, msgspec.Meta(ge=0)]
    transcript_head: Line
    data_set: Line = ""


class Parent(Value, frozen=True):
    """The version that this one was trained on from, or replaces."""

    number: Number
    digest: Digest


class ModelVersion(Value, frozen=True):
    """NAME@number. `parameters` are its safetensors blob; `schema` is the task's, whole, None for a Flower app.

    `base` is the frozen model that the parameters need beside them. `manifest` is the run's `ModelManifest` as written,
    with the reference that drift is measured against; `smoke` the `SmokeInputs`. `card` is markdown, made from the
    rest. `by` is how the publisher calls itself: whose the signature is says the trust file.
    """

    name: Name
    number: Number
    task: TaskRef
    schema: Schema | None
    parameters: Part
    created_at: float
    by: Line
    held_out: HeldOut
    privacy: Spent
    metrics: dict[str, Interval] = {}
    base: Base | None = None
    run: VersionRun | None = None
    manifest: Part | None = None
    smoke: Part | None = None
    contributors: Contributors | None = None
    parent: Parent | None = None
    licence: Line = ""
    card: Annotated[str, msgspec.Meta(max_length=1 << 16)] = ""
    format: Literal[1] = 1


class Alias(Value, frozen=True):
    """NAME@alias names a version, by number and digest, from this state of the alias on. The highest `number` wins.

    `reason` is for who reads the history: "promoted: auc 0.91 against 0.88", "rolled back: ...". `registry` is the name
    of the registry that it was said of, as its promoter's trust file has it; empty where that names none.
    """

    model: Name
    alias: AliasName
    number: Number
    version: Number
    version_digest: Digest
    reason: Line
    at: float
    by: Line
    registry: RegistryName = ""
    format: Literal[1] = 1


class SmokeInputs(Value, frozen=True):
    """Rows by column, and what the model said of them: [rows, labels], of masks that of some pixels, each within
    `tolerance` (`closeness.apart`).

    The rows are made up from the schema, or public: nobody's. Cells are as a person writes them: numbers, categories
    and texts; images as base64 of their bytes; None where there is no value.
    """

    columns: dict[str, tuple[float | str | None, ...]]
    expected: tuple[tuple[float, ...], ...]
    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-6
    origin: Literal["synthetic", "public"] = "synthetic"
    format: Literal[1] = 1


class Signed(Value, frozen=True):
    """A document's exact bytes, whose key it is and the Ed25519 `signature` under its digest, both in hexadecimal.

    What was signed is the digest under a label of the document's kind (`aimass.privacy.model_trust`).
    """

    document: msgspec.Raw
    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}\\Z")]
    format: Literal[1] = 1
