"""A folder of images as rows: `LABEL/.../FILE`, in the order of their paths, decoded a batch at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from aimass.proto.errors import BadInput
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import Image, Schema
from aimass.proto.rows import check_columns

__all__ = ["ImageFolder"]

ENDINGS: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_LOSSLESS: Final = {"1": ("L",), "P": ("RGB", "RGBA"), "L": ("RGB",)}
"""What a file's mode becomes where the schema wants another, and nothing is lost by it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFolder:
    """Images below folders that are named by their labels; hidden files and folders are not read."""

    path: Path

    @property
    def name(self) -> str:
        """Its name without those above it."""
        return self.path.absolute().name

    def files(self) -> list[Path]:
        """The images, in the order of their paths' bytes."""
        found = [
            path
            for path in self.path.glob("*/**/*")
            if path.suffix.lower() in ENDINGS and path.is_file() and not _hidden(path.relative_to(self.path))
        ]
        return sorted(found, key=lambda path: os.fsencode(path.relative_to(self.path)))

    def stamp(self) -> tuple[Any, ...]:
        """Their bytes, how many they are, and when the last was written."""
        found = [path.stat() for path in self.files()]
        return sum(each.st_size for each in found), len(found), max((each.st_mtime_ns for each in found), default=0)

    def digest(self) -> str:
        """SHA-256 over each image's path and SHA-256, in their order."""
        hasher = hashlib.sha256()
        for path in self.files():
            name = os.fsencode(path.relative_to(self.path))
            hasher.update(len(name).to_bytes(4, "big") + name + bytes.fromhex(file_digest(path)))
        return hasher.hexdigest()

    def batches(self, names: Sequence[str], schema: Schema, batch_rows: int) -> Iterator[Any]:
        """Batches of the image column and the label, which is the name of the folder that an image stands in.

        What cannot be decoded, or has another size or other colours than the schema's, comes as no bytes, and is
        found so. Raises `BadInput` for a schema that has more than an image and a label.
        """
        if len(schema.images) != 1 or schema.segments:
            raise BadInput(
                "a folder of images is read for a schema with one image column and one label for each",
                code="dataset.images",
                value=schema.name,
                cure="Take a task on images, or write the rows as Parquet.",
            )
        column = schema.images[0]
        check_columns([column.name, schema.label.name], names)
        files = self.files()
        for start in range(0, len(files), batch_rows):
            batch = files[start : start + batch_rows]
            images = pa.array([_pixels(path, column) for path in batch], pa.binary())
            labels = pa.array([path.relative_to(self.path).parts[0] for path in batch], pa.string())
            yield pa.RecordBatch.from_pydict({column.name: images, schema.label.name: labels})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _pixels(path: Path, column: Image) -> bytes:
    from PIL import Image as Picture  # noqa: PLC0415  (only folders of images need it)

    height, width, *channels = column.shape
    mode = _MODES.get(channels[0] if channels else 1)
    try:
        with Picture.open(path) as opened:
            if opened.size != (width, height) or mode is None:  # before anything is decoded
                return b""
            if opened.mode != mode:
                return opened.convert(mode).tobytes() if mode in _LOSSLESS.get(opened.mode, ()) else b""
            return opened.tobytes()
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return b""
