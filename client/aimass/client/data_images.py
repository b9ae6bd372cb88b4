"""What becomes of the public images with masks: tiles of one photograph of nuclei, slices of one head.

Neighbours are alike, so tiles and blocks of slices lie apart: what is trained on and what is held out never share a
nucleus, nor a block. One image and one head show how things look and say nothing of others.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.data_texts import Columns
from aimass.proto.errors import IntegrityError
from aimass.proto.tensors import encode_numpy

__all__ = ["BRAIN_CLASSES", "brain", "nuclei"]

_SIDE: Final = 512
_STRIP: Final = 256
"""Where the pixels of the photograph's files begin: one strip of 16-bit numbers, as their digests pin it."""
_TILE: Final = 56
_GAP: Final = 35
"""Between tiles; the longest nucleus has 39 pixels, and none lies in two tiles."""
_THIRDS: Final = ("left", "middle", "right")

BRAIN_CLASSES: Final = ("other", "cortex", "deep grey", "cerebellum")
_DEEP: Final = frozenset({37, 38, 41, 42, *range(71, 79)})
"""Hippocampus, amygdala, caudate, putamen, pallidum, thalamus: numbers of the atlas AAL (Tzourio-Mazoyer 2002)."""
_CEREBELLUM: Final = range(91, 117)
_BLOCK: Final = 3
_BETWEEN: Final = 2
"""Slices of 2 mm that belong together, and those left out before the next block."""
_PHOTOGRAPH: Final = "one photograph of nuclei"
_HEAD: Final = "one head"
_VOXEL_MM: Final = 2.0
_OWNERS: Final = ("first", "second", "third")
_PARTS: Final = ("lower", "middle", "upper")


def nuclei(files: Mapping[str, bytes]) -> dict[str, Columns | bytes]:
    """36 tiles of 56 by 56 pixels: `image`, `mask` (0 ground, 1 nucleus) and `instances` (nuclei of a tile from 1).

    `owner` is the third of the photograph, `row` and `column` are a tile's upper left pixel. The whole is
    `photograph.safetensors`.
    """
    photograph, numbered = (_tiff(files[f"stardist/data/images/{name}2d.tif"]) for name in ("img", "mask"))
    starts = range(0, _SIDE - _TILE + 1, _TILE + _GAP)
    table: Columns = {name: [] for name in ("image", "mask", "instances", "owner", "row", "column", "source")}
    for top in starts:
        for place, left in enumerate(starts):
            cut = slice(top, top + _TILE), slice(left, left + _TILE)
            inside = _renumbered(numbered[cut])
            table["image"].append(photograph[cut].astype(np.uint8).tobytes())
            table["mask"].append((inside > 0).astype(np.uint8).tobytes())
            table["instances"].append(inside.tobytes())
            table["owner"].append(_THIRDS[place * len(_THIRDS) // len(starts)])
            table["row"].append(top)
            table["column"].append(left)
            table["source"].append(_PHOTOGRAPH)
    whole: dict[str, npt.NDArray[Any]] = {
        "image": photograph.astype(np.uint8),
        "instances": numbered.astype(np.int32),
    }
    return {"tiles.parquet": table, "photograph.safetensors": encode_numpy(whole)}


def _renumbered(instances: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """From 1 on without a gap; 0 stays."""
    there = np.unique(instances[instances > 0])
    return np.where(instances > 0, np.searchsorted(there, instances) + 1, 0).astype(np.uint8)


def _tiff(data: bytes) -> npt.NDArray[np.uint16]:
    """The pixels of a file that is known to the byte: 512 by 512 in one uncompressed strip."""
    pixels: npt.NDArray[np.uint16] = np.frombuffer(data, "<u2", _SIDE * _SIDE, _STRIP).reshape(_SIDE, _SIDE)
    return pixels


def brain(files: Mapping[str, bytes]) -> dict[str, Columns | bytes]:
    """Axial slices of one T1 image at 2 mm, 108 by 90 pixels: `image` and `mask` (places in `BRAIN_CLASSES`).

    The atlas does not say what is no grey matter: white matter, skull and air are `other`. `block` names slices that
    belong together; blocks go to each `owner` in turn, so that all have every `part` of the head. `slice` counts from
    below, `slice_mm`, `row_mm` and `column_mm` are a voxel's size. The whole is `head.safetensors`.
    """
    folder = "usr/share/mricron/templates"
    image = _halved(_nifti(files[f"{folder}/ch2.nii.gz"]).astype(np.float64))
    atlas = _nifti(files[f"{folder}/aal.nii.gz"])
    shares = [_halved((_grouped(atlas) == place).astype(np.float64)) for place in range(len(BRAIN_CLASSES))]
    voxels, mask = np.rint(image).astype(np.uint8), np.argmax(shares, axis=0).astype(np.uint8)
    step, blocks = _BLOCK + _BETWEEN, len(voxels) // (_BLOCK + _BETWEEN)
    kept = [place for place in range(blocks * step) if place % step < _BLOCK]
    table: Columns = {
        "image": [voxels[place].tobytes() for place in kept],
        "mask": [mask[place].tobytes() for place in kept],
        "block": [f"slices {place // step * step} to {place // step * step + _BLOCK - 1}" for place in kept],
        "owner": [_OWNERS[place // step % len(_OWNERS)] for place in kept],
        "part": [_PARTS[place // step * len(_PARTS) // blocks] for place in kept],
        "slice": kept,
        "source": [_HEAD] * len(kept),
        **{f"{axis}_mm": [_VOXEL_MM] * len(kept) for axis in ("slice", "row", "column")},
    }
    return {"slices.parquet": table, "head.safetensors": encode_numpy({"image": voxels, "mask": mask})}


def _grouped(atlas: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Places in `BRAIN_CLASSES` of the atlas' 116 regions."""
    groups = np.ones(256, np.uint8)
    groups[0] = 0
    groups[list(_DEEP)] = 2
    groups[list(_CEREBELLUM)] = 3
    grouped: npt.NDArray[np.uint8] = groups[atlas]
    return grouped


def _halved(volume: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means of 2 by 2 by 2 voxels; an odd last one is left out."""
    depth, height, width = (size // 2 for size in volume.shape)
    cut = volume[: 2 * depth, : 2 * height, : 2 * width]
    return np.asarray(cut.reshape(depth, 2, height, 2, width, 2).mean(axis=(1, 3, 5)))


def _nifti(packed: bytes) -> npt.NDArray[np.uint8]:
    """Voxels [slice, row, column] of a NIfTI-1 file of unsigned bytes."""
    data = gzip.decompress(packed)
    length, unsigned_byte = struct.unpack_from("<i", data)[0], 2
    axes, *sizes = struct.unpack_from("<4h", data, 40)
    kind, offset = struct.unpack_from("<h", data, 70)[0], struct.unpack_from("<f", data, 108)[0]
    if (length, axes, kind, data[344:347]) != (348, 3, unsigned_byte, b"n+1"):
        raise IntegrityError("not a NIfTI-1 volume of unsigned bytes", code="data.nifti", value=data[344:348].hex())
    voxels: npt.NDArray[Any] = np.frombuffer(data, np.uint8, int(np.prod(sizes)), int(offset))
    return voxels.reshape(sizes[::-1])[:, ::-1]  # rows from the front of the head down, as people look at it
