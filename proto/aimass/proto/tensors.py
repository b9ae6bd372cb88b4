"""The parameters of a model as one canonical safetensors blob: one model, one digest, no copy to read it.

Layout (safetensors 0.x): u64 little-endian header length, a JSON header, the tensors' bytes. Of all the headers that
safetensors admits, exactly one is canonical here: tensors ordered by descending element size, then by name (so every
view is aligned); no `__metadata__`; keys in the order dtype, shape, data_offsets; no white space but the padding with
spaces to a multiple of eight. The decoder refuses everything else, so equal models have equal bytes and digests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput, LimitExceeded, NotFound

if TYPE_CHECKING:
    import torch

__all__ = [
    "DTYPE_BYTES",
    "MAX_HEADER_BYTES",
    "Blob",
    "Buffer",
    "Form",
    "Layout",
    "TensorSpec",
    "blob_parts",
    "encode_numpy",
    "encode_torch",
    "numpy_dtype",
    "odd_forms",
    "read_arrays",
    "read_layout",
    "torch_dtype_name",
    "torch_forms",
    "torch_parts",
]

Buffer = bytes | bytearray | memoryview
Array = npt.NDArray[Any]
Form = tuple[str, tuple[int, ...]]
"""A tensor's element type and shape."""

DTYPE_BYTES: Final[Mapping[str, int]] = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""The element types that a model may hold, with their sizes in bytes."""

_NUMPY: Final[Mapping[str, str]] = {
    "F64": "<f8",
    "I64": "<i8",
    "F32": "<f4",
    "I32": "<i4",
    "F16": "<f2",
    "BF16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_FROM_NUMPY: Final[Mapping[str, str]] = {text: name for name, text in _NUMPY.items()}

_TORCH: Final[Mapping[str, str]] = {
    "F64": "float64",
    "I64": "int64",
    "F32": "float32",
    "I32": "int32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_FROM_TORCH: Final[Mapping[str, str]] = {text: name for name, text in _TORCH.items()}

MAX_HEADER_BYTES: Final = 16 << 20
MAX_DIMENSIONS: Final = 32
_MAX_NAME: Final = 512
_MAX_BYTES: Final = 1 << 48
_NAME: Final = re.compile(r"[\x21-\x7e]+")
_KEYS: Final = ["dtype", "shape", "data_offsets"]


@dataclasses.dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of a tensor, and where its bytes stand after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int = 0

    @property
    def count(self) -> int:
        """Number of elements; 1 for a 0-d tensor."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the elements."""
        return self.count * DTYPE_BYTES[self.dtype]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where each tensor of a canonical blob stands. `of` lays tensors out, `read_layout` reads a header."""

    tensors: tuple[TensorSpec, ...]

    @staticmethod
    def of(tensors: Iterable[TensorSpec]) -> Layout:
        """The canonical layout of `tensors`; raises `BadInput` for names, types or shapes that it cannot hold."""
        ordered = sorted(tensors, key=_order)
        placed: list[TensorSpec] = []
        offset = 0
        for spec in ordered:
            _check_spec(spec)
            if placed and placed[-1].name == spec.name:
                raise _bad("names a tensor twice", "duplicate", spec.name)
            placed.append(dataclasses.replace(spec, start=offset, stop=offset + spec.bytes))
            offset += spec.bytes
        if len({spec.name for spec in placed}) != len(placed):
            raise _bad("names a tensor twice", "duplicate")
        return Layout(tuple(placed))

    @cached_property
    def header(self) -> bytes:
        """The canonical header with its length in front."""
        entries = {
            spec.name: {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [spec.start, spec.stop]}
            for spec in self.tensors
        }
        text = json.dumps(entries, separators=(",", ":")).encode("ascii")
        text += b" " * (-len(text) % 8)
        if len(text) > MAX_HEADER_BYTES:
            raise LimitExceeded(
                "the header is too large", code="tensors.header_size", value=len(text), limit=MAX_HEADER_BYTES
            )
        return len(text).to_bytes(8, "little") + text

    @property
    def data_bytes(self) -> int:
        """Size of all tensors."""
        return self.tensors[-1].stop if self.tensors else 0

    @property
    def total_bytes(self) -> int:
        """Size of the whole blob."""
        return len(self.header) + self.data_bytes

    @cached_property
    def by_name(self) -> Mapping[str, TensorSpec]:
        """The tensors by name."""
        return {spec.name: spec for spec in self.tensors}

    def shapes(self) -> dict[str, Form]:
        """Element type and shape by name: what two blobs must share to be added."""
        return {spec.name: (spec.dtype, spec.shape) for spec in self.tensors}


def _order(spec: TensorSpec) -> tuple[int, str]:
    return -DTYPE_BYTES.get(spec.dtype, 0), spec.name


def _bad(what: str, code: str, value: object = None, limit: object = None) -> BadInput:
    return BadInput(
        f"the safetensors blob {what}",
        code=f"tensors.{code}",
        value=value,
        limit=limit,
        cure="Write it with aimass.proto.tensors.",
    )


def _check_spec(spec: TensorSpec) -> None:
    if spec.dtype not in DTYPE_BYTES:
        raise _bad(f"has an unknown dtype in {spec.name!r}", "dtype", spec.dtype, ", ".join(DTYPE_BYTES))
    if not _NAME.fullmatch(spec.name) or len(spec.name) > _MAX_NAME or spec.name == "__metadata__":
        raise _bad("has a tensor name that is not printable ASCII", "name", ascii(spec.name), f"{_MAX_NAME} characters")
    if len(spec.shape) > MAX_DIMENSIONS:
        raise _bad(f"has too many dimensions in {spec.name!r}", "shape", len(spec.shape), MAX_DIMENSIONS)
    # bool is an int in Python: a shape of [true] must not pass for [1].
    if any(type(size) is not int or size < 0 or size > _MAX_BYTES for size in spec.shape):
        raise _bad(f"has an impossible shape in {spec.name!r}", "shape", spec.shape)
    if spec.bytes > _MAX_BYTES:
        raise _bad(f"has an impossible size in {spec.name!r}", "shape", spec.shape, f"{_MAX_BYTES} bytes")


def read_layout(head: Buffer, total_bytes: int) -> Layout:
    """Strictly read the header at the start of `head`, of a blob of `total_bytes`.

    Raises `BadInput` for anything that is not the one canonical header of its tensors, or whose tensors do not fill
    the blob to its last byte; `LimitExceeded` for a header above `MAX_HEADER_BYTES`, before anything is read.
    """
    view = memoryview(head)
    if total_bytes < 8 or len(view) < 8:
        raise _bad("is shorter than its length field", "short", total_bytes, "8 bytes")
    size = int.from_bytes(view[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise LimitExceeded(
            "the safetensors header is too large", code="tensors.header_size", value=size, limit=MAX_HEADER_BYTES
        )
    if 8 + size > total_bytes or 8 + size > len(view):
        raise _bad("ends inside its header", "short", total_bytes, 8 + size)
    layout = Layout.of(_entries(bytes(view[8 : 8 + size])))
    if layout.header != bytes(view[: 8 + size]):
        raise _bad("has a header that is not canonical (order, offsets, holes, overlaps or spacing)", "not_canonical")
    if layout.total_bytes != total_bytes:
        raise _bad("is longer or shorter than its tensors", "size", total_bytes, layout.total_bytes)
    return layout


def _entries(text: bytes) -> list[TensorSpec]:
    try:
        entries = json.loads(text.decode("ascii"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        if isinstance(error, _DuplicateError):
            raise _bad("names a tensor twice", "duplicate", error.args[0]) from error
        raise _bad("has a header that is not JSON in ASCII", "json") from error
    if not isinstance(entries, dict):
        raise _bad("has a header that is not an object", "json")
    return [_entry(name, entry) for name, entry in entries.items()]


class _DuplicateError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _DuplicateError(next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1))
    return fields


def _entry(name: str, entry: object) -> TensorSpec:
    if not isinstance(entry, dict) or list(entry) != _KEYS:
        raise _bad(f"does not describe {name!r} by {', '.join(_KEYS)}", "entry")
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise _bad(f"describes {name!r} with wrong types", "entry")
    return TensorSpec(name, dtype, tuple(shape))


class Blob:
    """A read view of a canonical blob over any buffer, a memory map included; nothing is copied.

    Raises what `read_layout` raises. Arrays are read-only; bfloat16 is shown to numpy as its uint16 bits.
    """

    def __init__(self, buffer: Any) -> None:
        self._view = memoryview(buffer).cast("B").toreadonly()
        self.layout = read_layout(self._view, len(self._view))
        self._start = len(self.layout.header)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole blob in hexadecimal, over the bytes that are read here."""
        return hashlib.sha256(self._view).hexdigest()

    @property
    def data(self) -> memoryview:
        """The whole blob, read-only."""
        return self._view

    def raw(self, name: str) -> memoryview:
        """The bytes of one tensor."""
        spec = self.layout.by_name.get(name)
        if spec is None:
            raise NotFound("no such tensor", code="tensors.unknown", value=name)
        return self._view[self._start + spec.start : self._start + spec.stop]

    def numpy(self, name: str) -> Array:
        """One tensor as a read-only array over the blob's own bytes."""
        raw = self.raw(name)
        spec = self.layout.by_name[name]
        return np.frombuffer(raw, dtype=_NUMPY[spec.dtype]).reshape(spec.shape)

    def arrays(self) -> dict[str, Array]:
        """All tensors by name, as `numpy` gives them."""
        return {spec.name: self.numpy(spec.name) for spec in self.layout.tensors}

    def torch(self, name: str) -> torch.Tensor:
        """One tensor over the blob's own bytes; torch cannot mark it read-only: do not write to it."""
        import torch  # noqa: PLC0415  (a partner's daemon reads layouts without loading torch)

        raw = self.raw(name)
        spec = self.layout.by_name[name]
        dtype = _torch_dtype(spec.dtype)
        if spec.count == 0:
            return torch.empty(spec.shape, dtype=dtype)
        with warnings.catch_warnings():
            # torch warns of memory that is not writable; nobody writes to a blob.
            warnings.simplefilter("ignore", UserWarning)
            flat = torch.frombuffer(raw, dtype=torch.uint8)
        return flat.view(dtype).reshape(spec.shape)


def torch_forms(tensors: Mapping[str, torch.Tensor]) -> dict[str, Form]:
    """Element type and shape by name, as `Layout.shapes` gives them."""
    return {name: (torch_dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}


def odd_forms(found: Mapping[str, Form], expected: Mapping[str, Form]) -> list[str]:
    """The names of which only one side has a tensor, or has another one."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def torch_dtype_name(dtype: torch.dtype) -> str:
    """The safetensors name of a torch element type; raises `BadInput` for one that a model may not hold."""
    name = str(dtype).removeprefix("torch.")
    if name not in _FROM_TORCH:
        raise _bad("cannot hold this dtype", "dtype", dtype, ", ".join(DTYPE_BYTES))
    return _FROM_TORCH[name]


def _torch_dtype(name: str) -> torch.dtype:
    import torch  # noqa: PLC0415

    dtype: torch.dtype = getattr(torch, _TORCH[name])
    return dtype


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy element type of `name`; bfloat16 as uint16."""
    return np.dtype(_NUMPY[name])


def encode_numpy(arrays: Mapping[str, Array]) -> bytes:
    """The canonical blob of `arrays`, uint16 being the bits of bfloat16; raises `BadInput` for other element types."""
    return b"".join(blob_parts(arrays)[1])


def blob_parts(arrays: Mapping[str, Array]) -> tuple[Layout, list[bytes | memoryview]]:
    """The same blob as its layout and its parts in order: header and tensors, none of them copied."""
    layout = Layout.of(TensorSpec(name, _dtype_name(array.dtype), array.shape) for name, array in arrays.items())
    ordered = (np.ascontiguousarray(arrays[spec.name], dtype=_NUMPY[spec.dtype]) for spec in layout.tensors)
    return layout, [layout.header, *(array.reshape(-1).view(np.uint8).data for array in ordered)]


def read_arrays(buffer: Buffer) -> dict[str, Array]:
    """The tensors of any safetensors file, canonical or not, over its own bytes: what other programs wrote.

    Metadata, which says nothing of the numbers, is passed over. Raises `BadInput` for what is no such file.
    """
    view = memoryview(buffer).cast("B")
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 or size > min(MAX_HEADER_BYTES, len(view) - 8):
        raise _bad("ends inside its header", "short", len(view), 8 + size)
    try:
        entries = json.loads(bytes(view[8 : 8 + size]), object_pairs_hook=_no_duplicates)
        entries.pop("__metadata__", None)
        return {name: _array(view[8 + size :], **entry) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _bad(f"cannot be read: {error}", "json") from error


def _array(data: memoryview, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    start, stop = data_offsets
    if not 0 <= start <= stop <= len(data):
        raise ValueError("a tensor stands beyond its end")
    return np.frombuffer(data[start:stop], dtype=_NUMPY[dtype]).reshape(shape)


def encode_torch(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The canonical blob of `tensors` (a state dict), from any device; bfloat16 is kept bit for bit."""
    return b"".join(torch_parts(tensors))


def torch_parts(tensors: Mapping[str, torch.Tensor]) -> list[bytes | memoryview]:
    """The same in parts, over the memory of tensors that are on the CPU."""
    import torch  # noqa: PLC0415

    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        local = tensor.detach().to("cpu").contiguous()
        arrays[name] = local.view(torch.uint16).numpy() if local.dtype == torch.bfloat16 else local.numpy()
    return blob_parts(arrays)[1]


def _dtype_name(dtype: np.dtype[Any]) -> str:
    name = _FROM_NUMPY.get(dtype.newbyteorder("<").str if dtype.itemsize > 1 else dtype.str)
    if name is None:
        raise _bad("cannot hold this dtype", "dtype", dtype, ", ".join(DTYPE_BYTES))
    return name
