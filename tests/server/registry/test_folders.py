"""A version travels as a folder, and is in another registry what it was signed as, or nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound, Unauthenticated
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.values import canonical_json
from aimass.server.registry.folders import export_folder, import_folder, read_folder
from aimass.server.registry.parts import part_of
from tests.support.objects import MemoryObjects
from tests.support.registries import publication_of, publishing, reading, tensors, trusting

OLGA = ListedTrust(trusting("olga"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The second version of a model, with smoke inputs, as a folder."""
    store = MemoryObjects()
    publishing(store).publish(publication_of(tmp_path, seed=1))
    data = canonical_json(SmokeInputs(columns={"age": (40.0,)}, expected=((0.5, 0.5),)))
    plain = publication_of(tmp_path, seed=2)
    version = msgspec.structs.replace(plain.version, smoke=part_of(data))
    found = publishing(store).publish(dataclasses.replace(plain, version=version, reports={part_of(data).digest: data}))
    export_folder(store, reading(store, "olga"), found, tmp_path / "carried")
    return tmp_path / "carried"


def test_it_keeps_its_number_and_its_signature(folder: Path, tmp_path: Path) -> None:
    store = MemoryObjects()
    found = import_folder(store, OLGA, folder)
    assert import_folder(store, OLGA, folder) == found
    reader = reading(store, "olga")
    assert (found.version.number, found.signer, reader.versions("heart")) == (2, "olga", (2,))
    assert reader.parameters(found.version, tmp_path / "cache").read_bytes() == tensors(2)
    assert reader.smoke(found.version) is not None
    assert (folder / "card.md").read_text("utf-8") == found.version.card


def test_after_an_import_the_next_number_follows(folder: Path, tmp_path: Path) -> None:
    store = MemoryObjects()
    import_folder(store, OLGA, folder)
    assert publishing(store).publish(publication_of(tmp_path, seed=7)).version.number == 3


def test_where_another_version_has_its_number_it_can_be_signed_anew(folder: Path, tmp_path: Path) -> None:
    store = MemoryObjects()
    for seed in (8, 9):
        publishing(store).publish(publication_of(tmp_path, seed=seed))
    with pytest.raises(Conflict) as told:
        import_folder(store, OLGA, folder)
    assert told.value.code == "registry.number_taken"
    assert publishing(store).publish(read_folder(OLGA, folder)[0]).version.number == 3


def test_of_a_publisher_who_is_not_believed_nothing_is_taken(folder: Path) -> None:
    store = MemoryObjects()
    with pytest.raises(Unauthenticated):
        import_folder(store, ListedTrust(trusting("petra")), folder)
    assert not list(store.list())


@pytest.mark.parametrize("name", ["version.json", "parameters.safetensors", "reports"])
def test_a_folder_that_was_tampered_with_is_not_taken(folder: Path, name: str) -> None:
    path = next((folder / name).iterdir()) if name == "reports" else folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    store = MemoryObjects()
    with pytest.raises(AimassError):
        import_folder(store, OLGA, folder)
    assert not list(store.list())


def test_no_folder_is_written_over_and_none_is_no_version(folder: Path, tmp_path: Path) -> None:
    store = MemoryObjects()
    found = import_folder(store, OLGA, folder)
    with pytest.raises(BadInput, match="would go"):
        export_folder(store, reading(store, "olga"), found, folder)
    with pytest.raises(NotFound, match="holds no version"):
        read_folder(OLGA, tmp_path)
