"""Bases by digest, and tasks that build on them."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aimass.client.tasks.heart import Heart
from aimass.proto.bases import Base, BaseFolder, HeldBase, base_in, check_planned
from aimass.proto.errors import BadInput, Conflict, IntegrityError, NotFound, Refused
from aimass.proto.frozen import freeze
from aimass.proto.storage import map_file
from aimass.proto.task import first_model, load, load_parameters, locate
from aimass.proto.tensors import Blob, encode_torch, read_arrays
from tests.support import based
from tests.support.bases import base_file, based_task, install_based, layer
from tests.support.installed import see_too


def test_whoever_adds_the_same_tensors_has_the_same_base_whatever_wrote_the_file(tmp_path: Path) -> None:
    tensors = layer().state_dict()
    ordered = {name: tensors[name].numpy() for name in sorted(tensors, reverse=True)}
    canonical, foreign = tmp_path / "canonical", tmp_path / "foreign"
    canonical.write_bytes(encode_torch(tensors))
    foreign.write_bytes(foreign_file(ordered))
    folder = BaseFolder(tmp_path / "bases")
    first, second = folder.add("first", canonical), folder.add("second", foreign)
    assert first.digest == second.digest == Blob(canonical.read_bytes()).digest
    assert first.bytes == canonical.stat().st_size
    np.testing.assert_array_equal(folder.open(second).numpy("weight"), tensors["weight"].numpy())


def foreign_file(arrays: dict[str, np.ndarray]) -> bytes:
    """As other programs write it: metadata, an order of their own, no padding."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        at = [len(data), len(data) + array.nbytes]
        header[name] = {"data_offsets": at, "dtype": "F32", "shape": list(array.shape)}  # type: ignore[dict-item]
        data += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (40).to_bytes(8, "little") + b"{}",
        foreign_file({"a": np.zeros(4, np.float32)})[:-1],
        foreign_file({"a": np.zeros(4, np.float32)}).replace(b'"F32"', b'"F99"'),
        foreign_file({"a": np.zeros(4, np.float32)}).replace(b"[4]", b"[5]"),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(bad: bytes) -> None:
    with pytest.raises(BadInput):
        read_arrays(bad)


def test_what_is_added_as_a_base_and_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no weights")
    with pytest.raises(BadInput, match="no safetensors file") as caught:
        BaseFolder(tmp_path / "bases").add("notes", file)
    assert str(file) in str(caught.value)
    assert not list(BaseFolder(tmp_path / "bases").all())


def test_a_base_that_is_absent_another_or_changed_is_refused_by_name(tmp_path: Path) -> None:
    folder = BaseFolder(tmp_path)
    base = folder.add("encoder", base_file(tmp_path / "file"))
    folder.require(base)
    with pytest.raises(NotFound, match="unheard") as absent:
        folder.open(Base(name="unheard", digest="0" * 64, bytes=8))
    assert (absent.value.code, absent.value.limit) == ("base.absent", f"encoder {base.digest[:16]}")
    with pytest.raises(Conflict, match="encoder") as other:
        folder.open(Base(name="encoder", digest="0" * 64, bytes=8))
    assert other.value.code == "base.other"
    path = tmp_path / base.digest[:2] / base.digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        BaseFolder(tmp_path).open(base)
    with pytest.raises(IntegrityError, match="base encoder"):
        HeldBase(base, map_file(path))


def test_a_base_is_found_by_name_or_by_the_first_digits_of_its_digest_and_removed(tmp_path: Path) -> None:
    folder = BaseFolder(tmp_path)
    small = folder.add("encoder", base_file(tmp_path / "one"))
    large = folder.add("encoder", base_file(tmp_path / "two", seed=2))
    assert folder.find(small.digest[:8]) == small
    with pytest.raises(Conflict, match="several"):
        folder.find("encoder")
    folder.remove(small)
    assert list(folder.all()) == [folder.find("encoder")] == [large]
    with pytest.raises(NotFound):
        folder.open(Base(name="unheard", digest=small.digest, bytes=small.bytes))


def test_the_parameters_of_a_run_are_what_a_model_has_beside_its_base(tmp_path: Path) -> None:
    task, base = based_task(tmp_path)
    model = task.build().eval()
    start = Blob(first_model(task, seed=1))
    trained = {"output.weight", "output.bias"}
    assert {name for name, _ in model.named_parameters()} == trained
    assert {name for name in start.layout.by_name if not name.startswith("preprocess.")} == trained
    load_parameters(model, start)
    numbers, categories = torch.randn(3, 6, dtype=torch.float64), torch.zeros(3, 7, dtype=torch.int64)
    features = model.get_submodule("preprocess")(numbers, categories)
    below = torch.relu(torch.nn.functional.linear(features, base.torch("weight"), base.torch("bias")))
    expected = torch.nn.functional.linear(below, start.torch("output.weight"), start.torch("output.bias"))
    torch.testing.assert_close(model(numbers, categories), expected)


def test_a_base_is_used_where_it_is_mapped_and_not_copied(tmp_path: Path) -> None:
    task, base = based_task(tmp_path)
    model = task.build()
    frozen = dict(model.named_buffers())["hidden.weight"]
    assert frozen.data_ptr() == base.torch("weight").data_ptr()
    assert not frozen.requires_grad


def test_a_task_whose_base_is_not_here_can_be_asked_for_its_schema_and_not_for_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path))
    assert based.task.schema.name == "heart/1"
    with pytest.raises(NotFound, match="is not here"):
        based.task.build()
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput):
        Heart().base_blob()
    none = Blob(encode_torch({}))
    with pytest.raises(Conflict):
        based.task.on(HeldBase(Base(name="x", digest=none.digest, bytes=len(none.data)), none.data)).build()


def test_a_task_that_is_located_tells_its_base_without_being_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_based(tmp_path)
    see_too(tmp_path, monkeypatch)
    source = locate("based")
    assert source.base == base_in(source.folder) == based.task.base
    assert source.base is not None
    assert Blob(base_file(tmp_path / "file").read_bytes()).digest == source.base.digest
    assert "based" not in sys.modules
    try:
        assert load(source).base == source.base
        with pytest.raises(BadInput, match=r"base\.toml"):
            load(dataclasses.replace(source, base=None))
    finally:
        del sys.modules["based"]


def test_a_plan_with_another_base_than_its_task_is_refused() -> None:
    base = Base(name="x", digest="0" * 64, bytes=8)
    check_planned(base, base)
    check_planned(None, None)
    for planned, named in ((base, None), (None, base), (base, Base(name="x", digest="1" * 64, bytes=8))):
        with pytest.raises(Refused) as caught:
            check_planned(planned, named)
        assert caught.value.code == "task.base"


def test_what_is_made_to_be_filled_takes_no_memory_and_loads_no_compiler() -> None:
    code = """
import sys, torch
from aimass.proto.frozen import unmade
with unmade():
    made = torch.nn.Sequential(torch.nn.Embedding(1 << 30, 1 << 10), torch.nn.Linear(4, 4), torch.nn.Conv1d(4, 4, 3))
assert all(parameter.is_meta for parameter in made.parameters())
assert not torch.nn.Linear(4, 4).weight.is_meta
assert torch.nn.Linear(4, 4).weight.any()
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_base_of_another_module_is_refused_by_the_tensors_that_differ() -> None:
    with pytest.raises(BadInput, match="bias") as caught:
        freeze(torch.nn.Linear(2, 2), Blob(encode_torch({"weight": torch.zeros(2, 2)})))
    assert caught.value.code == "base.tensors"
