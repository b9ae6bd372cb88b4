"""What a data set looks like: the schema that a task declares and the manifest of one partner's shard.

The schema is public and part of the task; the manifest stays at the partner and says where its rows are, under which
key the partner takes part, and the salt that fixes its held-out rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.names import Name, SchemaName
from aimass.proto.values import Value, canonical_json, convert, decode_toml

__all__ = [
    "UNLABELLED",
    "Category",
    "Column",
    "ColumnName",
    "Image",
    "Label",
    "Mask",
    "Number",
    "Salt",
    "Schema",
    "ShardManifest",
    "Text",
    "answer_shape",
    "read_shard_manifest",
    "shard_manifest_text",
]

ColumnName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z_][A-Za-z0-9_ .-]{0,62}\\Z")]
_WRITTEN: Final = ("name", "data_schema", "uris", "format", "participant", "salt", "held_out")
UNLABELLED: Final = 255
"""In a mask: nobody has said what this pixel is. Loss and measures leave it out."""
Salt = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class Number(Value, frozen=True, tag="number", tag_field="kind"):
    """A measured column. Bounds are public: they come from the domain, never from a partner's rows."""

    name: ColumnName
    minimum: float
    maximum: float
    unit: str = ""
    missing_values: tuple[float, ...] = ()
    required: bool = False

    def __post_init__(self) -> None:
        # A task writes 0 where JSON reads 0.0: one schema has one digest.
        msgspec.structs.force_setattr(self, "minimum", float(self.minimum))
        msgspec.structs.force_setattr(self, "maximum", float(self.maximum))
        msgspec.structs.force_setattr(self, "missing_values", tuple(map(float, self.missing_values)))
        if not (math.isfinite(self.minimum) and math.isfinite(self.maximum) and self.minimum < self.maximum):
            raise ValueError(f"bounds of {self.name!r} must be finite and minimum below maximum")


class Category(Value, frozen=True, tag="category", tag_field="kind"):
    """A column of a fixed set of texts; numbers and truth values are compared by their text."""

    name: ColumnName
    values: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    missing_values: tuple[str, ...] = ()
    required: bool = False


class Image(Value, frozen=True, tag="image", tag_field="kind"):
    """A column of bytes: unsigned 8-bit pixels of `shape`, row by row."""

    name: ColumnName
    shape: Annotated[tuple[int, ...], msgspec.Meta(min_length=2, max_length=3)]


class Text(Value, frozen=True, tag="text", tag_field="kind"):
    """A column of text that the task turns into tokens; `longest` bounds its characters, and none is empty."""

    name: ColumnName
    longest: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000


class Mask(Value, frozen=True, tag="mask", tag_field="kind"):
    """A label of each pixel: bytes of `shape` (height, width), row by row, each the place of its value or `UNLABELLED`.

    The first value is the ground that the others lie on.
    """

    name: ColumnName
    shape: Annotated[tuple[int, ...], msgspec.Meta(min_length=2, max_length=2)]
    values: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=UNLABELLED)]


Column = Number | Category | Image | Text
Label = Category | Number | Mask


class Schema(Value, frozen=True):
    """Columns of a table, and what to predict: a category or a number, or what each pixel of the one image is.

    The name carries a version: `heart/1`.
    """

    name: SchemaName
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1)]
    label: Label

    def __post_init__(self) -> None:
        names = [column.name for column in (*self.columns, self.label)]
        if len(set(names)) != len(names):
            raise ValueError("two columns share a name")
        if isinstance(self.label, Mask) and [image.shape[:2] for image in self.images] != [self.label.shape]:
            raise ValueError("a mask is the label of one image of its height and width")

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Measured columns in order."""
        return tuple(column for column in self.columns if isinstance(column, Number))

    @property
    def categories(self) -> tuple[Category, ...]:
        """Category columns in order."""
        return tuple(column for column in self.columns if isinstance(column, Category))

    @property
    def images(self) -> tuple[Image, ...]:
        """Image columns in order."""
        return tuple(column for column in self.columns if isinstance(column, Image))

    @property
    def texts(self) -> tuple[Text, ...]:
        """Text columns in order."""
        return tuple(column for column in self.columns if isinstance(column, Text))

    @property
    def classes(self) -> tuple[str, ...]:
        """The label's values in order, of a row or of each pixel; none where it is a number."""
        return () if isinstance(self.label, Number) else self.label.values

    @property
    def segments(self) -> bool:
        """Whether each pixel has a label."""
        return isinstance(self.label, Mask)

    @property
    def digest(self) -> str:
        """SHA-256 of the schema's canonical JSON."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


def answer_shape(schema: Schema) -> tuple[int, ...]:
    """What is said of one row: (labels,), (1,) where the label is a number, (labels, height, width) of masks."""
    planes = schema.label.shape if isinstance(schema.label, Mask) else ()
    return (max(len(schema.classes), 1), *planes)


class ShardManifest(Value, frozen=True):
    """One partner's data set, as its own file says.

    `name` is the key of the privacy ledger; `participant` orders the sum and names the random streams; `salt` with
    `held_out` fixes which rows are kept for evaluation. `uris` are files: `file://` URIs or paths, relative ones
    to the manifest's folder. `split` keeps the share of every label, or decides for each row by itself, as it has to be
    where privacy is accounted for: there one row more must move no other to the other side. `person` names the column
    that says whose each row is; it stands beside the schema's and never reaches a model.

    The format "files" has no rows: `uris` are files and folders, or none, that a Flower app may read here, and
    `node_config` is what it is told of this partner (where those files are, which part of the data this is).
    """

    name: Name
    data_schema: SchemaName
    uris: tuple[str, ...]
    format: Literal["csv", "parquet", "files"]
    participant: Name
    salt: Salt
    held_out: Annotated[float, msgspec.Meta(ge=0, le=0.9)] = 0.2
    split: Literal["stratified", "independent"] = "stratified"
    person: ColumnName | None = None
    node_config: dict[str, bool | int | float | str] = {}

    def __post_init__(self) -> None:
        if self.format == "files" and self.person is not None:
            raise ValueError('`person` names a column, and the format "files" has no rows')
        if self.format != "files" and not self.uris:
            raise ValueError("`uris` names no file")
        if self.format != "files" and self.node_config:
            raise ValueError('`node_config` is for Flower apps: it goes with the format "files"')


def shard_manifest_text(fields: Mapping[str, Any], what: str) -> str:
    """The TOML of a manifest with these fields, as `read_shard_manifest` reads it; raises `BadInput` as that does."""
    manifest = convert(ShardManifest, dict(fields), what)
    rows = [f"{key} = {_toml(getattr(manifest, key))}" for key in _WRITTEN]
    if manifest.split != "stratified":
        rows.append(f"split = {_toml(manifest.split)}")
    if manifest.person is not None:
        rows.append(f"person = {_toml(manifest.person)}")
    if manifest.node_config:
        rows += ["[node_config]", *(f"{_toml(key)} = {_toml(value)}" for key, value in manifest.node_config.items())]
    return "\n".join(rows) + "\n"


def _toml(value: object) -> str:
    """As JSON writes it, which is TOML but for two things: escapes of half a character, and a bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_shard_manifest(text: str, what: str) -> ShardManifest:
    """Decode a manifest's TOML; raises `BadInput` with the path of the fault."""
    manifest = decode_toml(ShardManifest, text, what)
    for uri in manifest.uris:
        if "://" in uri and not uri.startswith("file://"):
            raise BadInput(
                "no reader for this URI",
                code="manifest.uri",
                value=uri,
                limit="file:// or a path",
                cure="Copy the file to this machine's disk.",
            )
    return manifest
