"""A Flower RecordDict as our blobs and back, for both sides: types, names and order kept, arrays never copied twice.

A message is two blobs. The model blob is its first ArrayRecord, a canonical safetensors blob under the arrays' own
names; without one it is `EMPTY_MODEL`. The records blob is the rest: `index`, a U8 tensor with canonical JSON of the
message type, its group, all records in order and all values that are no arrays, and the arrays of further
ArrayRecords as `POSITION/NAME`. Messages of equal content have equal blobs. A reply or a kept state is one blob, or one
group of a contribution, in which the first ArrayRecord stands like the others.

An array is a tensor of its own dtype and shape. What safetensors or a sum has no type for is carried as its bytes (U8):
unsigned integers of several bytes, truth values in replies, and what is no `.npy` at all (legacy XGBoost trees). Names
must be printable ASCII without spaces. bfloat16, complex numbers and text are refused by name: numpy has no bfloat16,
so send it as float32. Numbers that are NaN or infinite are refused in replies, and carried in the config of messages.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
import numpy as np

from aimass.proto.contribution import LABEL, Contribution, Group
from aimass.proto.errors import LimitExceeded
from aimass.proto.flower.fields import NUMBERS, TYPES, Field, bad, check_once, field_of, values_of
from aimass.proto.hashing import digest_of
from aimass.proto.step import StepKind
from aimass.proto.tensors import DTYPE_BYTES, Array, Blob, blob_parts, encode_numpy, numpy_dtype
from aimass.proto.values import Value, decode_json, is_written

if TYPE_CHECKING:
    import flwr.app
    from flwr.app import ArrayRecord, RecordDict

__all__ = [
    "EMPTY_DIGEST",
    "EMPTY_MODEL",
    "REPLY",
    "WEIGHT",
    "Told",
    "check_reply",
    "kind_of",
    "measures_of",
    "node_id_of",
    "numbers_in",
    "numbers_of",
    "pack",
    "pack_reply",
    "pack_state",
    "run_id_of",
    "tensors_of",
    "unpack",
    "unpack_reply",
    "unpack_state",
    "weight_of",
]

Parts = list[bytes | memoryview]

EMPTY_MODEL: Final = encode_numpy({})
"""The model of a message without arrays, and of a plan whose app brings its own."""

EMPTY_DIGEST: Final = digest_of([EMPTY_MODEL])

REPLY: Final = "reply"
"""The one group of a plain reply's contribution, which has weight 1."""

WEIGHT: Final = "num-examples"
"""The metric that says what a reply counts for, and of a secure sum's one reply what all of them count for."""

_WEIGHTS: Final = (WEIGHT, "num_examples")  # of the newer strategies, of legacy ones

_INDEX: Final = "index"
_MOST_INDEX_BYTES: Final = 64 << 20
_MOST_GROUP: Final = 200
_NPY: Final = "numpy.ndarray"
_NPY_HEAD_BYTES: Final = 12 + (1 << 16)
_NATIVE: Final = frozenset(numpy_dtype(name) for name in DTYPE_BYTES if name != "BF16")
_SUMMABLE: Final = tuple(dtype.name for dtype in sorted(_NATIVE, key=str))
_TYPE: Final = re.compile(r"(train|evaluate|query)(\.[A-Za-z_][A-Za-z0-9_]{0,99})?")
_LEGACY_METRICS: Final = ("fitres.metrics", "evaluateres.metrics")
_LEGACY: Final = frozenset({"get_parameters", "get_properties"})


class _Bytes(Value, frozen=True):
    """What an array is that travels as bytes: Flower's own fields."""

    dtype: str
    shape: tuple[int, ...]
    stype: str


class _Arrays(Value, frozen=True, tag="arrays"):
    name: str
    arrays: tuple[str, ...]
    as_bytes: dict[str, _Bytes] = {}


class _Values(Value, frozen=True):
    name: str
    fields: tuple[Field, ...]


class _Metrics(_Values, frozen=True, tag="metrics"):
    types: ClassVar = NUMBERS


class _Config(_Values, frozen=True, tag="config"):
    types: ClassVar = TYPES


class _Index(Value, frozen=True):
    """Everything but the arrays' elements; `type` and `group` are empty for a reply and a state."""

    type: str
    records: tuple[_Arrays | _Metrics | _Config, ...]
    group: Annotated[str, msgspec.Meta(max_length=_MOST_GROUP)] = ""


class Told(NamedTuple):
    """What a message says: its type, its content, and the group that its sender counts it to (often the round)."""

    message_type: str
    content: RecordDict
    group_id: str


def node_id_of(name: str) -> int:
    """The node id of a partner: the first 63 bits of SHA-256 of its name, and never one that Flower has given away."""
    return max(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1, 2)


def run_id_of(run_id: str) -> int:
    """Flower's number of a run: the first 63 bits of ours."""
    return int(run_id[:16], 16) >> 1


def kind_of(message_type: str) -> StepKind:
    """What a partner is asked to do; raises `BadInput` for a type that no ClientApp may be sent."""
    found = _TYPE.fullmatch(message_type)
    if found:
        return StepKind(found[1])
    if message_type in _LEGACY:
        return StepKind.QUERY
    raise bad("a message type is not known", "type", message_type, "train, evaluate or query, with an action or none")


def pack(message_type: str, content: RecordDict, group_id: str = "") -> tuple[Parts, Parts]:
    """The model blob and the records blob of a message, in parts. Raises `BadInput` for what they cannot hold."""
    kind_of(message_type)
    if len(group_id) > _MOST_GROUP:
        raise bad("a message's group_id is too long", "group", len(group_id), _MOST_GROUP)
    index, tensors = _packed(message_type, content, finite=False)
    index = msgspec.structs.replace(index, group=group_id)
    first = _first(index)
    model = {name.partition("/")[2]: tensors.pop(name) for name in list(tensors) if name.startswith(f"{first}/")}
    return blob_parts(model)[1], blob_parts(tensors | {_INDEX: _json(index)})[1]


def unpack(model: Blob, records: Blob) -> Told:
    """What the message of two blobs says. Raises `BadInput` for blobs that `pack` does not make."""
    tensors = records.arrays()
    index = _index(tensors)
    kind_of(index.type)
    arrays = {f"{_first(index)}/{name}": array for name, array in model.arrays().items()}
    if odd := set(arrays) & set(tensors):
        raise bad("an array of the model stands among the records", "arrays", ", ".join(sorted(odd)[:5]))
    return Told(index.type, _unpacked(index, tensors | arrays), index.group)


def pack_reply(content: RecordDict) -> Contribution:
    """A plain reply. Raises `BadInput` for what it cannot hold, NaN and infinity among its values included."""
    return Contribution({REPLY: Group(1.0, _whole(content, finite=True))}, {}, {})


def unpack_reply(contribution: Contribution) -> RecordDict:
    """The content of a plain reply. Raises `BadInput` for a contribution that `pack_reply` does not make."""
    check_reply(contribution)
    return _read(contribution.groups[REPLY].tensors, finite=True)


def check_reply(contribution: Contribution) -> None:
    """Raise what `unpack_reply` raises, without flwr and without copying an array."""
    groups = contribution.groups
    if set(groups) != {REPLY} or groups[REPLY].weight != 1 or contribution.metrics or contribution.figures:
        raise bad("a reply is one group of weight 1 and nothing else", "reply", sorted(groups), REPLY)
    _check(_own_index(groups[REPLY].tensors), groups[REPLY].tensors, finite=True)


def numbers_of(contribution: Contribution) -> dict[str, float]:
    """The single numbers among the metrics of a plain reply, without flwr; legacy replies keep them in the config.

    Raises `BadInput` for a contribution that `pack_reply` does not make.
    """
    check_reply(contribution)
    records = _own_index(contribution.groups[REPLY].tensors).records
    return _numbers(
        values_of(record.fields, record.types, finite=True)
        for record in records
        if isinstance(record, _Metrics) or (isinstance(record, _Config) and record.name in _LEGACY_METRICS)
    )


def numbers_in(content: RecordDict) -> dict[str, float]:
    """The same of a reply that is no contribution yet."""
    metrics = content.metric_records.keys()
    return _numbers(record for name, record in content.items() if name in metrics or name in _LEGACY_METRICS)


def _numbers(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {
        key: float(value)
        for told in records
        for key, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def weight_of(numbers: Mapping[str, float]) -> float | None:
    """What a reply with these numbers says that it counts for."""
    return next((numbers[name] for name in _WEIGHTS if name in numbers), None)


def measures_of(numbers: Mapping[str, float]) -> dict[str, float]:
    """Those of the numbers that can be metrics of a contribution: all but weights and what is named otherwise."""
    return {name: value for name, value in numbers.items() if name not in _WEIGHTS and LABEL.fullmatch(name)}


def tensors_of(record: ArrayRecord) -> dict[str, Array]:
    """The elements of a record's arrays over their own bytes; raises `BadInput` for what travels as bytes alone."""
    tensors = {name: _tensor(name, array) for name, array in record.items()}
    if odd := [name for name, tensor in tensors.items() if tensor is None]:
        raise bad("arrays of this type cannot be added up", "not_summable", ", ".join(odd[:5]), ", ".join(_SUMMABLE))
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def pack_state(state: RecordDict) -> Parts:
    """A Context's state as one blob, in parts."""
    return blob_parts(_whole(state, finite=False))[1]


def unpack_state(blob: Blob) -> RecordDict:
    """The state that `pack_state` packed."""
    return _read(blob.arrays(), finite=False)


def _whole(content: RecordDict, *, finite: bool) -> dict[str, Array]:
    index, tensors = _packed("", content, finite=finite)
    return tensors | {_INDEX: _json(index)}


def _read(tensors: Mapping[str, Array], *, finite: bool) -> RecordDict:
    return _unpacked(_own_index(tensors), tensors, finite=finite)


def _own_index(tensors: Mapping[str, Array]) -> _Index:
    """The index of a reply or a state."""
    index = _index(tensors)
    if index.type:
        raise bad("a reply has no message type", "type", index.type)
    return index


def _first(index: _Index) -> int:
    """The position of the first ArrayRecord; -1 where there is none."""
    return next((position for position, record in enumerate(index.records) if isinstance(record, _Arrays)), -1)


# ---------------------------------------------------------------- from records


def _packed(message_type: str, content: RecordDict, *, finite: bool) -> tuple[_Index, dict[str, Array]]:
    """The index, and the arrays by position and name; truth values as bytes where `finite`, as no sum takes them."""
    from aimass.proto.flower.names import ArrayRecord, MetricRecord  # noqa: PLC0415

    records: list[_Arrays | _Metrics | _Config] = []
    tensors: dict[str, Array] = {}
    for position, (name, record) in enumerate(content.items()):
        if isinstance(record, ArrayRecord):
            as_bytes: dict[str, _Bytes] = {}
            for key, array in record.items():
                tensor = _tensor(key, array)
                if tensor is None or (finite and tensor.dtype == bool):
                    tensor = np.frombuffer(array.data, np.uint8)
                    as_bytes[key] = _Bytes(dtype=array.dtype, shape=tuple(array.shape), stype=array.stype)
                tensors[f"{position}/{key}"] = tensor
            records.append(_Arrays(name=name, arrays=tuple(record), as_bytes=as_bytes))
        else:
            fields = tuple(field_of(key, value, finite=finite) for key, value in record.items())
            records.append((_Metrics if isinstance(record, MetricRecord) else _Config)(name=name, fields=fields))
    return _Index(type=message_type, records=tuple(records)), tensors


def _tensor(name: str, array: flwr.app.Array) -> Array | None:
    """The elements over the array's own bytes; None for what travels as bytes."""
    if array.stype != _NPY:
        return None
    head = io.BytesIO(array.data[:_NPY_HEAD_BYTES])
    try:
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
        flat = np.frombuffer(array.data, dtype, math.prod(shape), head.tell())
    except ValueError as error:
        raise bad(f"the array {name!r} is no .npy of numbers", "array", array.dtype, "numbers but bfloat16") from error
    if head.tell() + flat.nbytes != len(array.data):
        raise bad(f"the array {name!r} is longer than its elements", "array", len(array.data))
    if dtype.newbyteorder("=") in _NATIVE:
        return flat.reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "u":
        return None
    raise bad(
        f"the array {name!r} holds no numbers that travel",
        "dtype",
        "bfloat16 or other raw bytes" if dtype.kind == "V" else dtype,
        "float16 to float64, integers, truth values",
        cure="Send bfloat16 as float32, and complex numbers as two arrays.",
    )


def _json(index: _Index) -> Array:
    data = msgspec.json.encode(index)
    if len(data) > _MOST_INDEX_BYTES:
        raise LimitExceeded(
            "the values of a message are too large",
            code="flower.index",
            value=len(data),
            limit=f"{_MOST_INDEX_BYTES} bytes",
            cure="Send large data as arrays.",
        )
    return np.frombuffer(data, np.uint8)


# ---------------------------------------------------------------- to records


def _index(tensors: Mapping[str, Array]) -> _Index:
    found = tensors.get(_INDEX)
    if found is None or found.dtype != np.uint8 or found.ndim != 1 or len(found) > _MOST_INDEX_BYTES:
        raise bad("it has no index", "index")
    data = found.tobytes()
    index = decode_json(_Index, data, "the index of records")
    if not is_written(index, data, msgspec.json.encode):
        raise bad("its index is not canonical", "not_canonical")
    return index


def _check(index: _Index, tensors: Mapping[str, Array], *, finite: bool) -> None:
    """Refuse an index whose arrays are others than these tensors, or whose values are not what they say."""
    check_once(record.name for record in index.records)
    named: set[str] = set()
    for position, record in enumerate(index.records):
        match record:
            case _Arrays():
                check_once(record.arrays)
                named |= {f"{position}/{name}" for name in record.arrays}
                _check_bytes(position, record, tensors)
            case _Metrics() | _Config():
                values_of(record.fields, record.types, finite=finite)
    if odd := (set(tensors) - {_INDEX}) ^ named:
        raise bad("its index names other arrays than it holds", "arrays", ", ".join(sorted(odd)[:5]))


def _check_bytes(position: int, record: _Arrays, tensors: Mapping[str, Array]) -> None:
    for name in record.as_bytes:
        tensor = tensors.get(f"{position}/{name}")
        if name not in record.arrays or tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1:
            raise bad(f"the array {name!r} is not the bytes that its index says", "array")


def _unpacked(index: _Index, tensors: Mapping[str, Array], *, finite: bool = False) -> RecordDict:
    from aimass.proto.flower.names import ConfigRecord, MetricRecord, RecordDict  # noqa: PLC0415

    _check(index, tensors, finite=finite)
    content = RecordDict()
    for position, record in enumerate(index.records):
        match record:
            case _Arrays():
                content[record.name] = _array_record(position, record, tensors)
            case _Metrics():
                content[record.name] = MetricRecord(values_of(record.fields, record.types, finite=finite))
            case _Config():
                content[record.name] = ConfigRecord(values_of(record.fields, record.types, finite=finite))
    return content


def _array_record(position: int, record: _Arrays, tensors: Mapping[str, Array]) -> ArrayRecord:
    from aimass.proto.flower.names import Array, ArrayRecord  # noqa: PLC0415

    arrays: dict[str, flwr.app.Array] = {}
    for name in record.arrays:
        tensor = tensors[f"{position}/{name}"]
        if (raw := record.as_bytes.get(name)) is not None:
            arrays[name] = Array(raw.dtype, raw.shape, raw.stype, tensor.tobytes())
        else:
            arrays[name] = Array(str(tensor.dtype), tensor.shape, _NPY, _npy(name, tensor))
    return ArrayRecord(arrays)


def _npy(name: str, tensor: Array) -> bytes:
    """The `.npy` file of a tensor, its elements copied once."""
    if tensor.dtype == np.uint16:
        raise bad(f"the array {name!r} is bfloat16, which numpy does not have", "dtype", "BF16")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(tensor))
    return b"".join((head.getvalue(), np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data))
