"""Whoever may write to the store can hide what is there, and cannot make a reader take anything else for it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.model_trust import FileTrust, signed
from aimass.proto.errors import AimassError, BadInput, IntegrityError, NotFound, Refused, Unauthenticated, Unavailable
from aimass.proto.numbered import Numbered
from aimass.proto.registry.entries import Part
from aimass.proto.registry.layout import alias_prefix, parameters_key, report_key, versions_prefix
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.trust import Kind
from aimass.proto.values import canonical_json
from tests.support.objects import MemoryObjects
from tests.support.registries import PARAMETERS, key_of, put_alias, put_version, reading, trusting, version_of

ONE, TWO = (Numbered(MemoryObjects(), versions_prefix("heart")).key(number) for number in (1, 2))
CHAMPION = Numbered(MemoryObjects(), alias_prefix("heart", "champion")).key(1)


def registry() -> MemoryObjects:
    """Two versions, the first of which is the champion."""
    store = MemoryObjects()
    digest = put_version(store, version_of("heart", 1))
    put_version(store, version_of("heart", 2))
    put_alias(store, "heart", "champion", 1, 1, digest, "olga")
    return store


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def code_of(read: Callable[[], object]) -> str:
    """The code of what is raised, "" where nothing is."""
    try:
        read()
    except AimassError as error:
        return error.code
    return ""


def test_an_unknown_key_is_not_believed() -> None:
    assert code_of(lambda: reading(registry(), "petra").resolve("heart@1")) == "registry.unknown_signer"


def test_who_promotes_is_believed_apart_from_who_publishes() -> None:
    store = MemoryObjects()
    put_alias(store, "heart", "champion", 1, 1, put_version(store, version_of("heart", 1)), "eve")
    assert code_of(lambda: reading(store, "olga").resolve("heart")) == "registry.unknown_signer"
    assert reading(store, "olga").resolve("heart@1").signer == "olga"


def test_a_version_under_another_number_or_name_is_not_believed() -> None:
    store = registry()
    store.put(TWO, store.read(ONE))
    assert code_of(lambda: reading(store, "olga").resolve("heart@2")) == "registry.elsewhere"
    store.put(ONE.replace("heart", "lung"), store.read(ONE))
    assert code_of(lambda: reading(store, "olga").resolve("lung@1")) == "registry.elsewhere"


def test_an_alias_under_another_name_or_number_is_not_believed() -> None:
    store = registry()
    for key in (CHAMPION.replace("champion", "candidate"), CHAMPION.replace("00000001", "00000002")):
        store.put(key, store.read(CHAMPION))
    assert code_of(lambda: reading(store, "olga").resolve("heart@candidate")) == "registry.elsewhere"
    assert code_of(lambda: reading(store, "olga").resolve("heart")) == "registry.elsewhere"


def test_another_version_under_the_number_that_an_alias_names_is_not_believed() -> None:
    store = registry()
    other = msgspec.structs.replace(version_of("heart", 1), licence="another")
    store.put(ONE, signed(key_of("olga"), Kind.VERSION, other))
    assert reading(store, "olga").resolve("heart@1").version == other
    assert code_of(lambda: reading(store, "olga").resolve("heart")) == "registry.elsewhere"


def test_a_signature_under_another_label_does_not_hold() -> None:
    store = registry()
    store.put(ONE, signed(key_of("olga"), Kind.RULES, version_of("heart", 1)))
    assert code_of(lambda: reading(store, "olga").resolve("heart@1")) == "signature.model_version"


def test_a_document_that_is_not_canonical_is_not_believed() -> None:
    store = registry()
    store.put(ONE, store.read(ONE).replace(b'{"document"', b'{ "document"'))
    assert code_of(lambda: reading(store, "olga").resolve("heart@1")) == "value.not_canonical"


@given(st.data())
def test_no_byte_of_a_document_can_be_changed(data: st.DataObject) -> None:
    store = registry()
    whole = bytearray(store.read(key := data.draw(st.sampled_from([ONE, CHAMPION]))))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    store.put(key, bytes(whole))
    with pytest.raises((BadInput, IntegrityError, Unauthenticated)):
        reading(store, "olga").resolve("heart")


@given(st.integers(0, len(PARAMETERS) - 1))
def test_half_a_file_is_never_a_file(size: int) -> None:
    store = registry()
    version = reading(store, "olga").resolve("heart@1").version
    store.put(parameters_key("heart", version.parameters.digest), PARAMETERS[:size])
    with pytest.raises(IntegrityError), _folder() as folder:
        reading(store, "olga").parameters(version, folder)


def test_other_bytes_of_the_same_size_are_not_taken(tmp_path: Path) -> None:
    store = registry()
    version = reading(store, "olga").resolve("heart@1").version
    store.put(parameters_key("heart", version.parameters.digest), PARAMETERS[::-1])
    with pytest.raises(IntegrityError):
        reading(store, "olga").parameters(version, tmp_path)
    assert not (tmp_path / version.parameters.digest).exists()
    store.put(parameters_key("heart", version.parameters.digest), PARAMETERS)
    assert reading(store, "olga").parameters(version, tmp_path).read_bytes() == PARAMETERS


def test_a_fetch_that_was_cut_goes_on(tmp_path: Path) -> None:
    store = registry()
    version = reading(store, "olga").resolve("heart@1").version
    store.cut_at = [10]
    with pytest.raises(AimassError):
        reading(store, "olga").parameters(version, tmp_path)
    assert reading(store, "olga").parameters(version, tmp_path).read_bytes() == PARAMETERS


def test_a_report_with_other_bytes_is_not_taken() -> None:
    store = registry()
    part = Part(digest="a" * 64, bytes=3)
    store.put(report_key("heart", part.digest), b"abc")
    version = reading(store, "olga").resolve("heart@1").version
    assert code_of(lambda: reading(store, "olga").report(version, part)) == "registry.report"


def test_parameters_that_were_collected_are_told_as_such(tmp_path: Path) -> None:
    store = registry()
    version = reading(store, "olga").resolve("heart@1").version
    store.delete(parameters_key("heart", version.parameters.digest))
    assert code_of(lambda: reading(store, "olga").parameters(version, tmp_path)) == "registry.collected"


def test_a_trust_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    reader = RegistryReader(registry(), FileTrust(path))
    with pytest.raises(NotFound, match="no trust file"):
        reader.resolve("heart")
    path.write_bytes(canonical_json(trusting("olga")))
    assert reader.resolve("heart").version.number == 1
    path.write_bytes(canonical_json(trusting("petra")))
    assert code_of(lambda: reader.resolve("heart")) == "registry.unknown_signer"
    path.write_bytes(b"{half a file")
    assert code_of(lambda: reader.resolve("heart")) == "value.invalid"


def test_a_trust_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trust.json"
    path.mkdir()
    reader = RegistryReader(registry(), FileTrust(path))
    with pytest.raises(BadInput, match=r"Is a directory.*Name a file"):
        reader.resolve("heart")
    for number, kind in ((errno.EACCES, Refused), (errno.EIO, Unavailable), (errno.ESTALE, Unavailable)):

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "open", fail)
        with pytest.raises(kind, match=os.strerror(number)) as caught:
            reader.resolve("heart")
        assert caught.value.code == "registry.trust_unreadable"


def test_a_trust_file_that_everybody_can_write_to_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(canonical_json(trusting("olga")))
    reader = RegistryReader(registry(), FileTrust(path))
    path.chmod(0o666)
    assert code_of(lambda: reader.resolve("heart")) == "registry.trust_writable"
    path.chmod(0o644)
    assert reader.resolve("heart").version.number == 1
