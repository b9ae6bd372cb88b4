"""The versions that the swap bench publishes: the good ones hold, and each bad one is refused where it has to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from scripts.benches import dense_task
from scripts.benches.swap_registry import FAULTY, FAULTY_TASK, Publisher, trust_file
from scripts.benches.swap_schedule import FAULTS, Fault

from aimass.privacy.model_trust import ListedTrust, read_trust
from aimass.proto.errors import AimassError, IntegrityError, Unauthenticated
from aimass.proto.objects import open_objects
from aimass.proto.registry.reader import RegistryReader
from tests.support.installed import see_too


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    dense_task.install(tmp_path / "environment", {FAULTY: FAULTY_TASK})
    see_too(tmp_path / "environment", monkeypatch)
    return Publisher(open_objects(f"file://{tmp_path}/registry"), "dense", Ed25519PrivateKey.generate())


def _reader(publisher: Publisher) -> RegistryReader:
    trust = read_trust(trust_file(publisher.key), "the trust file")
    return RegistryReader(publisher.store, ListedTrust(trust))


def test_a_good_version_holds_to_the_end(publisher: Publisher, tmp_path: Path) -> None:
    number = publisher.good(3)
    publisher.promote(number, "the first")
    found = _reader(publisher).resolve("dense")
    assert found.version.number == number
    assert _reader(publisher).parameters(found.version, tmp_path).is_file()
    assert _reader(publisher).smoke(found.version) is not None


@pytest.mark.parametrize("fault", FAULTS)
def test_who_must_never_be_loaded_is_refused_and_the_rest_read_as_any_other(
    publisher: Publisher, tmp_path: Path, fault: Fault
) -> None:
    publisher.promote(publisher.good(0), "the first")
    number = publisher.bad(fault, 4)
    publisher.promote(number, fault, Ed25519PrivateKey.generate() if fault is Fault.STRANGER else None)
    refusal: type[AimassError] | None = {
        Fault.STRANGER: Unauthenticated, Fault.OTHER_BYTES: IntegrityError, Fault.HALF_FILE: IntegrityError,
    }.get(fault)  # fmt: skip
    reader = _reader(publisher)
    if refusal is None:
        assert reader.parameters(reader.resolve("dense").version, tmp_path).is_file()
        return
    with pytest.raises(refusal):
        reader.parameters(reader.resolve("dense").version, tmp_path)
