"""Differences of models: what comes out is what went in, bit for bit, and nothing else is taken for one."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.difference import BLOCK, decode, encode
from aimass.proto.errors import BadInput
from aimass.proto.storage import map_file
from aimass.proto.tensors import Array, Blob, encode_numpy

TYPES = ("<f8", "<i8", "<f4", "<i4", "<f2", "<i2", "|i1", "|u1")


def between(held: bytes, wanted: bytes) -> bytes:
    return b"".join(encode(Blob(held), Blob(wanted)))


def result(held: bytes, difference: bytes) -> bytes:
    return b"".join(bytes(part) for part in decode(Blob(held), io.BytesIO(difference)))


def plainly(held: bytes, difference: bytes) -> bytes:
    """The format as its module's docstring says it, element by element: the oracle."""
    blob, data = Blob(held), io.BytesIO(difference)
    assert data.read(8) == b"AIMdiff\x01"
    assert int.from_bytes(data.read(8), "little") == len(held)

    def part(size: int) -> bytes:
        kind = data.read(1)[0]
        if kind == 0:
            return bytes(size)
        return data.read(size) if kind == 1 else zlib.decompress(data.read(int.from_bytes(data.read(4), "little")), -15)

    elements: dict[int, list[int]] = {}
    for spec in blob.layout.tensors:
        width, raw = np.dtype(blob.numpy(spec.name).dtype).itemsize, blob.raw(spec.name)
        whole = [int.from_bytes(raw[start : start + width], "little") for start in range(0, len(raw), width)]
        elements.setdefault(width, []).extend(whole)
    out = blob.layout.header
    for width, values in elements.items():
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            if data.read(1) == b"\x01":
                bits = "".join(f"{byte:08b}" for byte in part(-(-len(block) // 8)))
                changed = [place for place in range(len(block)) if bits[place] == "1"]
                planes = [part(len(changed)) for _ in range(width)]
                for rank, place in enumerate(changed):
                    number = sum(plane[rank] << (8 * index) for index, plane in enumerate(planes))
                    step = number // 2 if number % 2 == 0 else -(number + 1) // 2
                    block[place] = (block[place] + step) % (1 << (8 * width))
            out += b"".join(value.to_bytes(width, "little") for value in block)
    assert data.read() == b""
    return out


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two models of the same tensors: any bits, of which some, all or none differ, near or far."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    before: dict[str, Array] = {}
    after: dict[str, Array] = {}
    for index in range(draw(st.integers(0, 4))):
        dtype = np.dtype(draw(st.sampled_from(TYPES)))
        count = draw(st.sampled_from([0, 1, 7, 8, 9, 100, 5_000]))
        old = seed.integers(0, 256, count * dtype.itemsize, np.uint8)
        new = old.copy()
        share = draw(st.sampled_from([0.0, 0.01, 0.5, 1.0]))
        chosen = seed.random(len(old)) < share
        new[chosen] += seed.integers(0, draw(st.sampled_from([2, 256])), np.count_nonzero(chosen)).astype(np.uint8)
        before[f"t{index}"], after[f"t{index}"] = old.view(dtype), new.view(dtype)
    return encode_numpy(before), encode_numpy(after)


@settings(max_examples=150)
@given(pairs())
def test_a_difference_leads_to_the_same_bits_and_says_what_its_format_says(pair: tuple[bytes, bytes]) -> None:
    held, wanted = pair
    difference = between(held, wanted)
    assert result(held, difference) == wanted
    assert plainly(held, difference) == wanted
    assert between(held, wanted) == difference


@pytest.mark.parametrize("values", [[0.0, -0.0], [np.nan, 1.0], [np.inf, -np.inf], [1e-45, -1e-45], [-1.0, 1.0]])
def test_a_float_of_any_kind_turns_into_any_other(values: list[float]) -> None:
    one = encode_numpy({"w": np.array(values, np.float32)})
    other = encode_numpy({"w": np.array(values[::-1], np.float32)})
    assert result(one, between(one, other)) == other


def _trained(share: float, *, seed: int = 1) -> tuple[bytes, bytes]:
    """Weights, and the same after a small step in a share of the coordinates."""
    draw = np.random.default_rng(seed)
    before = draw.normal(0, 0.05, 3 * BLOCK + 5).astype(np.float32)
    step = draw.normal(0, 5e-4, len(before)).astype(np.float32) * (draw.random(len(before)) < share)
    return encode_numpy({"w": before}), encode_numpy({"w": before + step})


def test_a_small_step_everywhere_is_two_thirds_and_one_in_a_tenth_of_the_coordinates_a_tenth() -> None:
    sizes = {share: len(between(*_trained(share))) / len(_trained(share)[1]) for share in (1.0, 0.1, 0.01, 0.0)}
    assert sizes[1.0] < 0.68
    assert sizes[0.1] < 0.085
    assert sizes[0.01] < 0.012
    assert sizes[0.0] < 0.001


def test_what_cannot_be_made_smaller_is_hardly_larger() -> None:
    draw = np.random.default_rng(0)
    held, wanted = (encode_numpy({"w": draw.integers(0, 1 << 32, 100_000, np.uint32).view("<i4")}) for _ in range(2))
    assert len(between(held, wanted)) < 1.001 * len(wanted)


def test_models_of_different_tensors_have_no_difference() -> None:
    one, other = encode_numpy({"w": np.zeros(4, np.float32)}), encode_numpy({"v": np.zeros(4, np.float32)})
    with pytest.raises(BadInput) as caught:
        between(one, other)
    assert caught.value.code == "difference.layout"


def _changed(difference: bytes, place: int, byte: int) -> bytes:
    return difference[:place] + bytes([byte]) + difference[place + 1 :]


def _refusals() -> Iterator[tuple[str, bytes]]:
    """Of a model of eight bytes: what is no difference to it, and why."""
    good = between(SMALL, encode_numpy({"w": np.arange(1, 9, dtype=np.uint8)}))
    yield "version", _changed(good, 0, 0)
    yield "version", _changed(good, 7, 2)
    yield "size", _changed(good, 8, 1)
    yield "block", _changed(good, 16, 2)
    yield "part", _changed(good, 17, 3)
    yield "trailing", good + b"\x00"
    for length in range(len(good)):
        yield "short", good[:length]
    head = good[:17]
    yield "bitmap", head + b"\x00"
    yield "part", head + b"\x02" + (1).to_bytes(4, "little") + b"\xff"


SMALL = encode_numpy({"w": np.arange(8, dtype=np.uint8)})


@pytest.mark.parametrize(("code", "difference"), list(_refusals()))
def test_what_is_no_difference_is_refused_by_name(code: str, difference: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        result(SMALL, difference)
    assert caught.value.code == f"difference.{code}"


def _raw(part: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(part) + deflate.flush()


def _unended(part: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(part) + deflate.flush(zlib.Z_SYNC_FLUSH)


def _with_plane(held: bytes, plane: bytes) -> bytes:
    """The difference that changes all of a model's bytes, its one plane as given."""
    count = len(held) - len(Blob(held).layout.header)
    bitmap = b"\x01" + b"\xff" * (count // 8)
    return b"AIMdiff\x01" + len(held).to_bytes(8, "little") + b"\x01" + bitmap + plane


@pytest.mark.parametrize(
    "short",
    [
        _raw(bytes(1_025)),  # one byte too many
        _raw(bytes(1_023)),  # one too few
        _raw(bytes(100 << 20))[:1_000],  # far too many
        _raw(bytes(1_024)) + b"x",  # something behind
        _raw(bytes(range(256)) * 4)[:-1],  # cut
        _unended(bytes(1_024)),  # whole, and without an end
        b"\xff" * 20,  # no such thing
        b"",
    ],
)
def test_a_part_inflates_to_its_size_or_is_refused_before_it_fills_memory(short: bytes) -> None:
    held = encode_numpy({"w": np.zeros(1_024, np.uint8)})
    tracemalloc.start()
    with pytest.raises(BadInput) as caught:
        result(held, _with_plane(held, b"\x02" + len(short).to_bytes(4, "little") + short))
    assert caught.value.code == "difference.deflate"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_part_may_not_be_longer_than_what_it_stands_for() -> None:
    held = encode_numpy({"w": np.zeros(1_024, np.uint8)})
    with pytest.raises(BadInput) as caught:
        result(held, _with_plane(held, b"\x02" + (1 << 31).to_bytes(4, "little")))
    assert caught.value.code == "difference.part"


def test_a_bitmap_names_no_element_beyond_its_block() -> None:
    held = encode_numpy({"w": np.zeros(4, np.uint8)})
    with pytest.raises(BadInput) as caught:
        result(held, b"AIMdiff\x01" + len(held).to_bytes(8, "little") + b"\x01\x01\xf8")
    assert caught.value.code == "difference.bitmap"


@settings(max_examples=200)
@given(pairs(), st.data())
def test_one_wrong_byte_gives_other_bits_of_the_same_size_or_an_error_with_a_name(
    pair: tuple[bytes, bytes], data: st.DataObject
) -> None:
    held, wanted = pair
    good = between(held, wanted)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = _changed(good, place, good[place] ^ data.draw(st.integers(1, 255)))
    try:
        other = result(held, bad)
    except BadInput as error:
        refused = error.code
    else:
        assert len(other) == len(wanted)
        return
    assert refused.startswith("difference.")


def _peak(held: Path, wanted: Path, folder: Path) -> int:
    """Most bytes that Python held while one model was made of the other through a file."""
    tracemalloc.start()
    with (folder / "difference").open("wb") as out:
        out.writelines(encode(Blob(map_file(held)), Blob(map_file(wanted))))
    with (folder / "difference").open("rb") as difference, (folder / "result").open("wb") as out:
        out.writelines(decode(Blob(map_file(held)), difference))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / "result").read_bytes() == wanted.read_bytes()
    return peak


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    paths = tmp_path / "held", tmp_path / "wanted"
    for path, data in zip(paths, _trained(1.0), strict=True):
        path.write_bytes(data)
    small = _peak(*paths, tmp_path)
    for path, data in zip(paths, _trained(1.0), strict=True):
        path.write_bytes(encode_numpy({f"w{index}": Blob(data).numpy("w") for index in range(8)}))
    assert _peak(*paths, tmp_path) < 1.2 * small
    assert small < 16 * 4 * BLOCK
