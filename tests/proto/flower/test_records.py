from __future__ import annotations

import contextlib
import math
from typing import Any

import hypothesis
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aimass.proto.contribution import Contribution, Group, Limits, check_contribution, decode_contribution
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.flower import records
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy

FINITE = st.floats(allow_nan=False, allow_infinity=False)
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
NAMES = st.text(max_size=12)
TENSORS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8", "?", ">f4", ">i8")


def _arrays() -> st.SearchStrategy[ArrayRecord]:
    array = st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    )
    return st.dictionaries(TENSORS, array.map(Array), max_size=4).map(ArrayRecord)


def _many(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, max_size=3)


def _records(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[RecordDict]:
    metrics = st.dictionaries(NAMES, _many(INTS) | _many(numbers), max_size=4).map(MetricRecord)
    scalars = (INTS, numbers, st.text(), st.binary(), st.booleans())
    config = st.dictionaries(NAMES, st.one_of([_many(each) for each in scalars]), max_size=4).map(ConfigRecord)
    return st.dictionaries(NAMES, _arrays() | metrics | config, max_size=5).map(RecordDict)


def _seen(content: RecordDict) -> list[tuple[Any, ...]]:
    """All that a reader can tell: order, types, values to the last bit."""
    return [
        (
            name,
            type(record),
            [
                (key, value.numpy().shape, value.numpy().dtype.newbyteorder("="), value.numpy().tolist())
                if isinstance(value, Array)
                else (key, type(value), [type(each) for each in value] if isinstance(value, list) else (), value)
                for key, value in record.items()
            ],
        )
        for name, record in content.items()
    ]


def _sent(message_type: str, content: RecordDict, group_id: str = "") -> records.Told:
    model, rest = (b"".join(parts) for parts in records.pack(message_type, content, group_id))
    return records.unpack(Blob(model), Blob(rest))


@hypothesis.given(_records(FINITE))
@hypothesis.settings(max_examples=150, deadline=None)
def test_a_message_comes_as_it_was_sent(content: RecordDict) -> None:
    kind, back, group = _sent("train.foo", content, "12")
    assert (kind, group) == ("train.foo", "12")
    assert str(_seen(back)) == str(_seen(content))  # as text: NaN is no number that equals itself


@hypothesis.given(_records(FINITE))
@hypothesis.settings(max_examples=100, deadline=None)
def test_a_reply_comes_as_it_was_made_through_the_bytes_of_a_contribution(content: RecordDict) -> None:
    data = records.pack_reply(content).encode()
    assert str(_seen(records.unpack_reply(decode_contribution(Blob(data))))) == str(_seen(content))


def test_a_state_comes_as_it_was_kept() -> None:
    state = RecordDict({"calls": MetricRecord({"n": 2}), "more": ArrayRecord([np.zeros(2)])})
    assert records.unpack_state(Blob(b"".join(records.pack_state(state)))) == state


def test_the_model_blob_is_the_first_array_record_under_its_own_names() -> None:
    arrays: dict[str, np.ndarray] = {
        "net.0.weight": np.ones((2, 2), np.float32),
        "net.0.bias": np.zeros(2),
        "steps": np.array(7),
    }
    first = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    content = RecordDict({"config": ConfigRecord({"lr": 0.1}), "arrays": first, "more": ArrayRecord([np.ones(1)])})
    model, _ = records.pack("train", content)
    assert b"".join(model) == encode_numpy(arrays)


def test_a_message_without_arrays_has_the_empty_model() -> None:
    model, _ = records.pack("query.about", RecordDict({"config": ConfigRecord({"a": 1})}))
    assert b"".join(model) == records.EMPTY_MODEL
    assert _sent("query.about", RecordDict())[1] == RecordDict()


def test_arrays_of_a_list_keep_their_order_beyond_nine() -> None:
    content = RecordDict({"arrays": ArrayRecord([np.full(1, float(n)) for n in range(12)])})
    back = _sent("train", content)[1]
    assert [float(array[0]) for array in back["arrays"].to_numpy_ndarrays()] == list(range(12))


def test_numbers_that_are_not_finite_are_carried_in_messages_and_refused_in_replies() -> None:
    content = RecordDict({"config": ConfigRecord({"best": math.inf, "all": [1.0, -math.inf, math.nan]})})
    back = _sent("train", content)[1]["config"]
    assert back["best"] == math.inf
    assert str(back["all"]) == "[1.0, -inf, nan]"
    for value in (math.nan, math.inf, [1.0, math.nan]):
        with pytest.raises(BadInput, match="'loss' is not finite") as refused:
            records.pack_reply(RecordDict({"metrics": MetricRecord({"loss": value})}))
        assert refused.value.code == "flower.not_finite"


def test_a_reply_that_says_nan_all_the_same_is_refused_where_it_is_read() -> None:
    honest = records.pack_reply(RecordDict({"metrics": MetricRecord({"loss": 0.5})}))
    index = honest.groups["reply"].tensors["index"].tobytes().replace(b"0.5", b'"nan"')
    forged = Contribution({"reply": Group(1.0, {"index": np.frombuffer(index, np.uint8)})}, {}, {})
    with pytest.raises(BadInput, match="not finite"):
        records.unpack_reply(forged)


def test_a_replys_arrays_pass_the_check_of_contributions_and_nan_in_them_does_not() -> None:
    arrays = {"w": np.ones(3), "flag": np.array([True]), "n": np.array([1 << 40], np.uint64), "i": np.array(3)}
    content = RecordDict({"arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()})})
    check_contribution(records.pack_reply(content), None, Limits(norm=math.inf))
    content["arrays"]["w"] = Array(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(BadInput, match="NaN or infinity"):
        check_contribution(records.pack_reply(content), None, Limits(norm=math.inf))


@pytest.mark.parametrize("array", [np.zeros(2, np.complex64), np.array(["a"]), np.zeros(2, "V2")])
def test_elements_that_do_not_travel_are_named_with_the_cure(array: np.ndarray) -> None:
    content = RecordDict({"arrays": ArrayRecord({"odd": Array(array)})})
    with pytest.raises(BadInput, match=r"'odd' .*numbers") as refused:
        records.pack("train", content)
    assert refused.value.code in {"flower.dtype", "flower.array"}


def test_a_model_of_bfloat16_is_refused_by_name() -> None:
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(2, np.float16))})})
    _, rest = records.pack("train", content)
    with pytest.raises(BadInput, match="'w' is bfloat16"):
        records.unpack(Blob(encode_numpy({"w": np.zeros(2, np.uint16)})), Blob(b"".join(rest)))


def test_what_is_no_npy_is_carried_as_the_bytes_that_it_is() -> None:
    trees = ArrayRecord({"0": Array("", (), "", b'{"trees": []}'), "_empty": Array("", (), "numpy.tree", b"")})
    assert _sent("train", RecordDict({"fitins.parameters": trees}))[1]["fitins.parameters"] == trees


def test_an_array_whose_bytes_are_cut_or_padded_is_refused() -> None:
    whole = Array(np.arange(4.0))
    for data in (whole.data[:-1], whole.data + b"x", b"no npy", b""):
        content = RecordDict({"arrays": ArrayRecord({"w": Array(whole.dtype, whole.shape, whole.stype, data)})})
        with pytest.raises(BadInput, match="'w'"):
            records.pack("train", content)


def test_a_number_beyond_64_bits_is_refused() -> None:
    with pytest.raises(BadInput, match="64 bits"):
        records.pack("train", RecordDict({"config": ConfigRecord({"n": 1 << 63})}))


@pytest.mark.parametrize(
    ("message_type", "kind"),
    [
        ("train", StepKind.TRAIN),
        ("train.foo", StepKind.TRAIN),
        ("evaluate.v2_b", StepKind.EVALUATE),
        ("query.x", StepKind.QUERY),
        ("get_parameters", StepKind.QUERY),
        ("get_properties", StepKind.QUERY),
    ],
)
def test_a_message_type_says_what_is_asked(message_type: str, kind: StepKind) -> None:
    assert records.kind_of(message_type) is kind


@pytest.mark.parametrize("message_type", ["", "reconnect", "system", "train.", "train.a.b", "train.1", "trainer"])
def test_another_message_type_is_refused(message_type: str) -> None:
    with pytest.raises(BadInput, match="message type"):
        records.pack(message_type, RecordDict())


def test_node_ids_are_positive_and_stay_the_same() -> None:
    assert records.node_id_of("alpha") == 0x8ED3F6AD685B959E >> 1
    ids = [records.node_id_of(f"partner-{n}") for n in range(1000)]
    assert len(set(ids)) == 1000
    assert all(1 < each < 1 << 63 for each in ids)


ARRAYS = RecordDict({"a": ArrayRecord([np.zeros(2)]), "c": ConfigRecord({"k": 1, "b": b"x"})})
INDEX = records.pack_reply(ARRAYS).groups["reply"].tensors["index"].tobytes()


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{}",
        INDEX + b" ",
        INDEX.replace(b'"type":"",', b'"type":"train",', 1),
        INDEX.replace(b'["0"]', b'["0","1"]'),
        INDEX.replace(b'["0"]', b"[]"),
        INDEX.replace(b'["0"]', b'["0","0"]'),
        INDEX.replace(b'"name":"c"', b'"name":"a"'),
        INDEX.replace(b'"key":"b"', b'"key":"k"'),
        INDEX.replace(b'"int","value":1', b'"int","value":true'),
        INDEX.replace(b'"int","value":1', b'"int","value":9223372036854775808'),
        INDEX.replace(b'"int","value":1', b'"float","value":1'),
        INDEX.replace(b'"int","value":1', b'"str","value":1'),
        INDEX.replace(b'"int","value":1', b'"long","value":1'),
        INDEX.replace(b'"int","value":1', b'"int","value":{}'),
        INDEX.replace(b'"eA=="', b'"eB=="'),
        INDEX.replace(b'"eA=="', b'"eA"'),
        INDEX.replace(b'"tag"', b'"more":1,"tag"').replace(b'{"type":"config"', b'{"more":1,"type":"config"'),
        INDEX.replace(b'"as_bytes":{}', b'"as_bytes":{"0":{"dtype":"","shape":[],"stype":""}}'),
        INDEX.replace(b'"as_bytes":{}', b'"as_bytes":{"9":{"dtype":"","shape":[],"stype":""}}'),
    ],
)
def test_an_index_that_says_anything_else_is_refused(index: bytes) -> None:
    assert index != INDEX
    tensors: dict[str, np.ndarray] = {"index": np.frombuffer(index, np.uint8), "0/0": np.zeros(2)}
    with pytest.raises(BadInput):
        records.unpack_reply(Contribution({"reply": Group(1.0, tensors)}, {}, {}))


def test_an_index_of_a_release_that_knew_fewer_fields_is_read() -> None:
    older = INDEX.replace(b',"as_bytes":{}', b"")
    assert older != INDEX
    tensors: dict[str, np.ndarray] = {"index": np.frombuffer(older, np.uint8), "0/0": np.zeros(2)}
    read = records.unpack_reply(Contribution({"reply": Group(1.0, tensors)}, {}, {}))
    assert _seen(read) == _seen(ARRAYS)


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=300, deadline=None)
def test_bytes_that_were_changed_are_a_named_error_or_other_records(data: st.DataObject) -> None:
    """Whatever a peer sends, nothing but an `AimassError` comes out of the decoder."""
    changed = bytearray(INDEX)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    tensors: dict[str, np.ndarray] = {"index": np.frombuffer(bytes(changed), np.uint8), "0/0": np.zeros(2)}
    with contextlib.suppress(AimassError):
        records.unpack_reply(Contribution({"reply": Group(1.0, tensors)}, {}, {}))


def test_a_metric_record_holds_no_text() -> None:
    index = records.pack_reply(RecordDict({"m": ConfigRecord({"k": "x"})})).groups["reply"].tensors["index"]
    forged = index.tobytes().replace(b'"config"', b'"metrics"')
    with pytest.raises(BadInput, match="does not hold"):
        records.unpack_reply(Contribution({"reply": Group(1.0, {"index": np.frombuffer(forged, np.uint8)})}, {}, {}))


def test_a_reply_is_checked_without_flwr_as_it_is_with_it() -> None:
    content = RecordDict({"a": ArrayRecord([np.zeros(2)]), "m": MetricRecord({"loss": 0.5})})
    reply = records.pack_reply(content)
    records.check_reply(reply)
    heavier = Contribution({"reply": Group(2.0, reply.groups["reply"].tensors)}, {}, {})
    lacking = Contribution({"reply": Group(1.0, {"index": reply.groups["reply"].tensors["index"]})}, {}, {})
    for odd in (heavier, lacking):
        with pytest.raises(BadInput):
            records.check_reply(odd)


def test_the_elements_of_a_record_are_given_as_they_are_and_what_no_sum_takes_is_named() -> None:
    arrays = {"w": np.ones((2, 1), np.float16), "n": np.array(3)}
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    for name, tensor in records.tensors_of(record).items():
        assert (tensor.dtype, tensor.shape, tensor.tolist()) == (
            arrays[name].dtype,
            arrays[name].shape,
            arrays[name].tolist(),
        )
    record["u"] = Array(np.ones(1, np.uint32))
    with pytest.raises(BadInput, match="cannot be added up; got u"):
        records.tensors_of(record)


def test_a_runs_number_is_the_beginning_of_its_id() -> None:
    assert records.run_id_of("8ed3f6ad685b959e" + "0" * 16) == 0x8ED3F6AD685B959E >> 1


def test_a_group_beside_the_reply_is_refused() -> None:
    reply = records.pack_reply(RecordDict())
    more = Contribution({**reply.groups, "update": Group(1.0, {"w": np.zeros(1)})}, {}, {})
    with pytest.raises(BadInput, match="one group"):
        records.unpack_reply(more)


def test_records_that_hold_the_models_arrays_as_well_are_refused() -> None:
    content = RecordDict({"a": ArrayRecord([np.zeros(2)]), "b": ArrayRecord([np.ones(2)])})
    model, rest = (Blob(b"".join(parts)) for parts in records.pack("train", content))
    more = Blob(encode_numpy(rest.arrays() | {"0/0": np.ones(2)}))
    with pytest.raises(BadInput, match="stands among the records"):
        records.unpack(model, more)
